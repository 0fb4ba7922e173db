package schedule

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// every is a timetable of equal steps.
type every time.Duration

func (e every) Next(after time.Time) time.Time {
	return after.Truncate(time.Duration(e)).Add(time.Duration(e))
}

// notes are kept in memory.
type notes struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func newNotes() *notes { return &notes{kept: make(map[string][]byte)} }

func (n *notes) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kept[name], nil
}

func (n *notes) PutNote(_ context.Context, name string, note []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept[name] = bytes.Clone(note)
	return nil
}

// A bench is a scheduler that runs.
type bench struct {
	*Scheduler
	notes *notes
	shift atomic.Int64 // of the clock on the wall
	log   bytes.Buffer // to be read when it has stopped
	stop  func()
}

func start(t *testing.T, n *notes, tasks ...Task) *bench {
	t.Helper()
	b := &bench{notes: n}
	s, err := New(Options{
		Notes: n, Log: slog.New(slog.NewTextHandler(&b.log, nil)), Registerer: prometheus.NewRegistry(),
		Now: func() time.Time { return time.Now().Add(time.Duration(b.shift.Load())) },
	})
	if err == nil {
		err = s.Set(t.Context(), tasks)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Scheduler = s
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	b.stop = func() { cancel(); <-ended }
	return b
}

// count is a metric of a task.
func (b *bench) count(task, result string) int {
	return int(testutil.ToFloat64(b.metrics.runs.WithLabelValues(task, result)))
}

// task counts its runs, each of which lasts a while.
func task(name string, times Times, lasts time.Duration, runs *atomic.Int64) Task {
	return Task{Name: name, Do: "purge", Key: name, Times: times, Run: func(ctx context.Context) (string, error) {
		runs.Add(1)
		select {
		case <-time.After(lasts):
			return "done", nil
		case <-ctx.Done():
			return "half", ctx.Err()
		}
	}}
}

func TestTasksRunAtTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hourly, daily atomic.Int64
		b := start(t, newNotes(), task("hourly", every(time.Hour), time.Minute, &hourly), task("daily", every(24*time.Hour), time.Minute, &daily))
		defer b.stop()
		time.Sleep(24*time.Hour + time.Second)
		synctest.Wait()
		if hourly.Load() != 24 || daily.Load() != 1 {
			t.Errorf("%d and %d runs", hourly.Load(), daily.Load())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		list := b.Tasks()
		if last := list[1].Last; last == nil || last.Outcome != "done" || last.Ended.Sub(last.Started) != time.Minute || list[1].Next.Sub(last.Started) != 24*time.Hour {
			t.Errorf("%+v", list[1])
		}
		if n := b.count("daily", "ok"); n != 1 {
			t.Errorf("%d runs are counted", n)
		}
	})
}

func TestATaskNeverRunsTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		b := start(t, newNotes(), task("long", every(time.Hour), 150*time.Minute, &runs))
		time.Sleep(90 * time.Minute) // it runs since the first hour
		if err := b.RunNow("long"); !errors.Is(err, ErrRunning) {
			t.Errorf("%v", err)
		}
		time.Sleep(3 * time.Hour) // half past four: ended at half past three, running since four
		synctest.Wait()
		if runs.Load() != 2 || b.count("long", "left_out") != 2 || b.count("long", "ok") != 1 {
			t.Errorf("%d runs, %d left out, %d ended", runs.Load(), b.count("long", "left_out"), b.count("long", "ok"))
		}
		b.stop()
		if !strings.Contains(b.log.String(), "running still") {
			t.Error("the log does not say what was left out")
		}
	})
}

// The clock leaps over what no timer has told: the machine was asleep.
func TestWhatWasMissedIsLeftOutUnlessItIsLittleLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		b := start(t, newNotes(), task("hourly", every(time.Hour), time.Second, &runs))
		defer b.stop()
		time.Sleep(30 * time.Minute)
		b.shift.Add(int64(5 * time.Hour)) // it is half past five
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs.Load() != 0 || b.count("hourly", "left_out") != 1 {
			t.Errorf("%d runs, %d left out", runs.Load(), b.count("hourly", "left_out"))
		}
		b.shift.Add(int64(33 * time.Minute)) // it is four past six
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs of one that is less than %s late", runs.Load(), Grace)
		}
		if next := b.Tasks()[0].Next; next.Hour() != 7 {
			t.Errorf("the next is at %s", next)
		}
	})
}

