package running

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A pinPlace is a manifest of a repository.
type pinPlace struct {
	repo   oci.Repository
	digest oci.Digest
}

// pins are what is to stay at the mirror.
type pins struct {
	roots  map[pinPlace]bool // images that go by their digest
	before map[string]bool   // that were pinned before: repository, as the mirror calls it, and reference

	mu   sync.Mutex
	done map[string]bool // that this load has pinned
}

// Pin has the images of jobs be pinned that are put from now on, with what is attached to
// them. It asks what is pinned already.
func (m *Mirror) Pin(ctx context.Context, jobs []transfer.Job) error {
	var there struct {
		Pins []struct{ Repository, Reference string }
	}
	if err := m.do(ctx, request{method: http.MethodGet, path: pathPins}, &there); err != nil {
		return err
	}
	p := &pins{roots: make(map[pinPlace]bool), before: make(map[string]bool), done: make(map[string]bool)}
	for _, pin := range there.Pins {
		p.before[pin.Repository+" "+pin.Reference] = true
	}
	for _, j := range jobs {
		if len(j.Tags) == 0 {
			p.roots[pinPlace{j.Target, j.Source.Digest}] = true
		}
	}
	m.pins = p
	return nil
}

// pin has tags or digests stay of a repository, as the mirror calls it.
func (m *Mirror) pin(ctx context.Context, repo string, references ...string) error {
	for _, reference := range references {
		q := url.Values{"repository": {repo}, "reference": {reference}}
		if err := m.do(ctx, request{method: http.MethodPut, path: pathPins, query: q}, nil); err != nil {
			return err
		}
		m.pins.mu.Lock()
		m.pins.done[repo+" "+reference] = true
		m.pins.mu.Unlock()
	}
	return nil
}

// PinReported has images stay, also those of which nothing had to be brought. Without a
// [Mirror.Pin] before, it does nothing.
func (m *Mirror) PinReported(ctx context.Context, report transfer.Report) error {
	if m.pins == nil {
		return nil
	}
	for _, r := range report.Images {
		if r.Err != nil || r.Descriptor.Digest.IsZero() {
			continue
		}
		references := []string{r.Descriptor.Digest.String()}
		if len(r.Job.Tags) > 0 {
			references = nil
			for _, t := range r.Job.Tags {
				references = append(references, t.String())
			}
		}
		for _, reference := range references {
			if err := m.pinMissing(ctx, r.Job.Target, reference); err != nil {
				return err
			}
		}
	}
	return nil
}

// pinMissing has a tag or digest stay that is not pinned yet. What the mirror calls the
// repository, it tells.
func (m *Mirror) pinMissing(ctx context.Context, repo oci.Repository, reference string) error {
	at, err := m.manifest(ctx, repo, reference)
	if err != nil {
		return err
	}
	if key := at.Repository + " " + reference; m.pins.before[key] || m.pins.done[key] {
		return nil
	}
	return m.pin(ctx, at.Repository, reference)
}
