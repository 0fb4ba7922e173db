// Package client is what the tools on a person's machine know of the mirror they
// use: its address, how names are written at it, whom to trust and who to be.
//
// That comes from flags, from SAMPAN_* variables, and from a small file of the
// person's own, in this order; nothing has to be written anywhere. A [Mirror] that
// Load returns is valid, and translates names in both directions without asking
// anybody.
//
// The package opens no connection and changes nothing. It reads the person's file and
// the files with secrets and certificates that are named there.
package client

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// DefaultAddress is the mirror of somebody who says nothing: `sampan serve` on the
// same machine.
const DefaultAddress = "localhost:5000"

// A Mirror is the one that a person uses.
type Mirror struct {
	// Address is the host with its port, if any, that names at the mirror begin with.
	// An access code is not part of it.
	Address string
	// PlainHTTP: it is reached without TLS, as loopback addresses are.
	PlainHTTP bool
	// Assumed: nobody named a mirror, and this is [DefaultAddress].
	Assumed bool
	Style   mirror.Style

	// CA are certificates, PEM, of whom the mirror's certificate may be signed by;
	// nil means the system's.
	CA []byte
	// Username and Password are the person's login at the mirror; empty for none.
	Username, Password string
	// Code is the person's access code; empty for none.
	Code string

	names *mirror.Names
}

// URL is the mirror's address with its scheme, and the access code where there is
// one: what runtimes are configured with.
func (m *Mirror) URL() string {
	if m.PlainHTTP {
		return "http://" + m.Host()
	}
	return "https://" + m.Host()
}

// Host is the mirror's host with its port, and the access code in front where there
// is one.
func (m *Mirror) Host() string { return m.withCode(m.Address) }

func (m *Mirror) withCode(name string) string {
	if m.Code == "" {
		return name
	}
	return m.Code + "." + name
}

// Registries returns the registries that the mirror is known to serve, and other names
// of those that images are written with, such as k8s.gcr.io; by name. What is only the
// address of one, as registry-1.docker.io is, is not among them.
func (m *Mirror) Registries() []oci.Registry {
	return slices.DeleteFunc(m.names.Spelled(), func(r oci.Registry) bool {
		return strings.HasSuffix(r.String(), "."+oci.DockerHub.String())
	})
}

// Name returns the name of an image at this mirror, in its style, with tag and digest
// as they are in ref: see [mirror.Names.Name]. One that already is at this mirror
// stays as it is.
func (m *Mirror) Name(ref oci.Reference) (string, error) { return m.NameIn(ref, m.Style) }

// NameIn is [Mirror.Name] in a style.
func (m *Mirror) NameIn(ref oci.Reference, style mirror.Style) (string, error) {
	if m.Has(ref) {
		return ref.String(), nil
	}
	name, err := m.names.Name(ref, style, m.Address)
	if err != nil {
		return "", err
	}
	return m.withCode(name), nil
}

// Has tells whether a name is one at this mirror, with or without the access code.
func (m *Mirror) Has(ref oci.Reference) bool {
	_, err := m.Original(ref.String())
	return err == nil
}

// Original returns what a name at this mirror stands for, as
// [mirror.Names.Original] does. A registry by its own name is not at the mirror.
func (m *Mirror) Original(name string) (oci.Reference, error) {
	if m.Code != "" {
		name = strings.TrimPrefix(name, m.Code+".")
	}
	return m.names.Original(name, m.Address)
}

// Familiar is an image's name as people write it: without docker.io and library/.
// Nothing is added to it or taken away otherwise.
func Familiar(ref oci.Reference) string {
	name := ref.String()
	rest, hub := strings.CutPrefix(name, oci.DockerHub.String()+"/")
	if !hub {
		return name
	}
	short := strings.TrimPrefix(rest, "library/")
	if back, err := oci.ParseReference(short); err != nil || back.Repository != ref.Repository {
		return name // "docker.io/library/localhost/x" is no "localhost/x"
	}
	return short
}

// ErrAddress is what [errors.Is] finds in errors about the mirror's address.
var ErrAddress = errors.New("no address of a mirror")

// parseAddress reads "mirror.example.com", "localhost:5000" or a URL of either. Where
// no scheme is given, a loopback address means plain HTTP and any other means TLS.
func parseAddress(s string) (address string, plain bool, err error) {
	address, scheme := s, ""
	if before, after, ok := strings.Cut(s, "://"); ok {
		scheme, address = strings.ToLower(before), strings.TrimSuffix(after, "/")
	}
	address = strings.ToLower(address)
	if _, err := oci.ParseRegistry(address); err != nil {
		return "", false, fmt.Errorf("%w: %q", ErrAddress, s)
	}
	host, port := address, ""
	if h, p, err := net.SplitHostPort(address); err == nil {
		host, port = h, p
	}
	switch scheme {
	case "":
		plain = oci.Loopback(host)
	case "http", "https":
		plain = scheme == "http"
	default:
		return "", false, fmt.Errorf("%w: %q", ErrAddress, s)
	}
	if port == "" && host != "localhost" && !strings.ContainsAny(host, ".:") {
		return "", false, fmt.Errorf("%w: %q", ErrAddress, s) // clients would look for it on Docker Hub
	}
	return address, plain, nil
}
