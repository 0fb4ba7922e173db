package main

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

// pinAll has the images of jobs be pinned that are put from now on, with what is attached
// to them.
func (w *mirrorWriter) pinAll(ctx context.Context, jobs []transfer.Job) error {
	var there struct {
		Pins []struct{ Repository, Reference string }
	}
	if err := w.do(ctx, http.MethodGet, pathPins, nil, 0, nil, &there); err != nil {
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
	w.pins = p
	return nil
}

// pin has tags or digests stay of a repository, as the mirror calls it.
func (w *mirrorWriter) pin(ctx context.Context, repo string, references ...string) error {
	for _, reference := range references {
		q := url.Values{"repository": {repo}, "reference": {reference}}
		if err := w.do(ctx, http.MethodPut, pathPins, q, 0, nil, nil); err != nil {
			return err
		}
		w.pins.mu.Lock()
		w.pins.done[repo+" "+reference] = true
		w.pins.mu.Unlock()
	}
	return nil
}

// pinReported has images stay, also those of which nothing had to be brought.
func (w *mirrorWriter) pinReported(ctx context.Context, report transfer.Report) error {
	if w.pins == nil {
		return nil
	}
	for _, r := range report.Images {
		if r.Err != nil || r.Descriptor.Digest.IsZero() {
			continue
		}
		reference := r.Descriptor.Digest.String()
		if len(r.Job.Tags) > 0 {
			reference = r.Job.Tags[0].String()
		}
		at, err := w.manifest(ctx, r.Job.Target, reference)
		if err != nil {
			return err
		}
		if key := at.Repository + " " + reference; w.pins.before[key] || w.pins.done[key] {
			continue
		}
		if err := w.pin(ctx, at.Repository, reference); err != nil {
			return err
		}
	}
	return nil
}
