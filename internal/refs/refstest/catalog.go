package refstest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// catalogTests are for indexes that can tell what is in them.
func catalogTests() []fact {
	return []fact{
		{"what is in it is told page by page, flushed or not", paged},
		{"what is deleted is in no page", unpaged},
		{"pins are kept, and ended", pinned},
		{"lists of a repository are forgotten together", unlisted},
	}
}

// A catalog is filled with so many repositories, each with tags and links.
func fill(t *testing.T, s *Subject, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		repo := repository(t, fmt.Sprintf("quay.io/team/r%02d", i))
		for j := range 5 {
			d := oci.Descriptor{MediaType: "application/x", Digest: oci.DigestOf(fmt.Append(nil, i, j)), Size: int64(j)}
			must(t, s.PutTag(t.Context(), repo, tag(t, fmt.Sprintf("v%d", j)), refs.TagEntry{Manifest: d, Checked: time.Unix(int64(j), 0).UTC()}))
			if j%2 == 0 {
				must(t, s.PutHeld(t.Context(), repo, d))
			} else {
				must(t, s.PutLinks(t.Context(), repo, d))
			}
		}
	}
}

func catalogOf(t *testing.T, x refs.Index) refs.Catalog {
	t.Helper()
	c, ok := x.(refs.Catalog)
	if !ok {
		t.Fatal("it is no catalog")
	}
	return c
}

// repositories turns all pages of n.
func repositories(t *testing.T, c refs.Catalog, n int) (all []string) {
	t.Helper()
	var after oci.Repository
	for {
		page, err := c.Repositories(t.Context(), after, n)
		must(t, err)
		for _, r := range page {
			all = append(all, r.String())
			after = r
		}
		if len(page) < n {
			return all
		}
	}
}

func paged(t *testing.T, s *Subject) {
	c := catalogOf(t, s.Index)
	fill(t, s, 0, 7)
	must(t, s.Flush(t.Context()))
	fill(t, s, 5, 10) // some again, and some that are not flushed
	must(t, s.PutLinks(t.Context(), repository(t, "quay.io/team/r1"), oci.Descriptor{Digest: oci.DigestOf(nil), Size: -1}))
	must(t, c.SetPin(t.Context(), repository(t, "ghcr.io/pinned/only"), "v1", true))
	must(t, s.SetPrivate(t.Context(), true, oci.DigestOf(nil)))
	want := []string{"ghcr.io/pinned/only"}
	for i := range 10 {
		want = append(want, fmt.Sprintf("quay.io/team/r%02d", i))
	}
	want = append(want, "quay.io/team/r1")
	slices.Sort(want)
	for _, n := range []int{1, 3, 12, 100} {
		if got := repositories(t, c, n); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", n, got, want)
		}
	}
	repo := repository(t, "quay.io/team/r06")
	var tags []refs.TagRecord
	var after oci.Tag
	for {
		page, err := c.Tags(t.Context(), repo, after, 2)
		must(t, err)
		tags = append(tags, page...)
		if len(page) < 2 {
			break
		}
		after = page[1].Tag
	}
	if len(tags) != 5 || tags[4].Tag.String() != "v4" || tags[4].Manifest.Digest != oci.DigestOf(fmt.Append(nil, 6, 4)) || !tags[4].Checked.Equal(time.Unix(4, 0)) {
		t.Errorf("tags: %+v", tags)
	}
	var links []refs.LinkRecord
	var behind oci.Digest
	for {
		page, err := c.Links(t.Context(), repo, behind, 2)
		must(t, err)
		links = append(links, page...)
		if len(page) < 2 {
			break
		}
		behind = page[1].Digest
	}
	held := 0
	for i, l := range links {
		if l.Held {
			held++
		}
		if i > 0 && links[i-1].Digest.String() >= l.Digest.String() {
			t.Error("links are not in order")
		}
	}
	if len(links) != 5 || held != 3 {
		t.Errorf("links: %+v", links)
	}
}

func unpaged(t *testing.T, s *Subject) {
	c := catalogOf(t, s.Index)
	fill(t, s, 0, 2)
	must(t, s.Flush(t.Context()))
	repo := repository(t, "quay.io/team/r00")
	for j := range 5 {
		must(t, c.DeleteLinks(t.Context(), repo, oci.DigestOf(fmt.Append(nil, 0, j))))
		must(t, c.DeleteTag(t.Context(), repo, tag(t, fmt.Sprintf("v%d", j))))
		if _, err := c.Link(t.Context(), repo, oci.DigestOf(fmt.Append(nil, 0, j))); err == nil {
			t.Error("a deleted link is still there")
		}
	}
	must(t, c.DeleteLinks(t.Context(), repo, oci.DigestOf(nil))) // was never there
	for range 2 {
		if got := repositories(t, c, 1); !slices.Equal(got, []string{"quay.io/team/r01"}) {
			t.Errorf("got %v", got)
		}
		for _, n := range []int{1, 10} {
			tags, err := c.Tags(t.Context(), repo, oci.Tag{}, n)
			must(t, err)
			links, err := c.Links(t.Context(), repo, oci.Digest{}, n)
			must(t, err)
			if len(tags)+len(links) > 0 {
				t.Errorf("still there: %v, %v", tags, links)
			}
		}
		must(t, s.Flush(t.Context()))
	}
}

func pinned(t *testing.T, s *Subject) {
	c := catalogOf(t, s.Index)
	repo := repository(t, "docker.io/library/nginx")
	began := time.Now()
	for _, ref := range []string{"v1", oci.DigestOf(nil).String(), "v1"} {
		must(t, c.SetPin(t.Context(), repo, ref, true))
	}
	must(t, s.Flush(t.Context()))
	must(t, c.SetPin(t.Context(), repo, "v2", true))
	must(t, c.SetPin(t.Context(), repo, "v1", false))
	must(t, c.SetPin(t.Context(), repo, "never", false))
	must(t, s.Flush(t.Context()))
	again := catalogOf(t, s.Reopen())
	pins, err := again.Pins(t.Context())
	must(t, err)
	var got []string
	for _, p := range pins {
		got = append(got, p.Reference)
		if p.Repository != repo || p.Since.Before(began.Add(-time.Second)) || p.Since.After(time.Now()) {
			t.Errorf("got %+v", p)
		}
	}
	slices.Sort(got)
	want := []string{oci.DigestOf(nil).String(), "v2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func unlisted(t *testing.T, s *Subject) {
	c := catalogOf(t, s.Index)
	one, other := repository(t, "docker.io/a/b"), repository(t, "docker.io/a/bc")
	for _, repo := range []oci.Repository{one, other} {
		must(t, s.PutList(t.Context(), repo, "tags", refs.ListEntry{Body: []byte("x")}))
		must(t, s.PutList(t.Context(), repo, "\x00referrers", refs.ListEntry{Body: []byte("y")}))
	}
	must(t, s.Flush(t.Context()))
	must(t, c.DeleteLists(t.Context(), one))
	for _, key := range []string{"tags", "\x00referrers"} {
		_, err := s.List(t.Context(), one, key)
		notFound(t, err)
		_, err = s.List(t.Context(), other, key)
		must(t, err)
	}
}
