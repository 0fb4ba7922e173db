// Package refstest is the suite that every index of names passes: what package
// refs promises, stated as tests. What becomes of an index whose medium is
// damaged or full is the affair of each index's own tests.
package refstest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// A Subject is an index under test.
type Subject struct {
	refs.Index
	// Reopen ends the index and opens what it has made durable.
	Reopen func() refs.Index
}

// Run runs the suite. Each call of open makes a new, empty index that lives
// until its test ends.
func Run(t *testing.T, open func(t testing.TB) *Subject) {
	for _, f := range append(catalogTests(), []fact{
		{"what was never written is not found", missing},
		{"a write is seen at once", visible},
		{"what was flushed is there after reopening", durable},
		{"a later write replaces an earlier one, flushed or not", replaced},
		{"a tag that was deleted is gone, and its link is not", deleted},
		{"a media type and a size that are known stay known", merged},
		{"one call may name a digest twice", twiceInACall},
		{"concurrent links of a digest lose nothing", linkedTogether},
		{"a link that names is not one that holds", held},
		{"without a mark no digest is private", unmarked},
		{"a mark of a digest stays until the next one", marked},
		{"distrust is for digests without a mark", distrusted},
		{"names that look alike are different records", alike},
		{"a list may be empty, large and of any bytes", lists},
		{"the index keeps no reference to a body", noAlias},
		{"a context that is done writes nothing", canceled},
		{"a flush covers what was written before it, by anybody", flushed},
		{"readers and writers meet without harm", concurrent},
	}...) {
		t.Run(f.fact, func(t *testing.T) { f.test(t, open(t)) })
	}
}

