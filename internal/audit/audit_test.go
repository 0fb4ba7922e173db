package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/audit"
)

func lines(t *testing.T, text string) (events []audit.Event) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// A sink is written to by timers as well.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// take returns what was written since the last time.
func (s *sink) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

func TestNoNetworkFillsTheDiskWithRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		l := audit.New(&out, slog.New(slog.DiscardHandler))
		one, other := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
		for i := range 1000 {
			l.Deny(one, audit.Event{Client: "192.0.2.1", Path: fmt.Sprint("/", i), Reason: "a \"reason\"\nof two lines"})
		}
		l.Deny(other, audit.Event{Client: "2001:db8::1"})
		if got := lines(t, out.take()); len(got) != 31 || got[0].Event != "denied" || got[0].Reason == "" || got[0].Time.IsZero() || got[30].Client != "2001:db8::1" {
			t.Errorf("%d lines", len(got))
		}
		out.take()
		time.Sleep(time.Minute) // nobody comes any more
		synctest.Wait()
		got := lines(t, out.take())
		if len(got) != 1 || got[0].Event != "denied_more" || got[0].Count != 970 || got[0].Client != "192.0.2.1" {
			t.Errorf("after a minute: %+v", got)
		}
		out.take()
		l.Deny(one, audit.Event{Path: strings.Repeat("x", 1<<20), Reason: strings.Repeat("y", 1<<20)})
		if n := len(out.take()); n == 0 || n > 3*audit.MaxText {
			t.Errorf("a line has %d bytes", n)
		}
		out.take()
		for i := range 20_000 {
			l.Deny(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), audit.Event{})
		}
		if n := strings.Count(out.take(), "\n"); n > 3000 {
			t.Errorf("%d lines of many networks", n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A half disk takes half a line.
type halfDisk struct {
	bytes.Buffer
	full bool
}

func (d *halfDisk) Write(p []byte) (int, error) {
	if d.full {
		n, _ := d.Buffer.Write(p[:len(p)/2])
		return n, io.ErrShortWrite
	}
	return d.Buffer.Write(p)
}

func TestHalfALineSpoilsNoOther(t *testing.T) {
	d := &halfDisk{full: true}
	l := audit.New(d, slog.New(slog.DiscardHandler))
	l.Record(audit.Event{Event: "one"})
	l.Record(audit.Event{Event: "two"})
	d.full = false
	l.Record(audit.Event{Event: "three"})
	l.Record(audit.Event{Event: "four"})
	all := strings.Split(strings.TrimSpace(d.String()), "\n")
	var e audit.Event
	for i, want := range []string{"three", "four"} {
		if err := json.Unmarshal([]byte(all[len(all)-2+i]), &e); err != nil || e.Event != want {
			t.Errorf("%q: %v", all, err)
		}
	}
}

func TestTheFileIsOpenedAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	l, err := audit.Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.Record(audit.Event{Event: "started", Detail: map[string]string{"version": "1"}})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Record(audit.Event{Event: "reloaded"})
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Record(audit.Event{Event: "stopped"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path + ".1": "started reloaded", path: "stopped"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range lines(t, string(text)) {
			got = append(got, e.Event)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v", name, got)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if _, err := audit.Open(filepath.Join(dir, "none", "x"), nil); err == nil {
		t.Error("a file that cannot be made is taken")
	}
	var none *audit.Log
	none.Record(audit.Event{})
	none.Deny(netip.Prefix{}, audit.Event{})
	if err := none.Reopen(); err != nil || none.Close() != nil {
		t.Error("nil does something")
	}
}
