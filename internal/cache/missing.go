package cache

import (
	"errors"
	"sync"
	"time"

	"sampan/internal/oci"
)

// maxMissing bounds the refusals remembered. Strangers may ask for made-up
// names: a map that is full is begun anew.
const maxMissing = 4096

// missing are an upstream's refusals that are given again without asking: "there
// is no such thing" and "you may not". They are in memory alone.
//
// A refusal is forgotten early when its upstream names the thing after all: in a
// manifest, in a list of tags, or as what a tag points at.
type missing struct {
	mu sync.Mutex
	m  map[question]refusal
}

type refusal struct {
	err   *oci.Error
	until time.Time
}

// of returns the refusal that is remembered, or nil.
func (m *missing) of(q question) *oci.Error {
	r := m.refusal(q)
	return r.err
}

func (m *missing) refusal(q question) refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.m[q]
	if !ok {
		return refusal{}
	}
	if !time.Now().Before(r.until) {
		return refusal{}
	}
	return r
}

// last tells whether the last answer was a refusal, however long ago.
func (m *missing) last(q question) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.m[q]
	return ok
}

// all forgets everything.
func (m *missing) all() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.m)
}

// remember gives err again for a while if it is a refusal, and knows until an answer
// comes that the last one was. The cause, which is for the log, was logged.
func (m *missing) remember(q question, err error, d time.Duration) {
	if !isRefusal(err) {
		return
	}
	var e *oci.Error
	errors.As(err, &e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil || len(m.m) >= maxMissing {
		m.m = make(map[question]refusal)
	}
	m.m[q] = refusal{&oci.Error{Code: e.Code, Message: e.Message}, time.Now().Add(d)}
}

// forget makes that it is asked for again.
func (m *missing) forget(list ...question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.m) == 0 {
		return
	}
	for _, q := range list {
		delete(m.m, q)
	}
}

// named forgets that the repository lacks what it has just named.
func (m *missing) named(repo oci.Repository, descs []oci.Descriptor) {
	list := make([]question, 0, 2*len(descs))
	for _, d := range descs {
		list = append(list, question{repo, askManifest, d.Digest.String()}, question{repo, askBlob, d.Digest.String()})
	}
	m.forget(list...)
}

// isRefusal tells the answers that are remembered.
func isRefusal(err error) bool {
	switch oci.CodeOf(err) {
	case oci.CodeUnauthorized, oci.CodeDenied:
		return true
	default:
		return oci.IsUnknown(err)
	}
}