// A fact is one thing that is promised.
type fact struct {
	fact string
	test func(*testing.T, *Subject)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func notFound(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, refs.ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
}

func repository(t testing.TB, s string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(s)
	must(t, err)
	return r
}

func tag(t testing.TB, s string) oci.Tag {
	t.Helper()
	v, err := oci.ParseTag(s)
	must(t, err)
	return v
}

// descriptor number i.
func descriptor(i int) oci.Descriptor {
	return oci.Descriptor{
		MediaType: fmt.Sprintf("application/vnd.test.%d+json", i),
		Digest:    oci.DigestOf(fmt.Append(nil, i)),
		Size:      int64(i),
	}
}

func entry(i int) refs.TagEntry {
	return refs.TagEntry{Manifest: descriptor(i), Checked: time.Unix(1_700_000_000+int64(i), 123456789).UTC()}
}

// sameDescriptor compares what an index keeps of a descriptor.
func sameDescriptor(t testing.TB, got, want oci.Descriptor) {
	t.Helper()
	if got.MediaType != want.MediaType || got.Digest != want.Digest || got.Size != want.Size {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func sameTime(t testing.TB, got, want time.Time) {
	t.Helper()
	if !got.Equal(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func wantTag(t testing.TB, x refs.Index, repo oci.Repository, tag oci.Tag, want refs.TagEntry) {
	t.Helper()
	got, err := x.Tag(t.Context(), repo, tag)
	must(t, err)
	sameDescriptor(t, got.Manifest, want.Manifest)
	sameTime(t, got.Checked, want.Checked)
}

func wantLink(t testing.TB, x refs.Index, repo oci.Repository, want oci.Descriptor) {
	t.Helper()
	got, err := x.Link(t.Context(), repo, want.Digest)
	must(t, err)
	sameDescriptor(t, got, want)
}

func wantList(t testing.TB, x refs.Index, repo oci.Repository, key string, want refs.ListEntry) {
	t.Helper()
	got, err := x.List(t.Context(), repo, key)
	must(t, err)
	sameTime(t, got.Checked, want.Checked)
	if !bytes.Equal(got.Body, want.Body) {
		t.Fatalf("list %.40q has %d bytes %.40q, want %d bytes %.40q", key, len(got.Body), got.Body, len(want.Body), want.Body)
	}
}

func missing(t *testing.T, x *Subject) {
	repo := repository(t, "quay.io/a/b")
	_, err := x.Tag(t.Context(), repo, tag(t, "latest"))
	notFound(t, err)
	_, err = x.Link(t.Context(), repo, descriptor(1).Digest)
	notFound(t, err)
	_, err = x.List(t.Context(), repo, "tags")
	notFound(t, err)
	must(t, x.DeleteTag(t.Context(), repo, tag(t, "latest")))
	must(t, x.PutLinks(t.Context(), repo))
	must(t, x.Flush(t.Context()))
}

func visible(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	for i := range 50 {
		must(t, x.PutTag(t.Context(), repo, tag(t, "latest"), entry(i)))
		wantTag(t, x, repo, tag(t, "latest"), entry(i))
		must(t, x.PutLinks(t.Context(), repo, descriptor(i), descriptor(i+1)))
		wantLink(t, x, repo, descriptor(i))
		wantLink(t, x, repo, descriptor(i+1))
		l := refs.ListEntry{Body: fmt.Append(nil, i), Checked: entry(i).Checked}
		must(t, x.PutList(t.Context(), repo, "tags", l))
		wantList(t, x, repo, "tags", l)
	}
}

func durable(t *testing.T, x *Subject) {
	const n = 500
	repo := repository(t, "ghcr.io/owner/name")
	for i := range n {
		must(t, x.PutTag(t.Context(), repo, tag(t, fmt.Sprintf("v%d", i)), entry(i)))
		must(t, x.PutLinks(t.Context(), repo, descriptor(i)))
		must(t, x.PutList(t.Context(), repo, fmt.Sprint(i), refs.ListEntry{Body: fmt.Append(nil, i), Checked: entry(i).Checked}))
	}
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	for i := range n {
		wantTag(t, again, repo, tag(t, fmt.Sprintf("v%d", i)), entry(i))
		wantLink(t, again, repo, descriptor(i))
		wantList(t, again, repo, fmt.Sprint(i), refs.ListEntry{Body: fmt.Append(nil, i), Checked: entry(i).Checked})
	}
}

func replaced(t *testing.T, x *Subject) {
	repo, latest := repository(t, "nginx"), tag(t, "latest")
	for i := range 6 {
		must(t, x.PutTag(t.Context(), repo, latest, entry(i)))
		if i%2 == 0 {
			must(t, x.Flush(t.Context()))
		}
		wantTag(t, x, repo, latest, entry(i))
	}
	must(t, x.Flush(t.Context()))
	wantTag(t, x.Reopen(), repo, latest, entry(5))
}

func deleted(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	for _, name := range []string{"flushed", "pending"} {
		must(t, x.PutTag(t.Context(), repo, tag(t, name), entry(1)))
		must(t, x.PutLinks(t.Context(), repo, descriptor(1)))
		if name == "flushed" {
			must(t, x.Flush(t.Context()))
		}
		must(t, x.DeleteTag(t.Context(), repo, tag(t, name)))
		_, err := x.Tag(t.Context(), repo, tag(t, name))
		notFound(t, err)
	}
	must(t, x.PutTag(t.Context(), repo, tag(t, "back"), entry(1)))
	must(t, x.DeleteTag(t.Context(), repo, tag(t, "back")))
	must(t, x.PutTag(t.Context(), repo, tag(t, "back"), entry(2)))
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	for _, name := range []string{"flushed", "pending"} {
		_, err := again.Tag(t.Context(), repo, tag(t, name))
		notFound(t, err)
	}
	wantTag(t, again, repo, tag(t, "back"), entry(2))
	wantLink(t, again, repo, descriptor(1))
}

func merged(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	d := descriptor(7).Digest
	for i, step := range []struct {
		put, want oci.Descriptor
	}{
		{oci.Descriptor{Digest: d, Size: -1}, oci.Descriptor{Digest: d, Size: -1}},
		{oci.Descriptor{Digest: d, Size: 70}, oci.Descriptor{Digest: d, Size: 70}},
		{oci.Descriptor{Digest: d, Size: -1, MediaType: "a/b"}, oci.Descriptor{Digest: d, Size: 70, MediaType: "a/b"}},
		{oci.Descriptor{Digest: d, Size: 70}, oci.Descriptor{Digest: d, Size: 70, MediaType: "a/b"}},
		{oci.Descriptor{Digest: d, Size: 70, MediaType: "c/d"}, oci.Descriptor{Digest: d, Size: 70, MediaType: "c/d"}},
	} {
		must(t, x.PutLinks(t.Context(), repo, step.put))
		if i%2 == 0 {
			must(t, x.Flush(t.Context()))
		}
		wantLink(t, x, repo, step.want)
	}
}

func twiceInACall(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	typed := descriptor(7)
	bare := oci.Descriptor{Digest: typed.Digest, Size: -1}
	must(t, x.PutLinks(t.Context(), repo, typed, bare, bare))
	wantLink(t, x, repo, typed)
}

func linkedTogether(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	for i := range 100 {
		typed := descriptor(i)
		var all sync.WaitGroup
		for _, d := range []oci.Descriptor{typed, {Digest: typed.Digest, Size: -1}, {Digest: typed.Digest, Size: typed.Size}} {
			all.Go(func() {
				if err := x.PutLinks(t.Context(), repo, d); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		wantLink(t, x, repo, typed)
	}
}

// alike writes to names that would be one if they were only put together.
func alike(t *testing.T, x *Subject) {
	repos := []oci.Repository{
		repository(t, "quay.io/a/b"), repository(t, "quay.io/a"), repository(t, "quay.io/a/b/c"), repository(t, "quay.io/a/b-c"),
		repository(t, "docker.io/quay.io/a"),
	}
	keys := []string{"", "tags", "b", "/b", "b\x00", "\x00b", "\x00", "\xff", "a\x00b", "tags ", "sha256:0", strings.Repeat("k", 2<<10)}
	names := []string{"tags", "b", "latest", "Latest", "latest.", "latest-"}
	for _, flush := range []bool{false, true} {
		n := 0
		for _, repo := range repos {
			for _, key := range keys {
				n++
				if !flush {
					must(t, x.PutList(t.Context(), repo, key, refs.ListEntry{Body: fmt.Append(nil, n)}))
				}
			}
			for _, name := range names {
				n++
				if !flush {
					must(t, x.PutTag(t.Context(), repo, tag(t, name), entry(n)))
				}
			}
		}
		if flush {
			must(t, x.Flush(t.Context()))
		}
		n = 0
		for _, repo := range repos {
			for _, key := range keys {
				n++
				wantList(t, x, repo, key, refs.ListEntry{Body: fmt.Append(nil, n)})
			}
			for _, name := range names {
				n++
				wantTag(t, x, repo, tag(t, name), entry(n))
			}
		}
	}
	must(t, x.PutLinks(t.Context(), repos[0], descriptor(1)))
	_, err := x.Link(t.Context(), repos[1], descriptor(1).Digest)
	notFound(t, err)
}

func lists(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	all := map[string]refs.ListEntry{
		"empty": {Checked: entry(1).Checked},
		"bytes": {Body: []byte("\x00\xff\xfe\x00"), Checked: entry(2).Checked},
		"large": {Body: bytes.Repeat([]byte("0123456789"), 200_000), Checked: entry(3).Checked},
	}
	for key, l := range all {
		must(t, x.PutList(t.Context(), repo, key, l))
	}
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	for key, l := range all {
		wantList(t, again, repo, key, l)
	}
}

func noAlias(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	body := []byte("before")
	must(t, x.PutList(t.Context(), repo, "tags", refs.ListEntry{Body: body}))
	copy(body, "behind")
	wantList(t, x, repo, "tags", refs.ListEntry{Body: []byte("before")})
	got, err := x.List(t.Context(), repo, "tags")
	must(t, err)
	copy(got.Body, "behind")
	wantList(t, x, repo, "tags", refs.ListEntry{Body: []byte("before")})
}
