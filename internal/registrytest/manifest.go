package registrytest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sampan/internal/oci"
)

// findManifest returns what a manifest request names, or nil.
func (r *Registry) findManifest(st *state, t target) *blob {
	if m := r.content.manifest(t.repo, t.ref); m != nil {
		return m
	}
	if !st.NoReferrers {
		return nil
	}
	// The tag schema: "<algorithm>-<hex>" is an index of the referrers.
	algorithm, hex, ok := strings.Cut(t.ref, "-")
	d, err := oci.ParseDigest(algorithm + ":" + hex)
	if !ok || err != nil {
		return nil
	}
	if found := r.referrers(t.repo, d, ""); len(found) > 0 {
		return literal(oci.MediaTypeImageIndex, encodeIndex(found))
	}
	return nil
}

func (r *Registry) serveManifest(w *recorder, req *http.Request, st *state, t target, m *blob, f *Fault) {
	form := st.Manifest
	if limited := r.limit(w, req, st); limited {
		return
	}
	if m == nil {
		code := oci.CodeManifestUnknown
		if !r.content.hasRepo(t.repo) {
			code = oci.CodeNameUnknown
		}
		st.Missing.write(w, code, "manifest unknown")
		return
	}
	sent := m.sent
	if form.Schema1 && !accepts(req, m.desc.MediaType) {
		m = schema1(t, m)
	}
	h := w.Header()
	switch {
	case form.NoDigest, form.NoDigestOnHead && req.Method == http.MethodHead:
	case form.WrongDigest:
		h.Set("Docker-Content-Digest", oci.DigestOf([]byte("something else")).String())
	default:
		h.Set("Docker-Content-Digest", m.desc.Digest.String())
	}
	mediaType := m.desc.MediaType
	if form.ContentType != "" {
		mediaType = form.ContentType
	}
	h.Set("Content-Type", mediaType+form.ContentTypeSuffix)
	if form.NoContentType {
		h["Content-Type"] = nil // an absent key would be guessed
	}
	if form.CacheControl != "" {
		h.Set("Cache-Control", form.CacheControl)
	}
	size := m.desc.Size
	if form.PadTo > size {
		m = literal(mediaType, append(slices.Clip(m.data), bytes.Repeat([]byte(" "), int(form.PadTo-size))...))
		size = form.PadTo
	}
	b := body{src: m.src, size: size, sent: sent, fault: f, ranges: true, chunked: form.Chunked}
	if !form.NoETag {
		b.etag = `"` + m.desc.Digest.String() + `"`
	}
	r.serveBody(w, req, st, b)
}

// accepts tells whether Accept names a media type exactly.
func accepts(req *http.Request, mediaType string) bool {
	for _, line := range req.Header.Values("Accept") {
		for one := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(one, ";")
			if strings.TrimSpace(name) == mediaType {
				return true
			}
		}
	}
	return false
}

// schema1 converts a manifest as quay.io does. The signature is left out.
func schema1(t target, m *blob) *blob {
	graph, err := oci.Manifest{Descriptor: m.desc, Bytes: m.data}.Graph()
	if err != nil {
		return m
	}
	var sums, history []map[string]string
	for _, b := range graph.Blobs {
		sums = append(sums, map[string]string{"blobSum": b.Digest.String()})
		history = append(history, map[string]string{"v1Compatibility": `{"id":"` + b.Digest.Hex() + `"}`})
	}
	return literal(oci.MediaTypeDockerSchema1JWS, encode(map[string]any{
		"schemaVersion": 1, "name": t.repo, "tag": t.ref, "architecture": "amd64",
		"fsLayers": sums, "history": history,
	}))
}

// limit counts the request for RateLimit, sets its headers and tells whether it
// was answered with 429.
func (r *Registry) limit(w *recorder, req *http.Request, st *state) bool {
	limit := st.RateLimit
	if limit.Pulls == 0 {
		return false
	}
	window := limit.Window
	if window == 0 {
		window = 6 * time.Hour
	}
	counts := limit.Heads || req.Method == http.MethodGet
	used := st.pulls.use(window, counts)
	seconds := int64(window / time.Second)
	if !limit.Untold {
		w.Header().Set("Ratelimit-Limit", fmt.Sprintf("%d;w=%d", limit.Pulls, seconds))
		w.Header().Set("Ratelimit-Remaining", fmt.Sprintf("%d;w=%d", max(0, limit.Pulls-used), seconds))
		w.Header().Set("Docker-Ratelimit-Source", "192.0.2.1")
	}
	if !counts || used <= limit.Pulls {
		return false
	}
	TooMany(limit.Form, limit.RetryAfter)(w, req)
	return true
}

// use returns how many pulls there were in this window, this one included if it
// counts.
func (p *pulls) use(window time.Duration, counts bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.After(p.until) {
		p.used, p.until = 0, now.Add(window)
	}
	if counts {
		p.used++
	}
	return p.used
}
