package registrytest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"sampan/internal/oci"
)

// serveTags lists tags page by page.
func (r *Registry) serveTags(w *recorder, req *http.Request, st *state, t target) {
	tags, ok := r.content.tags(t.repo)
	if !ok {
		st.Missing.write(w, oci.CodeNameUnknown, "repository name not known to registry")
		return
	}
	form, query := st.Tags, req.URL.Query()
	if !form.Unsorted {
		slices.Sort(tags)
	}
	if last := query.Get("last"); last != "" {
		tags = after(tags, last, !form.Unsorted)
	}
	page := len(tags)
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			writeError(w, http.StatusBadRequest, oci.CodeUnsupported, "n is not a number")
			return
		}
		page = min(page, n)
	}
	if form.Page > 0 {
		page = min(page, form.Page)
	}
	if page > 0 && page < len(tags) {
		next := fmt.Sprintf("/v2/%s/tags/list?last=%s&n=%d", t.repo, url.QueryEscape(tags[page-1]), page)
		if form.AbsoluteLink {
			next = r.URL() + next
		}
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	answer := map[string]any{"name": t.repo, "tags": append([]string{}, tags[:page]...)}
	if form.Extra {
		answer["child"] = []string{}
		answer["manifest"] = r.extraTags(t.repo, tags[:page])
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(answer))
}

// after returns the tags that follow last: greater ones of a sorted list, those
// behind it of another.
func after(tags []string, last string, sorted bool) []string {
	if sorted {
		i, found := slices.BinarySearch(tags, last)
		if found {
			i++
		}
		return tags[i:]
	}
	return tags[slices.Index(tags, last)+1:]
}

// extraTags is gcr.io's "manifest" field.
func (r *Registry) extraTags(repo string, tags []string) map[string]any {
	extra := make(map[string]any)
	for _, tag := range tags {
		if m := r.content.manifest(repo, tag); m != nil {
			extra[m.desc.Digest.String()] = map[string]any{
				"imageSizeBytes": strconv.FormatInt(m.desc.Size, 10), "mediaType": m.desc.MediaType,
				"tag": []string{tag}, "timeCreatedMs": "0", "timeUploadedMs": "1700000000000",
			}
		}
	}
	return extra
}

// serveReferrers is the referrers API.
func (r *Registry) serveReferrers(w *recorder, req *http.Request, st *state, t target) {
	if st.NoReferrers {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	d, err := oci.ParseDigest(t.ref)
	if err != nil {
		writeError(w, http.StatusBadRequest, oci.CodeDigestInvalid, "invalid digest")
		return
	}
	if !r.content.hasRepo(t.repo) {
		st.Missing.write(w, oci.CodeNameUnknown, "repository name not known to registry")
		return
	}
	filter := req.URL.Query().Get("artifactType")
	if filter != "" {
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", oci.MediaTypeImageIndex)
	_, _ = w.Write(encodeIndex(r.referrers(t.repo, d, filter)))
}

// referrers returns the manifests whose subject is d, in the order of their
// digests; an empty artifactType is any.
func (r *Registry) referrers(repo string, d oci.Digest, artifactType string) []oci.Descriptor {
	found := []oci.Descriptor{}
	for _, m := range r.content.manifests(repo) {
		graph, err := m.Graph()
		if err != nil || graph.Subject.Digest != d || artifactType != "" && graph.ArtifactType != artifactType {
			continue
		}
		desc := m.Descriptor
		desc.ArtifactType, desc.Annotations = graph.ArtifactType, graph.Annotations
		found = append(found, desc)
	}
	return found
}

// encodeIndex writes an index; unlike [manifestDoc] it keeps an empty list.
func encodeIndex(manifests []oci.Descriptor) []byte {
	return encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": manifests,
	})
}
