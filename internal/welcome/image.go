package welcome

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// An image is what was pasted, understood.
type image struct {
	Reference oci.Reference // at its registry
	Written   oci.Reference // as clients without a mirror would have it, before aliases
	Path      string        // its name at this mirror in path style; empty for none
	Host      string        // the same in host style; empty for none
	Reversed  bool          // what was pasted is a name at this mirror
	Alias     bool          // an alias applied
	State     State         // of its registry; empty where nothing may be told
}

// Name is the name at this mirror that works everywhere.
func (i *image) Name() string {
	if i.Path != "" {
		return i.Path
	}
	return i.Host
}

// Original is the name that a person would write.
func (i *image) Original() string { return familiar(i.Written) }

// A problem is why there is no answer, told in either language.
type problem struct {
	Key      string
	Args     []any
	Meant    string // a name that would work; empty for none
	Registry string // that could be allowed; empty for none

	status int
}

// find understands what was pasted.
func (p *Page) find(at place, input string) (*image, *problem) {
	name := pasted(input)
	if at.code != "" { // a name at this mirror, as this visitor writes it
		name = strings.TrimPrefix(name, at.code)
	}
	written, err := oci.ParseReference(name)
	if err != nil {
		return nil, badName(name, err)
	}
	i := &image{Written: written}
	if written.Repository.Registry().String() == at.base {
		i.Reversed = true
		i.Reference = written
		i.Reference.Repository, err = p.o.Names.Repository(mirror.Address{Host: at.base, Path: written.Repository.Path()})
	} else {
		var m mirror.Meeting
		_, port, _ := net.SplitHostPort(at.base) // none is none
		m, err = p.o.Names.Explain(name, port)
		i.Reference, i.Alias = m.Reference, m.Alias != ""
		i.Reversed = err == nil && m.Way != mirror.WayName
	}
	if err != nil {
		return nil, p.notServed(written, err)
	}
	if i.Reversed {
		i.Written = i.Reference
	}
	i.Path = p.name(at, i.Reference, mirror.PathStyle)
	if p.o.Domain != "" && at.code == "" {
		i.Host = p.name(at, i.Reference, mirror.HostStyle)
	}
	if i.Name() == "" {
		return nil, &problem{Key: "bad.unnameable", Args: []any{i.Reference.Repository.Registry().String()}, status: http.StatusBadRequest}
	}
	return i, nil
}

// name is that of ref at this mirror; empty when there is none of that style.
func (p *Page) name(at place, ref oci.Reference, style mirror.Style) string {
	name, err := p.o.Names.Name(ref, style, at.base)
	if err != nil {
		return ""
	}
	return at.shown(name)
}

// badName says what is wrong with a name that does not parse.
func badName(name string, err error) *problem {
	b := &problem{Key: "bad.name", Args: []any{clip(name)}, status: http.StatusBadRequest}
	var e *oci.Error
	if errors.As(err, &e) {
		switch e.Code {
		case oci.CodeTagInvalid:
			b.Key = "bad.tag"
		case oci.CodeDigestInvalid:
			b.Key = "bad.digest"
		}
	}
	repository, rest := name, ""
	if end := strings.IndexAny(name[strings.LastIndexByte(name, '/')+1:], ":@"); end >= 0 {
		end += strings.LastIndexByte(name, '/') + 1
		repository, rest = name[:end], name[end:] // tags may have capitals
	}
	if lower := strings.ToLower(repository) + rest; lower != name {
		if _, err := oci.ParseReference(lower); err == nil {
			b.Key, b.Meant = "bad.case", lower
		}
	}
	return b
}

// notServed says why a name that parses leads nowhere.
func (p *Page) notServed(written oci.Reference, err error) *problem {
	registry := written.Repository.Registry().String()
	var e *oci.Error
	if !errors.As(err, &e) || e.Code != oci.CodeDenied {
		return badName(written.String(), err)
	}
	host, _, _ := strings.Cut(registry, ":")
	if p.o.Domain != "" && strings.HasSuffix(host, "."+p.o.Domain) {
		return &problem{Key: "bad.host", Args: []any{registry}, status: http.StatusNotFound}
	}
	return &problem{Key: "bad.registry", Args: []any{registry}, Registry: registry, status: http.StatusNotFound}
}

// familiar leaves out what Docker's clients add by themselves.
func familiar(ref oci.Reference) string {
	s := ref.String()
	if rest, ok := strings.CutPrefix(s, oci.DockerHub.String()+"/"); ok {
		return strings.TrimPrefix(rest, "library/")
	}
	return s
}

// clip shortens what somebody pasted.
func clip(s string) string {
	const most = 200
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
