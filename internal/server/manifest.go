package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sampan/internal/oci"
)

func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request, repo oci.Repository, req request) error {
	ctx := r.Context()
	digest := req.digest
	if digest.IsZero() {
		desc, err := s.o.Reader.ResolveTag(ctx, repo, req.tag)
		if err != nil {
			return err
		}
		if unchanged(w, r, desc) {
			return nil
		}
		if r.Method == http.MethodHead && desc.MediaType != "" {
			return writeManifest(w, r, oci.Manifest{Descriptor: desc})
		}
		digest = desc.Digest
	}
	m, err := s.o.Reader.Manifest(ctx, repo, digest)
	if err != nil {
		return err
	}
	if unchanged(w, r, m.Descriptor) {
		return nil
	}
	if p, ok := s.o.Reader.(prefetcher); ok && r.Method == http.MethodGet && req.visit.MayFetch() {
		p.Prefetch(repo, m)
	}
	return writeManifest(w, r, m)
}

// A prefetcher is a Reader that wants to know which manifests clients get, to
// have ready what they will ask for next. It returns at once.
type prefetcher interface {
	Prefetch(repo oci.Repository, m oci.Manifest)
}

// unchanged answers 304 when the client has the digest already.
func unchanged(w http.ResponseWriter, r *http.Request, desc oci.Descriptor) bool {
	tag := etag(desc.Digest)
	for candidate := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(candidate), "W/") == tag {
			w.Header().Set("Etag", tag)
			w.Header().Set("Docker-Content-Digest", desc.Digest.String())
			warn(w, r)
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

func etag(d oci.Digest) string { return `"` + d.String() + `"` }

// warn marks an answer that may be out of date (RFC 7234, "Warning").
func warn(w http.ResponseWriter, r *http.Request) {
	if stale := oci.TraceFrom(r.Context()).Stale; stale != "" {
		w.Header().Set("Warning", "299 - "+strconv.Quote(stale))
	}
}

func writeManifest(w http.ResponseWriter, r *http.Request, m oci.Manifest) error {
	h := w.Header()
	h.Set("Content-Type", m.Descriptor.MediaType)
	h.Set("Docker-Content-Digest", m.Descriptor.Digest.String())
	h.Set("Etag", etag(m.Descriptor.Digest))
	h.Set("Content-Length", strconv.FormatInt(m.Descriptor.Size, 10))
	setCacheControl(w, r, "")
	warn(w, r)
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, _ = w.Write(m.Bytes) // the client may have left
	return nil
}

// writeBody writes a small generated document.
func writeBody(w http.ResponseWriter, r *http.Request, contentType string, body []byte) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	setCacheControl(w, r, "")
	warn(w, r)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have left
	}
	return nil
}

func (s *Server) serveTags(w http.ResponseWriter, r *http.Request, repo oci.Repository, req request) error {
	query := r.URL.Query()
	n := -1
	if q := query.Get("n"); q != "" {
		var err error
		if n, err = strconv.Atoi(q); err != nil || n < 0 {
			return oci.Errorf(oci.CodeSizeInvalid, "n is the number of tags wanted: it must be a whole number from 0")
		}
	}
	all, err := s.o.Reader.Tags(r.Context(), repo)
	if err != nil {
		return err
	}
	page, more := pageOf(all, query.Get("last"), n)
	if more {
		w.Header().Set("Link", nextLink(r.URL, n, page[len(page)-1]))
	}
	body, err := json.Marshal(struct {
		Name string    `json:"name"`
		Tags []oci.Tag `json:"tags"`
	}{req.address.Path, page})
	if err != nil {
		return fmt.Errorf("tags of %s: %w", repo, err)
	}
	return writeBody(w, r, "application/json", body)
}

// pageOf returns at most n tags (all for n < 0) behind last, and whether there
// are more. It is never nil. No page follows an empty one.
func pageOf(all []oci.Tag, last string, n int) (page []oci.Tag, more bool) {
	if last != "" {
		i, found := slices.BinarySearchFunc(all, last, func(t oci.Tag, last string) int { return strings.Compare(t.String(), last) })
		if found {
			i++
		}
		all = all[i:]
	}
	if n < 0 || n >= len(all) {
		return append([]oci.Tag{}, all...), false
	}
	return append([]oci.Tag{}, all[:n]...), n > 0
}

// nextLink points to the next page at this mirror, in the client's own words.
func nextLink(u *url.URL, n int, last oci.Tag) string {
	q := u.Query()
	q.Set("n", strconv.Itoa(n))
	q.Set("last", last.String())
	next := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: q.Encode()}
	return "<" + next.String() + `>; rel="next"`
}

func (s *Server) serveReferrers(w http.ResponseWriter, r *http.Request, repo oci.Repository, req request) error {
	all, err := s.o.Reader.Referrers(r.Context(), repo, req.digest)
	if err != nil {
		return err
	}
	found := append([]oci.Descriptor{}, all...)
	if want := r.URL.Query().Get("artifactType"); want != "" {
		found = slices.DeleteFunc(found, func(d oci.Descriptor) bool { return d.ArtifactType != want })
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	body, err := json.Marshal(struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Manifests     []oci.Descriptor `json:"manifests"`
	}{2, oci.MediaTypeImageIndex, found})
	if err != nil {
		return fmt.Errorf("referrers of %s@%s: %w", repo, req.digest, err)
	}
	return writeBody(w, r, oci.MediaTypeImageIndex, body)
}
