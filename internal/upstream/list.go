package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sampan/internal/oci"
)

const (
	// maxPages and maxListBytes bound one list, over all its pages.
	maxPages     = 1000
	maxListBytes = 64 << 20
)

// Tags implements [oci.Reader]. It follows the pages of the list, at most 1000
// of 64 MiB together, and leaves out what is not a tag.
func (r *Registry) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	q := question{
		kind:    kindTags,
		method:  http.MethodGet,
		repo:    repo,
		below:   "tags/list",
		header:  http.Header{"Accept": {"application/json"}},
		unknown: oci.CodeNameUnknown,
	}
	tags, err := each(ctx, r, func(ctx context.Context, ep *endpoint) ([]oci.Tag, error) {
		var tags []oci.Tag
		err := r.pages(ctx, ep, q, func(b []byte) error {
			var page struct {
				Tags []string `json:"tags"`
			}
			if err := json.Unmarshal(b, &page); err != nil {
				return r.noAnswer(err, "sent a list of tags that cannot be read")
			}
			for _, s := range page.Tags {
				if t, err := oci.ParseTag(s); err == nil {
					tags = append(tags, t)
				}
			}
			return nil
		})
		return tags, err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(tags, func(a, b oci.Tag) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(tags), nil
}

// pages reads a list page by page.
func (r *Registry) pages(ctx context.Context, ep *endpoint, q question, each func([]byte) error) error {
	seen := map[string]bool{}
	left := int64(maxListBytes)
	for range maxPages {
		next, n, err := r.page(ctx, ep, q, left, each)
		if err != nil {
			return err
		}
		if next == nil {
			return nil
		}
		if seen[next.String()] {
			return r.noAnswer(nil, "sent a list whose pages run in a circle")
		}
		seen[next.String()] = true
		left -= n
		q.url = next
	}
	return r.noAnswer(errTooLarge, fmt.Sprintf("sent a list of more than %d pages", maxPages))
}

// page reads one page of at most limit bytes, and tells where the next one is
// and how long this one was.
func (r *Registry) page(ctx context.Context, ep *endpoint, q question, limit int64, each func([]byte) error) (*url.URL, int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errSlow)
	defer cancel()
	rep, err := r.ask(ctx, ep, q)
	if err != nil {
		return nil, 0, err
	}
	b, err := r.read(ctx, q.kind, rep, limit)
	if errors.Is(err, errTooLarge) {
		return nil, 0, r.noAnswer(err, fmt.Sprintf("sent a list of more than %d MiB", maxListBytes>>20))
	}
	if err != nil {
		return nil, 0, err
	}
	if looksLikeHTML(rep.Header, b) {
		return nil, 0, r.noAnswer(errWebPage, "answered with a web page instead of a list")
	}
	if err := each(b); err != nil {
		return nil, 0, err
	}
	next, err := nextPage(rep.url, rep.Header.Values("Link"))
	if err != nil {
		return nil, 0, r.noAnswer(err, "sent a list whose next page cannot be asked for")
	}
	return next, int64(len(b)), nil
}

// Referrers implements [oci.Reader] with the referrers API, or, where the
// registry does not have it, with the tag that the specification provides for
// that ("Referrers Tag Schema").
func (r *Registry) Referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	list, err := each(ctx, r, func(ctx context.Context, ep *endpoint) ([]oci.Descriptor, error) {
		list, err := r.referrersAt(ctx, ep, repo, digest)
		if lacksReferrers(err) {
			return r.referrersByTag(ctx, ep, repo, digest)
		}
		return list, err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (r *Registry) referrersAt(ctx context.Context, ep *endpoint, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	q := question{
		kind:    kindReferrers,
		method:  http.MethodGet,
		repo:    repo,
		below:   "referrers/" + digest.String(),
		header:  http.Header{"Accept": {oci.MediaTypeImageIndex}},
		unknown: oci.CodeManifestUnknown,
	}
	list := []oci.Descriptor{}
	err := r.pages(ctx, ep, q, func(b []byte) error {
		page, ok := parseIndex(b)
		if !ok {
			return r.noAnswer(errNotIndex, "sent a list of referrers that cannot be read")
		}
		list = append(list, page...)
		return nil
	})
	return list, err
}

func (r *Registry) referrersByTag(ctx context.Context, ep *endpoint, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errSlow)
	defer cancel()
	m, err := r.manifestAt(ctx, ep, repo, referrersTag(digest), oci.Digest{})
	if oci.IsUnknown(err) && statusOf(err) == http.StatusNotFound {
		return []oci.Descriptor{}, nil
	}
	if err != nil {
		return nil, err
	}
	list, ok := parseIndex(m.Bytes)
	if !ok {
		return []oci.Descriptor{}, nil // a tag of that name that is something else
	}
	return list, nil
}

// lacksReferrers tells whether an error means that the registry does not know
// the referrers API, as opposed to having failed.
func lacksReferrers(err error) bool {
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	default:
		return errors.Is(err, errNotIndex) || errors.Is(err, errWebPage)
	}
}

// referrersTag is the tag under which referrers are listed by the
// specification: both parts cut, to 32 and 64 characters.
func referrersTag(d oci.Digest) string {
	algorithm, hex := d.Algorithm(), d.Hex()
	return algorithm[:min(len(algorithm), 32)] + "-" + hex[:min(len(hex), 64)]
}

// parseIndex reads the descriptors of an index and leaves out those it cannot
// read. It returns false for what is no index.
func parseIndex(b []byte) ([]oci.Descriptor, bool) {
	var doc struct {
		Manifests json.RawMessage `json:"manifests"` // null from some for an empty list
	}
	var all []json.RawMessage
	if json.Unmarshal(b, &doc) != nil || doc.Manifests == nil || json.Unmarshal(doc.Manifests, &all) != nil {
		return nil, false
	}
	list := []oci.Descriptor{}
	for _, raw := range all {
		var d oci.Descriptor
		if json.Unmarshal(raw, &d) == nil && !d.Digest.IsZero() {
			list = append(list, d)
		}
	}
	return list, true
}
