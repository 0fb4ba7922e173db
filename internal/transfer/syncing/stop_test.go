package syncing

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A cutting target ends the run when a blob or the deletion of a tag is asked of it.
type cutting struct {
	*memory
	cancel func()
	puts   int // blobs that are taken before
}

func (c *cutting) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, from []oci.Repository) error {
	c.mu.Lock()
	c.puts--
	left := c.puts
	c.mu.Unlock()
	if left < 0 {
		c.cancel()
		return ctx.Err()
	}
	return c.memory.PutBlob(ctx, repo, d, open, from)
}

func (c *cutting) DeleteTag(ctx context.Context, _ oci.Repository, _ oci.Tag) error {
	c.cancel()
	return ctx.Err()
}

// What a person has ended has not failed: no line says so of each of a thousand images.
func TestARunThatIsEnded(t *testing.T) {
	for fact, c := range map[string]struct {
		puts int
		want []string
		says string
	}{
		"in the first blob": {0, []string{"v1 interrupted", "v2 interrupted", "v3 interrupted"}, "3 interrupted"},
		"in pruning":        {100, []string{"v1 copied", "v2 copied", "v3 copied", "x1 interrupted", "x2 interrupted"}, "3 copied, 2 interrupted"},
	} {
		t.Run(fact, func(t *testing.T) {
			from, to := newMemory(), newMemory()
			for _, tag := range []string{"v1", "v2", "v3"} {
				from.add(t, "quay.io/a/b:"+tag, "of "+tag)
			}
			to.add(t, "m.test/a/b:x1", "x1")
			to.add(t, "m.test/a/b:x2", "x2")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := Options{
				Reader: func(oci.Registry) (oci.Reader, error) { return from, nil },
				Target: func(oci.Registry) (Target, error) { return &cutting{to, cancel, c.puts}, nil },
				Prune:  true,
			}
			items, failed, err := Expand(ctx, read(t, versions), o.Reader, below)
			if err != nil {
				t.Fatal(err)
			}
			r := Run(ctx, items, failed, o)
			var got []string
			for _, i := range r.Images {
				got = append(got, strings.TrimPrefix(i.Target, "m.test/a/b:")+" "+string(i.Result))
				if i.Result == Interrupted && i.Error != "" {
					t.Errorf("%s: %s", i.Target, i.Error)
				}
			}
			var said bytes.Buffer
			if err := r.WriteText(&said, english, bytesOf); err != nil || !slices.Equal(got, c.want) || r.Complete {
				t.Errorf("got %v, complete %v, %v", got, r.Complete, err)
			}
			if strings.Contains(said.String(), "canceled") || strings.Contains(said.String(), ": interrupted") || !strings.Contains(said.String(), c.says+"; ") {
				t.Errorf("it says\n%s", said.String())
			}
		})
	}
}

// A person has agreed to what was shown, and to nothing that came meanwhile.
func TestWhatNobodyHasSeenIsNotPruned(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	to.add(t, "m.test/a/b:old", "old")
	items, _, err := Expand(t.Context(), read(t, versions), func(oci.Registry) (oci.Reader, error) { return from, nil }, below)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Doomed(t.Context(), items, func(oci.Registry) (Target, error) { return to, nil })
	if err != nil {
		t.Fatal(err)
	}
	to.add(t, "m.test/a/b:new", "new")
	r, got := run(t, versions, from, to, Options{Prune: true, Agreed: shown})
	if !r.Complete || r.Count(Pruned) != 1 || !to.tags["m.test/a/b:old"].IsZero() || to.tags["m.test/a/b:new"].IsZero() {
		t.Errorf("got %v, left is %v", got, to.tags)
	}
}

// A mute target does not say what should be known of it before anything is sent.
type mute struct{ *memory }

func (mute) Notes(context.Context, oci.Repository, bool) ([]transfer.Note, error) {
	return nil, oci.Errorf(oci.CodeDenied, "not for you")
}

// What was never sent is not reported as copied, and nothing is deleted because of it.
func TestNothingIsPrunedWhereNothingWasSent(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	to.add(t, "m.test/a/b:old", "old")
	o := Options{
		Reader: func(oci.Registry) (oci.Reader, error) { return from, nil },
		Target: func(oci.Registry) (Target, error) { return mute{to}, nil },
		Prune:  true,
	}
	items, failed, err := Expand(t.Context(), read(t, versions), o.Reader, below)
	r := Run(t.Context(), items, failed, o)
	if err != nil || r.Complete || r.Count(Failed) != 1 || len(r.Images) != 1 || to.tags["m.test/a/b:old"].IsZero() {
		t.Errorf("%v, %+v", err, r.Images)
	}
}

// A script that goes through the images of a report finds none, and no null.
func TestAReportOfNothing(t *testing.T) {
	raw, err := json.Marshal(Run(t.Context(), nil, nil, Options{}))
	if err != nil || !strings.Contains(string(raw), `"images":[]`) {
		t.Errorf("%v: %s", err, raw)
	}
}
