package refstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"sampan/internal/refs"
)

func canceled(t *testing.T, x *Subject) {
	repo, latest := repository(t, "nginx"), tag(t, "latest")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"PutTag":    x.PutTag(ctx, repo, latest, entry(1)),
		"DeleteTag": x.DeleteTag(ctx, repo, latest),
		"PutLinks":  x.PutLinks(ctx, repo, descriptor(1)),
		"PutList":   x.PutList(ctx, repo, "tags", refs.ListEntry{}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	_, err := x.Tag(t.Context(), repo, latest)
	notFound(t, err)
	_, err = x.Link(t.Context(), repo, descriptor(1).Digest)
	notFound(t, err)
}

func flushed(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	const writers, each = 8, 30
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				n := w*each + i
				if err := x.PutLinks(t.Context(), repo, descriptor(n)); err != nil {
					t.Error(err)
				}
			}
			if err := x.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	again := x.Reopen()
	for n := range writers * each {
		wantLink(t, again, repo, descriptor(n))
	}
}

// concurrent has each writer count up a tag of its own, while readers see that
// no count ever goes back.
func concurrent(t *testing.T, x *Subject) {
	const pairs, counts = 4, 200
	repo := repository(t, "nginx")
	var all sync.WaitGroup
	for p := range pairs {
		name := tag(t, fmt.Sprintf("pair-%d", p))
		all.Go(func() {
			for i := range counts {
				if err := x.PutTag(t.Context(), repo, name, entry(i)); err != nil {
					t.Error(err)
				}
				if i%40 == 0 {
					if err := x.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
		all.Go(func() {
			last := int64(-1)
			for last < counts-1 {
				e, err := x.Tag(t.Context(), repo, name)
				switch {
				case errors.Is(err, refs.ErrNotFound) && last < 0:
				case err != nil:
					t.Errorf("after %d: %v", last, err)
					return
				case e.Manifest.Size < last:
					t.Errorf("%d came after %d", e.Manifest.Size, last)
					return
				default:
					last = e.Manifest.Size
				}
			}
		})
	}
	all.Wait()
}