func TestAClockThatIsPutRightLeavesNoTaskBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		n := newNotes()
		b := start(t, n, task("hourly", every(time.Hour), time.Second, &runs))
		defer b.stop()
		b.shift.Add(int64(10 * 365 * 24 * time.Hour)) // years ahead
		time.Sleep(time.Minute)
		b.shift.Store(0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestTheEndOfTheMirrorEndsWhatRunsAndItIsToldOfAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		n := newNotes()
		tasks := []Task{task("long", every(time.Hour), 10*time.Hour, &runs), task("short", every(2*time.Hour), time.Second, &runs)}
		b := start(t, n, tasks...)
		time.Sleep(150 * time.Minute)
		b.stop()
		if b.count("long", "canceled") != 1 {
			t.Error("a run that was canceled is not counted")
		}
		if err := b.RunNow("short"); !errors.Is(err, ErrStopping) {
			t.Errorf("%v", err)
		}
		time.Sleep(24 * time.Hour) // what is due meanwhile is not caught up with
		again := start(t, n, tasks...)
		defer again.stop()
		synctest.Wait()
		if runs.Load() != 2 {
			t.Errorf("%d runs", runs.Load())
		}
		list := again.Tasks()
		if last := list[0].Last; last == nil || last.Error != ErrStopping.Error() || last.Outcome != "half" || last.Ended.Sub(last.Started) != 90*time.Minute {
			t.Errorf("%+v", list[0].Last)
		}
		if last := list[1].Last; last == nil || last.Error != "" || last.Outcome != "done" {
			t.Errorf("%+v", list[1].Last)
		}
		if at := testutil.ToFloat64(again.metrics.success.WithLabelValues("short")); at != float64(list[1].Last.Ended.Unix()) {
			t.Errorf("the last success is told as %v", at)
		}
	})
}

func TestARunThatWasKilledIsToldOfAsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotes()
		n.kept["a"] = []byte(`{"started":"1999-12-31T03:00:00Z","success":"1999-12-30T03:00:00Z"}`)
		n.kept["b"] = []byte(`nonsense`)
		var runs atomic.Int64
		b := start(t, n, task("a", every(time.Hour), time.Second, &runs), task("b", every(time.Hour), time.Second, &runs))
		defer b.stop()
		list := b.Tasks()
		if last := list[0].Last; last == nil || last.Ended.IsZero() || last.Error == "" || list[1].Last != nil {
			t.Errorf("%+v, %+v", list[0].Last, list[1].Last)
		}
	})
}

func TestTasksAreReplacedWhileOneRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var before, after atomic.Int64
		b := start(t, newNotes(), task("a", every(time.Hour), 90*time.Minute, &before), task("gone", every(time.Hour), 2*time.Minute, &before))
		defer b.stop()
		time.Sleep(61 * time.Minute) // both run
		changed := task("a", every(time.Hour), time.Second, &after)
		if err := b.Set(t.Context(), []Task{changed, task("new", every(time.Minute), time.Second, &after)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(58*time.Minute + 30*time.Second) // to half past the minute before two
		synctest.Wait()
		if before.Load() != 2 || after.Load() != 58 || b.count("new", "ok") != 58 {
			t.Errorf("%d and %d runs", before.Load(), after.Load())
		}
		if b.Tasks()[0].Last.Ended.IsZero() != true {
			t.Error("what ran was ended")
		}
		time.Sleep(time.Hour) // at two it runs still, at half past two it has ended
		synctest.Wait()
		if last := b.Tasks()[0].Last; last.Outcome != "done" || last.Ended.Sub(last.Started) != 90*time.Minute || b.count("a", "left_out") != 1 {
			t.Errorf("%+v, %d left out", last, b.count("a", "left_out"))
		}
		if n := testutil.CollectAndCount(b.metrics.success); n != 2 {
			t.Errorf("%d tasks have metrics", n)
		}
		if _, kept := b.notes.kept["gone"]; !kept {
			t.Error("the result of a task that has left is lost")
		}
	})
}

// A task whose times stay is due when it was, though it is set anew just then.
func TestReplacingKeepsWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		one := task("a", every(time.Hour), time.Second, &runs)
		s, err := New(Options{Notes: newNotes(), Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = s.Set(t.Context(), []Task{one})
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // it is due, and nobody has looked
		if err := s.Set(t.Context(), []Task{one}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestWhatIsAskedForBeforeItRunsIsRunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		s, err := New(Options{Notes: newNotes(), Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = s.Set(t.Context(), []Task{task("a", every(time.Hour), time.Second, &runs)})
		}
		if err == nil {
			err = s.RunNow("a")
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		time.Sleep(time.Minute)
		synctest.Wait()
		if next := s.Tasks()[0].Next; runs.Load() != 1 || next.Hour() != 1 {
			t.Errorf("%d runs, the next at %s", runs.Load(), next)
		}
		cancel()
		synctest.Wait()
	})
}

func TestRunNowSaysWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, newNotes(), Task{Name: "bad", Key: "bad", Times: every(time.Hour), Run: func(context.Context) (string, error) {
			return "0 of 1 images", errors.New("upstream is away")
		}})
		defer b.stop()
		synctest.Wait()
		if err := b.RunNow("none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if err := b.RunNow("bad"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if last := b.Tasks()[0].Last; last == nil || last.Error != "upstream is away" || last.Outcome != "0 of 1 images" || b.count("bad", "error") != 1 {
			t.Errorf("%+v", last)
		}
	})
}
