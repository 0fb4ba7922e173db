package bolt

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// grow makes an index of n records: a tag for every nine links.
func grow(b *testing.B, n int) (path string, repo oci.Repository) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "index.db")
	x, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	for i := range n {
		if i%1000 == 0 {
			repo = repository(b, fmt.Sprintf("docker.io/library/some-application-%d", i/1000))
		}
		if i%50_000 == 49_999 {
			if err := x.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		}
		desc := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(fmt.Append(nil, i)), Size: 1234}
		if i%10 == 0 {
			err = x.PutTag(ctx, repo, tag(b, fmt.Sprintf("v1.%d", i)), refs.TagEntry{Manifest: desc, Checked: time.Now()})
		} else {
			err = x.PutLinks(ctx, repo, desc)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
	return path, repo
}

func repository(tb testing.TB, s string) oci.Repository {
	tb.Helper()
	r, err := oci.ParseRepository(s)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func tag(tb testing.TB, s string) oci.Tag {
	tb.Helper()
	t, err := oci.ParseTag(s)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{200_000, 1_000_000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			path, _ := grow(b, n)
			for b.Loop() {
				x, err := Open(path, slog.New(slog.DiscardHandler))
				if err != nil {
					b.Fatal(err)
				}
				if err := x.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTag(b *testing.B) {
	const n = 200_000
	path, repo := grow(b, n)
	x, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	newest := tag(b, fmt.Sprintf("v1.%d", n-10))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Tag(b.Context(), repo, newest); err != nil {
			b.Fatal(err)
		}
	}
}
