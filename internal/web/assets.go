package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Assets are files that pages need beside themselves. Each has a name with a hash
// of its content, so that browsers may keep it for ever.
type Assets struct {
	prefix string
	byName map[string]*asset // "base.css"
	byPath map[string]*asset // "base.0123456789ab.css"
}

type asset struct {
	path        string // below the prefix
	contentType string
	content     []byte
}

// NewAssets reads all files of the given file systems. The prefix is the path that
// they are served below, with slashes at both ends. Two files of one name, and a
// file whose type is not known, are errors.
func NewAssets(prefix string, systems ...fs.FS) (*Assets, error) {
	if !strings.HasPrefix(prefix, "/") || !strings.HasSuffix(prefix, "/") {
		return nil, fmt.Errorf("web: prefix %q needs a slash at both ends", prefix)
	}
	a := &Assets{prefix: prefix, byName: map[string]*asset{}, byPath: map[string]*asset{}}
	for _, system := range systems {
		err := fs.WalkDir(system, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			return a.add(system, name)
		})
		if err != nil {
			return nil, fmt.Errorf("web: assets: %w", err)
		}
	}
	return a, nil
}

func (a *Assets) add(system fs.FS, name string) error {
	content, err := fs.ReadFile(system, name)
	if err != nil {
		return err
	}
	base, ext := path.Base(name), path.Ext(name)
	kind := contentType(ext)
	if kind == "" {
		return errors.New(name + ": its type is not known")
	}
	if a.byName[base] != nil {
		return errors.New(base + " is there twice")
	}
	const digits = 12
	sum := sha256.Sum256(content)
	file := &asset{
		path:        strings.TrimSuffix(base, ext) + "." + hex.EncodeToString(sum[:])[:digits] + ext,
		contentType: kind, content: content,
	}
	a.byName[base], a.byPath[file.path] = file, file
	return nil
}

// contentType is said here and not by the machine's own table of types.
func contentType(ext string) string {
	switch ext {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return ""
	}
}

// Path is the address of a file: "/-/base.0123456789ab.css" for "base.css".
func (a *Assets) Path(name string) (string, error) {
	file := a.byName[name]
	if file == nil {
		return "", fmt.Errorf("web: there is no asset %q", name)
	}
	return a.prefix + file.path, nil
}

// ServeHTTP implements [http.Handler] for GET and HEAD below the prefix. What is not
// there, such as a file of another version, is answered with 404.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	Secure(h)
	name, below := strings.CutPrefix(r.URL.Path, a.prefix)
	file := a.byPath[name]
	switch {
	case !below || file == nil:
		h.Set("Cache-Control", "no-store")
		http.Error(w, "404 not found", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", file.contentType)
	h.Set("Content-Length", strconv.Itoa(len(file.content)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(file.content) // the client may have left
	}
}
