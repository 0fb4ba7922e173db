package transfer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
)

// A choosy pier knows what it does not hold, and has something to say.
type choosyPier struct {
	*pier
	refuses string
}

func (p choosyPier) Refuses(_ context.Context, _ oci.Repository, m oci.Manifest, _ oci.Graph) error {
	if m.Descriptor.MediaType == p.refuses {
		return oci.Errorf(oci.CodeUnsupported, "no such manifests here")
	}
	return nil
}

func (p choosyPier) Notes(_ context.Context, repo oci.Repository, referrers bool) ([]Note, error) {
	if !referrers {
		return nil, nil
	}
	return []Note{{Kind: NoteReferrersByTag, Repository: repo}}, nil
}

func TestWhatTheTargetSaysIsToldBeforeAnythingIsSent(t *testing.T) {
	s := newShelf()
	root := twoPlatforms(s)
	s.attach(root, "sbom")
	p := newPier()
	if _, err := run(t, choosyPier{p, oci.MediaTypeImageIndex}, Options{}, jobOf(t, s, root, "a:1")); oci.CodeOf(err) != oci.CodeUnsupported || p.stored("") != 0 {
		t.Errorf("got %v, stored %q", err, p.log)
	}
	for _, referrers := range []bool{false, true} {
		p := newPier()
		job := jobOf(t, s, root, "a:1")
		job.Referrers = referrers
		var told []Note
		report, err := run(t, choosyPier{p, ""}, Options{Noted: func(n []Note) {
			if told = n; p.stored("") != 0 {
				t.Error("something was sent before")
			}
		}}, job)
		if err != nil || (len(told) == 1) != referrers || len(report.Notes) != len(told) {
			t.Errorf("%v: told %v, reported %v", err, told, report.Notes)
		}
	}
}

func TestBlobsAtOnceAreBounded(t *testing.T) {
	for _, most := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			s, p := newShelf(), newPier()
			var layers []oci.Descriptor
			for _, name := range strings.Split("abcdefgh", "") {
				layers = append(layers, s.layer(name))
			}
			now, peak := make(chan struct{}, len(layers)+1), 0
			p.before = func(_ context.Context, step string, _ oci.Descriptor) error {
				if step != "put blob" {
					return nil
				}
				now <- struct{}{}
				time.Sleep(time.Second) // until all who may come are here
				p.mu.Lock()
				peak = max(peak, len(now))
				p.mu.Unlock()
				<-now
				return nil
			}
			if _, err := Copy(t.Context(), []Job{jobOf(t, s, s.image("c", layers...), "a:1")}, p, Options{Blobs: most, Pause: never}); err != nil {
				t.Fatal(err)
			}
			if peak != most {
				t.Errorf("%d were under way, want %d", peak, most)
			}
		})
	}
}

func TestBackoffWaitsLongerEachTimeAndEnds(t *testing.T) {
	broken := errors.New("broken")
	for fact, c := range map[string]struct {
		err   error
		waits []time.Duration
	}{
		"a link that breaks":             {broken, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}},
		"an answer is not asked again":   {oci.ErrBlobUnknown, nil},
		"who says when is taken at word": {&oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: time.Minute}, slices.Repeat([]time.Duration{time.Minute}, 6)},
		"who wants too long is not":      {&oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: time.Hour}, nil},
	} {
		t.Run(fact, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var waits []time.Duration
				for n := 1; ; n++ {
					start := time.Now()
					if err := Backoff(t.Context(), n, c.err); err != nil {
						if !errors.Is(err, c.err) || time.Since(start) != 0 {
							t.Errorf("it ends with %v", err)
						}
						break
					}
					waits = append(waits, time.Since(start))
				}
				if !slices.Equal(waits, c.waits) {
					t.Errorf("it waits %v, want %v", waits, c.waits)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Backoff(ctx, 1, broken); err == nil {
		t.Error("it waits for nobody")
	}
}
