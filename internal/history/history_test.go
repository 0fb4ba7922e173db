package history

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// notes are kept in memory.
type notes struct {
	mu     sync.Mutex
	m      map[string]string
	writes int
	err    error
}

func (n *notes) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.m[name]; ok {
		return []byte(s), n.err
	}
	return nil, n.err
}

func (n *notes) PutNote(_ context.Context, name string, note []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.m[name] = string(note)
		n.writes++
	}
	return n.err
}

// A mirror counts.
type mirror struct {
	notes *notes
	now   time.Time
	total Counts
}

func newMirror(now time.Time) *mirror {
	return &mirror{notes: &notes{m: map[string]string{}}, now: now}
}

func (m *mirror) start(t *testing.T) *History {
	t.Helper()
	m.total = Counts{Disk: m.total.Disk}
	h, err := New(Options{
		Notes: m.notes, Sample: func() (Counts, error) { return m.total, nil },
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return m.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// at puts the clock, counts some requests, and looks.
func (m *mirror) at(t *testing.T, h *History, now time.Time, requests int64) {
	t.Helper()
	m.now = now
	m.total.Requests += requests
	m.total.Served += requests * 10
	h.sample(t.Context(), false)
}

func requests(points []Point) (list []int64) {
	for _, p := range points {
		list = append(list, p.Requests)
	}
	return list
}

func same(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestWhatHappenedIsToldInSteps(t *testing.T) {
	m := newMirror(noon)
	h := m.start(t)
	m.at(t, h, noon.Add(time.Minute), 3)
	m.total.Disk = 100
	m.at(t, h, noon.Add(4*time.Minute), 4)
	m.at(t, h, noon.Add(6*time.Minute), 5)
	m.at(t, h, noon.Add(31*time.Minute), 6)
	m.total.Requests += 7 // not yet sampled
	points, err := h.Points(t.Context(), noon, noon.Add(32*time.Minute), time.Minute)
	if err != nil || !same(requests(points), []int64{7, 5, 0, 0, 0, 0, 13}) || points[0].Disk != 100 || points[0].Served != 70 || !points[1].Time.Equal(noon.Add(Step)) {
		t.Errorf("%+v, %v", points, err)
	}
	points, err = h.Points(t.Context(), noon, noon.Add(32*time.Minute), 15*time.Minute)
	if err != nil || !same(requests(points), []int64{12, 0, 13}) {
		t.Errorf("%+v, %v", points, err)
	}
	for _, span := range []time.Duration{0, -time.Hour, 3001 * Step} {
		if _, err := h.Points(t.Context(), noon, noon.Add(span), Step); !errors.Is(err, ErrRange) {
			t.Errorf("%v: %v", span, err)
		}
	}
}

func TestAMonthIsKeptOverRestartsAndNoMore(t *testing.T) {
	const day = 24 * time.Hour
	m := newMirror(noon)
	for i := range 40 {
		h := m.start(t) // each day anew
		m.at(t, h, noon.Add(time.Duration(i)*day), 1)
		m.at(t, h, noon.Add(time.Duration(i)*day+time.Hour), int64(i))
		h.sample(t.Context(), true)
	}
	if len(m.notes.m) != keepDays {
		t.Errorf("%d days are kept", len(m.notes.m))
	}
	h := m.start(t)
	points, err := h.Points(t.Context(), noon.Add(9*day), noon.Add(39*day+2*time.Hour), day)
	if err != nil || len(points) != 31 {
		t.Fatalf("%d, %v", len(points), err)
	}
	for i, p := range points {
		if p.Requests != int64(i+9)+1 {
			t.Errorf("%s: %d requests", p.Time, p.Requests)
		}
	}
	if old, err := h.Points(t.Context(), noon, noon.Add(2*day), day); err != nil || old[0].Requests != 0 {
		t.Errorf("what is older: %+v, %v", old, err)
	}
}

func TestAKilledProcessLosesAStep(t *testing.T) {
	m := newMirror(noon)
	h := m.start(t)
	for i := range 12 {
		m.at(t, h, noon.Add(time.Duration(i)*time.Minute), 1)
	}
	if m.notes.writes != 2 {
		t.Errorf("%d writes", m.notes.writes)
	}
	points, err := m.start(t).Points(t.Context(), noon, noon.Add(15*time.Minute), Step)
	if err != nil || !same(requests(points), []int64{5, 5, 1}) {
		t.Errorf("%+v, %v", points, err)
	}
}

func TestAClockThatJumpsLosesNothing(t *testing.T) {
	m := newMirror(noon)
	h := m.start(t)
	m.at(t, h, noon, 1)
	m.at(t, h, noon.Add(-36*time.Hour), 2)
	m.at(t, h, noon.Add(time.Minute), 4)
	points, err := h.Points(t.Context(), noon.Add(-48*time.Hour), noon.Add(time.Hour), 24*time.Hour)
	if err != nil || !same(requests(points), []int64{0, 2, 5}) && !same(requests(points), []int64{2, 0, 5}) {
		t.Errorf("%+v, %v", points, err)
	}
}

func TestDamageAndFailuresAreNoEnd(t *testing.T) {
	m := newMirror(noon)
	h := m.start(t)
	m.notes.m[name(noon.Unix()/86400)] = `{"day":`
	m.at(t, h, noon, 1)
	m.notes.err = errors.New("no room")
	m.at(t, h, noon.Add(Step), 2)
	m.notes.err = nil
	m.at(t, h, noon.Add(2*Step), 4)
	points, err := m.start(t).Points(t.Context(), noon, noon.Add(3*Step), Step)
	if err != nil || !same(requests(points), []int64{1, 2, 4}) {
		t.Errorf("%+v, %v", points, err)
	}
}

// While it runs it looks by itself, and keeps what there is at the end.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMirror(noon)
		m.total.Requests = 1
		h, err := New(Options{Notes: m.notes, Sample: func() (Counts, error) { return m.total, nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { h.Run(ctx); close(done) }()
		time.Sleep(Step + sampleEvery/2)
		synctest.Wait()
		if m.notes.writes != 1 {
			t.Errorf("%d writes", m.notes.writes)
		}
		m.total.Requests = 5
		stop()
		<-done
		points, err := h.Points(t.Context(), began, time.Now().Add(Step), Step)
		if err != nil || m.notes.writes != 2 || !same(requests(points)[:2], []int64{1, 4}) {
			t.Errorf("%+v, %v, %d writes", points, err, m.notes.writes)
		}
	})
}
