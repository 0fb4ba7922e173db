package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/refs/bolt"
)

// A bench is a history whose clock and counters the test moves.
type bench struct {
	*History
	notes *notes
	now   time.Time
	all   Counters
}

type notes struct {
	kept   map[string][]byte
	writes int
	fail   error
}

func (n *notes) Note(_ context.Context, name string) ([]byte, error) { return n.kept[name], nil }

func (n *notes) PutNote(_ context.Context, name string, note []byte) error {
	if n.fail != nil {
		return n.fail
	}
	n.writes++
	n.kept[name] = note
	return nil
}

func noon() time.Time { return time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC) }

func open(t *testing.T, n *notes, now time.Time) *bench {
	t.Helper()
	b := &bench{notes: n, now: now}
	h, err := Open(t.Context(), Options{
		Notes: n, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return b.now },
		Count: func() (Counters, error) { return b.all, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.History = h
	return b
}

func start(t *testing.T) *bench { return open(t, &notes{kept: map[string][]byte{}}, noon()) }

// serve counts requests of so many bytes, all of them from the cache, and looks.
func (b *bench) serve(t *testing.T, requests, bytes int64) {
	t.Helper()
	b.all.Requests += requests
	b.all.Served += bytes
	b.all.Cached += bytes
	b.Take(t.Context())
}

func (b *bench) points(t *testing.T, from, to time.Time, step time.Duration) []Point {
	t.Helper()
	list, err := b.Points(t.Context(), from, to, step)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sum is the requests of all points.
func sum(list []Point) (n int64) {
	for _, p := range list {
		n += p.Requests
	}
	return n
}

func TestWhatCountersGrewByIsTold(t *testing.T) {
	b := start(t)
	b.all.Disk = 500
	b.serve(t, 3, 300)
	b.now = noon().Add(4 * time.Minute)
	b.serve(t, 2, 200)
	b.now = noon().Add(16 * time.Minute)
	b.all.Disk, b.all.Errors, b.all.Denials = 700, 1, 2
	b.serve(t, 1, 100)
	got := b.points(t, noon(), b.now.Add(time.Second), Step)
	if len(got) != 4 || got[0].Requests != 5 || got[0].Served != 500 || got[0].Disk != 500 || !got[0].Time.Equal(noon()) ||
		got[1].Requests != 0 || got[1].Disk != 0 || got[2].Requests != 0 ||
		got[3].Requests != 1 || got[3].Disk != 700 || got[3].Errors != 1 || got[3].Denials != 2 {
		t.Errorf("got %+v", got)
	}
	if got = b.points(t, noon(), b.now, 15*time.Minute); len(got) != 2 || got[0].Requests != 5 || got[1].Requests != 1 {
		t.Errorf("in quarters of an hour: %+v", got)
	}
	if got = b.points(t, noon(), b.now, 2*time.Hour); len(got) != 1 || got[0].Requests != 6 || got[0].Cached != 600 {
		t.Errorf("in two hours: %+v", got)
	}
}

func TestRegistriesAreToldWithinABound(t *testing.T) {
	b := start(t)
	b.all.Registries = map[string]Traffic{}
	for i := range maxRegistries + 5 {
		b.all.Registries[fmt.Sprintf("r%02d.example", i)] = Traffic{Requests: int64(i + 1)}
	}
	b.Take(t.Context())
	got := b.points(t, noon(), noon().Add(time.Hour), Step)
	if len(got) != 1 || len(got[0].Registries) != maxRegistries || got[0].Registries["r03.example"].Requests != 4 {
		t.Fatalf("got %+v", got)
	}
	got[0].Registries["r03.example"] = Traffic{} // the caller's own
	if again := b.points(t, noon(), noon().Add(time.Hour), Step); again[0].Registries["r03.example"].Requests != 4 {
		t.Error("a caller changed what is remembered")
	}
}

// Five weeks of work: the number of documents has a bound, days are told in five
// minutes, weeks in hours, and what is older is gone.
func TestTheSizeIsBounded(t *testing.T) {
	b := start(t)
	const days = 80
	for range days * 24 {
		b.serve(t, 1, 10)
		b.now = b.now.Add(time.Hour)
	}
	if n, most := len(b.notes.kept), len(b.fine.slots)+len(b.coarse.slots); n != most {
		t.Errorf("%d documents, want %d", n, most)
	}
	if n := sum(b.points(t, b.now.Add(-24*time.Hour), b.now, 15*time.Minute)); n != 24 {
		t.Errorf("a day has %d", n)
	}
	if n := sum(b.points(t, b.now.Add(-30*24*time.Hour), b.now, 6*time.Hour)); n < 30*24 || n > 30*24+6 {
		t.Errorf("thirty days have %d", n)
	}
	if got := b.points(t, noon(), noon().Add(30*24*time.Hour), time.Hour); len(got) != 0 {
		t.Errorf("what is too old: %d points", len(got))
	}
	for name, note := range b.notes.kept {
		if len(note) > 8<<10 {
			t.Errorf("%s has %d bytes", name, len(note))
		}
	}
}

// Counters begin at zero with a process; nothing is told twice and nothing is lost.
func TestAnotherProcessGoesOn(t *testing.T) {
	b := start(t)
	b.serve(t, 7, 70)
	again := open(t, b.notes, noon().Add(time.Minute))
	again.serve(t, 2, 20)
	if got := again.points(t, noon(), noon().Add(time.Hour), Step); len(got) != 1 || got[0].Requests != 9 || got[0].Served != 90 {
		t.Errorf("got %+v", got)
	}
}

func TestAClockThatJumpsDoesNoHarm(t *testing.T) {
	b := start(t)
	b.serve(t, 1, 1)
	for _, jump := range []time.Duration{-3 * time.Hour, 5 * time.Hour, -90 * time.Minute, -49 * time.Hour, 60 * 24 * time.Hour, -60 * 24 * time.Hour} {
		b.now = b.now.Add(jump)
		b.serve(t, 1, 1)
	}
	b.now = time.Unix(0, 0) // a board without a battery
	b.serve(t, 5, 5)
	if n := sum(b.points(t, noon().Add(-4*24*time.Hour), noon().Add(61*24*time.Hour), time.Hour)); n != 7 {
		t.Errorf("%d requests are told before the clock is set, want 7", n)
	}
	b.now = noon()
	b.serve(t, 0, 0)
	list := b.points(t, noon().Add(-4*24*time.Hour), noon().Add(61*24*time.Hour), time.Hour)
	if n := sum(list); n != 12 {
		t.Errorf("%d requests are told, want 12", n)
	}
	for _, p := range list {
		if !p.sound() {
			t.Errorf("%+v", p)
		}
	}
	b.all = Counters{} // counters that fall
	b.Take(t.Context())
	if n := sum(b.points(t, noon(), noon().Add(time.Hour), Step)); n < 5 {
		t.Errorf("%d requests after counters fell", n)
	}
}

func TestNothingIsWrittenWhileNothingHappens(t *testing.T) {
	b := start(t)
	for range 5 {
		b.Take(t.Context())
		b.now = b.now.Add(Every)
	}
	if b.notes.writes != 2 {
		t.Errorf("%d writes in five idle minutes, want one of each document", b.notes.writes)
	}
	b.serve(t, 1, 1)
	if b.notes.writes != 4 {
		t.Errorf("%d writes", b.notes.writes)
	}
	b.notes.fail = errors.New("the disk is full")
	b.now = b.now.Add(Every)
	b.serve(t, 1, 1)
	b.notes.fail = nil
	b.now = b.now.Add(Every)
	b.Take(t.Context()) // nothing new, but the look before is not kept yet
	again := open(t, b.notes, b.now)
	if n := sum(again.points(t, noon(), noon().Add(time.Hour), Step)); n != 2 {
		t.Errorf("%d requests were kept, want 2", n)
	}
}

func TestWhatCannotBeReadIsLeftOut(t *testing.T) {
	b := start(t)
	b.serve(t, 4, 40)
	for name, note := range b.notes.kept {
		for i, bad := range []string{`[]`, `{}`, `{"start":"2026-03-01T12:30:00Z"}`, `"x"`} {
			b.notes.kept[name] = []byte(bad)
			if got := open(t, b.notes, noon()).points(t, noon().Add(-time.Hour), noon().Add(time.Hour), Step); len(got) > 1 {
				t.Errorf("%d: %+v", i, got)
			}
		}
		var d document
		if err := json.Unmarshal(note, &d); err != nil {
			t.Fatal(err)
		}
		d.Points[0].Requests = -1
		b.notes.kept[name], _ = json.Marshal(d)
	}
	if got := open(t, b.notes, noon()).points(t, noon().Add(-time.Hour), noon().Add(time.Hour), time.Hour); len(got) != 0 {
		t.Errorf("negative counts are told: %+v", got)
	}
}

func TestSpansHaveABound(t *testing.T) {
	b := start(t)
	for _, to := range []time.Duration{-time.Hour, 400 * 24 * time.Hour} {
		if _, err := b.Points(t.Context(), noon(), noon().Add(to), time.Hour); !errors.Is(err, ErrSpan) {
			t.Errorf("%s: %v", to, err)
		}
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("nothing is needed")
	}
}

func TestTheCountersAreLookedAtEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		h, err := Open(t.Context(), Options{
			Notes: &notes{kept: map[string][]byte{}}, Log: slog.New(slog.DiscardHandler), Now: noon,
			Count: func() (Counters, error) { looks++; return Counters{}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*Every+time.Second)
		defer cancel()
		h.Run(ctx)
		if looks != 10 {
			t.Errorf("%d looks in ten minutes", looks)
		}
	})
}

// A process that is killed loses nothing that was flushed: the file is opened as the
// disk has it, while the process that wrote it still holds its own.
func TestTheIndexKeepsIt(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	all, now := Counters{Traffic: Traffic{Requests: 10, Served: 1 << 40}}, noon()
	path := filepath.Join(dir, "0.db")
	for i := range 3 {
		x, err := bolt.Open(path, log)
		if err != nil {
			t.Fatal(err)
		}
		h, err := Open(t.Context(), Options{Notes: x, Log: log, Now: func() time.Time { return now }, Count: func() (Counters, error) { return all, nil }})
		if err != nil {
			t.Fatal(err)
		}
		h.Take(t.Context())
		now = now.Add(time.Hour)
		if got, err := h.Points(t.Context(), noon(), now, Step); err != nil || sum(got) != int64(10*(i+1)) {
			t.Errorf("process %d: %v, %v", i, got, err)
		}
		if err := x.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		path = filepath.Join(dir, fmt.Sprintf("%d.db", i+1))
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err = errors.Join(err, x.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
