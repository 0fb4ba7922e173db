package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sampan/internal/oci"
)

// A Local is an archive or a layout on this machine's disk that is an endpoint. The zero
// value is none.
type Local struct {
	// Path is absolute: the directory of a layout, or the file of an archive, which may
	// be in volumes.
	Path string
	// Layout tells that it was written oci:DIR, and not archive:FILE.
	Layout bool
	// Repository is that of images of which it tells no more than a tag. Zero (the
	// default): nobody finds them.
	Repository oci.Repository
}

// How the two kinds are written.
const (
	layoutPrefix  = "oci:"
	archivePrefix = "archive:"
)

// IsZero tells whether l is none.
func (l Local) IsZero() bool { return l.Path == "" }

// String is what the file has as the url.
func (l Local) String() string {
	if l.Layout {
		return layoutPrefix + l.Path
	}
	return archivePrefix + l.Path
}

// Locals are the endpoints on this machine's disk, which are asked first.
func (u Upstream) Locals() []Endpoint {
	return slices.DeleteFunc(slices.Clone(u.Endpoints), func(e Endpoint) bool { return e.Local.IsZero() })
}

// Network are the endpoints that have an URL; none where only files are served.
func (u Upstream) Network() []Endpoint {
	return slices.DeleteFunc(slices.Clone(u.Endpoints), func(e Endpoint) bool { return !e.Local.IsZero() })
}

// parseEndpoint reads the URL of a registry's API, or what is on the disk.
func parseEndpoint(s string) (Endpoint, *complaint) {
	l, written, c := parseLocal(s)
	if written {
		return Endpoint{Local: l}, c
	}
	u, c := parseURL(s)
	if c != nil {
		c = complainf(msgBadEndpoint, redactURL(s))
	}
	return Endpoint{URL: u}, c
}

// parseLocal reads oci:DIR or archive:FILE; false for what is neither. A relative path
// is one of the working directory, like those of other files. It has to be there: what
// goes away later is an upstream that gives no answer, what is not there now is a
// mistake.
func parseLocal(s string) (l Local, written bool, _ *complaint) {
	path, layout := strings.CutPrefix(s, layoutPrefix)
	if !layout {
		var archive bool
		if path, archive = strings.CutPrefix(s, archivePrefix); !archive {
			return Local{}, false, nil
		}
	}
	if path == "" {
		return Local{}, true, complainf(msgBadLocal, s)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Local{}, true, complainf(msgUnreadable, err)
	}
	l = Local{Path: abs, Layout: layout}
	check := checkArchive
	if layout {
		check = checkLayout
	}
	c := check(abs)
	if c != nil {
		c.onDisk = true
	}
	return l, true, c
}

// endpoint reads one, and looks on the disk only for who serves from there.
func (l *loader) endpoint(s string) (Endpoint, *complaint) {
	e, c := parseEndpoint(s)
	if c != nil && c.onDisk && l.bystander {
		return e, nil
	}
	return e, c
}

// checkLayout looks for what marks a layout.
func checkLayout(dir string) *complaint {
	info, err := os.Stat(dir)
	if err != nil {
		return complainf(msgUnreadable, err)
	}
	for _, name := range []string{"oci-layout", "index.json"} {
		err = errors.Join(err, readable(filepath.Join(dir, name)))
	}
	if !info.IsDir() || errors.Is(err, fs.ErrNotExist) {
		return complainf(msgNoLayout, dir)
	}
	if err != nil {
		return complainf(msgUnreadable, err)
	}
	return nil
}

// checkArchive looks for a file, or for the first of its volumes, that begins like an
// archive. Whether it is a whole one is seen when it is read.
func checkArchive(name string) *complaint {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return complainf(msgNotArchive, name)
	}
	begin, err := beginning(name)
	if errors.Is(err, fs.ErrNotExist) {
		if first, missing := beginning(name + ".001"); missing == nil {
			begin, err = first, nil
		}
	}
	switch {
	case err != nil:
		return complainf(msgUnreadable, err)
	case !beginsArchive(begin):
		return complainf(msgNoArchive, name)
	default:
		return nil
	}
}

// beginsArchive tells whether bytes are the first ones of a tar, or of what gzip or zstd
// make.
func beginsArchive(b []byte) bool {
	const magicAt = 257 // of a tar
	return bytes.HasPrefix(b, []byte("\x1f\x8b")) || bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) ||
		len(b) > magicAt && bytes.HasPrefix(b[magicAt:], []byte("ustar"))
}

// beginning reads what a file begins with.
func beginning(name string) ([]byte, error) {
	if err := readable(name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 512))
}

// readable tells why a regular file cannot be opened. Nothing else is: a pipe would
// wait for whoever writes.
func readable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", name, errNotRegular)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

var errNotRegular = errors.New("not a regular file")

// readRepository reads the repository of an endpoint on the disk.
func (d *decoder) readRepository(r oci.Registry, to *oci.Repository) func(node) {
	return func(n node) {
		path, _, ok := d.scalar(n)
		if !ok {
			return
		}
		if r == oci.DockerHub && !strings.Contains(path, "/") {
			path = "library/" + path
		}
		repo, err := r.Repository(path)
		if err != nil {
			d.complain(n.at, complainf(msgBadRepository, path))
			return
		}
		*to = repo
	}
}

// checkLocals refuses credentials where there is nobody to send them to.
func (l *loader) checkLocals(e *entry) {
	asks := e.PassesThrough() || len(e.AllAccounts()) > 0 ||
		slices.ContainsFunc(e.Repositories, func(r RepositoryRule) bool { return len(r.Access.Accounts) > 0 })
	if asks && len(e.Network()) == 0 && len(e.Endpoints) > 0 {
		l.complain(e.at, complainf(msgNobodyToAsk))
	}
}
