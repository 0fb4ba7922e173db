package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// An endingStore holds Keep and Discard back, which come between the end of a
// fetch and the moment when its flight is gone.
type endingStore struct {
	store.Store
	gate <-chan struct{}
}

type endingIngest struct {
	store.Ingest
	gate <-chan struct{}
}

func (s endingStore) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	in, err := s.Store.Ingest(ctx, d)
	return endingIngest{in, s.gate}, err
}

func (in endingIngest) Keep() error {
	<-in.gate
	return in.Ingest.Keep()
}

func (in endingIngest) Discard() error {
	<-in.gate
	return in.Ingest.Discard()
}

// Whoever began the fetch leaves before the upstream has answered: nobody waits
// any more, and the blob comes all the same.
func TestFetchGoesOnWhenItsFirstReaderLeavesBeforeTheSizeIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 80)
		d := oci.DigestOf(want)
		answer := make(chan struct{})
		u := &upstream{body: want, open: func(int, int64) error { <-answer; return nil }}
		s := newStore(t)
		g := newGroup(t, s)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := g.Open(ctx, d, u.source())
			left <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(answer)
		synctest.Wait()
		mustStored(t, s, d, want)
		if opens, sent := u.asked(); len(opens) != 1 || sent != size {
			t.Errorf("asked at %v, %d bytes sent", opens, sent)
		}
	})
}

// A reader that comes while a fetch is ending in an error has nothing of it: its
// own source is asked as soon as the other is gone.
func TestReaderThatComesWhileAFetchEndsInAnError(t *testing.T) {
	for name, first := range map[string]*upstream{
		"refused": {open: func(int, int64) error { return oci.Errorf(oci.CodeDenied, "not for you") }},
		"broken": {body: content(size, 82), read: func(_ context.Context, at int64) error {
			if at >= size/2 {
				return errors.New("reset")
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(size, 82)
				d := oci.DigestOf(want)
				gate := make(chan struct{})
				s := endingStore{newStore(t), gate}
				g := newGroup(t, s)
				ended := make(chan error)
				go func() {
					r, err := g.Open(t.Context(), d, first.source())
					if err == nil {
						_, err = io.ReadAll(r)
						err = errors.Join(err, r.Close())
					}
					ended <- err
				}()
				time.Sleep(time.Minute) // the fetch has failed for good and is held
				healthy := &upstream{body: want}
				second := make(chan []byte)
				go func() {
					r, err := g.Open(t.Context(), d, healthy.source())
					if err != nil {
						t.Error(err)
						close(second)
						return
					}
					b, err := io.ReadAll(r)
					if err := errors.Join(err, r.Close()); err != nil {
						t.Error(err)
					}
					second <- b
				}()
				synctest.Wait()
				if opens, _ := healthy.asked(); len(opens) != 0 {
					t.Errorf("two fetches of one digest: asked at %v", opens)
				}
				close(gate)
				if err := <-ended; err == nil {
					t.Error("the first reader got a blob")
				}
				if got := <-second; !bytes.Equal(got, want) {
					t.Errorf("the second reader got %d bytes", len(got))
				}
				synctest.Wait()
				mustStored(t, s.Store, d, want)
			})
		})
	}
}

// A blob that is evicted between its commit and a reader's opening is fetched once
// more for that reader.
func TestReaderOfABlobThatIsEvictedAtItsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 83)
		d := oci.DigestOf(want)
		reached, gate := make(chan struct{}), make(chan struct{})
		inner := newStore(t)
		var once sync.Once
		s := hookedStore{Store: inner, committed: func() {
			once.Do(func() {
				if err := inner.Delete(t.Context(), d); err != nil {
					t.Error(err)
				}
				close(reached)
				<-gate
			})
		}}
		g := newGroup(t, s)
		u := &upstream{body: want}
		early := open(t, g, d, u)
		<-reached
		mustRead(t, early, want) // has the file open
		late := make(chan error)
		go func() {
			r, err := g.Open(t.Context(), d, u.source())
			if err == nil {
				mustRead(t, r, want)
				err = r.Close()
			}
			late <- err
		}()
		synctest.Wait()
		close(gate)
		if err := <-late; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		mustStored(t, inner, d, want)
		if opens, sent := u.asked(); len(opens) != 2 || sent != 2*size {
			t.Errorf("asked at %v, %d bytes sent", opens, sent)
		}
	})
}

// The group is closed while a blob is proven and not yet committed: it is
// committed, and its readers have all of it.
func TestClosingDuringTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 84)
		d := oci.DigestOf(want)
		gate := make(chan struct{})
		s := hookedStore{Store: newStore(t), commit: func() { <-gate }}
		g := newGroup(t, s)
		r := open(t, g, d, &upstream{body: want})
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			g.Close()
			close(closed)
		}()
		synctest.Wait()
		if _, err := g.Open(t.Context(), d, (&upstream{}).source()); !errors.Is(err, fill.ErrStopped) {
			t.Errorf("opening during the close: %v", err)
		}
		close(gate)
		<-closed
		mustRead(t, r, want)
		mustStored(t, s.Store, d, want)
	})
}

// Who waits for the answer of the upstream when the group is closed is told so.
func TestClosingBeforeTheSizeIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		g := newGroup(t, s)
		d := oci.DigestOf([]byte("x"))
		u := &far{upstream: &upstream{body: []byte("x")}, link: &link{latency: time.Hour}}
		ended := make(chan error)
		go func() {
			_, err := g.Open(t.Context(), d, u.source())
			ended <- err
		}()
		synctest.Wait()
		g.Close()
		if err := <-ended; !errors.Is(err, fill.ErrStopped) {
			t.Errorf("got %v", err)
		}
		mustBeDiscarded(t, s, d)
	})
}

// A source that has honoured no ranges all along shows it when a reader far ahead
// gets a line of its own: that line ends, and the first one brings all.
func TestReaderFarAheadOfASourceThatTurnsOutToIgnoreRanges(t *testing.T) {
	for name, known := range map[string]bool{"and says so": true, "and does not know": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(12<<20, 85)
				d := oci.DigestOf(want)
				u := &late{far: &far{upstream: &upstream{body: want}, link: &link{latency: 10 * time.Millisecond, each: 1 << 20}, step: 64 << 10}, whole: known}
				g := linesGroup(t, newStore(t), 0)
				var readers sync.WaitGroup
				readers.Go(func() { fetchTime(t, g, d, u.source(), want) })
				for _, from := range []int64{10 << 20, 5 << 20} {
					readers.Go(func() {
						time.Sleep(time.Second)
						if got, err := readFrom(t, g, d, u.source(), from, 1<<20); err != nil || !bytes.Equal(got, want[from:from+1<<20]) {
							t.Errorf("far ahead: %d bytes, %v", len(got), err)
						}
					})
				}
				readers.Wait()
				opens, sent := u.asked()
				if len(opens) < 2 {
					t.Error("no line went ahead: the test tests nothing")
				}
				if len(opens) > 4 || sent > int64(len(want))+1<<20 {
					t.Errorf("asked at %v, %d bytes sent for %d", opens, sent, len(want))
				}
			})
		})
	}
}

// A late source answers whole to all but its first question.
type late struct {
	*far
	whole bool // and tells
	mu    sync.Mutex
	n     int
}

func (u *late) source() fill.Source { return fill.Source{Upstream: "late", Parts: u} }

// Part implements [oci.BlobParts].
func (u *late) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	u.mu.Lock()
	first := u.n == 0
	u.n++
	u.mu.Unlock()
	if first {
		return u.far.Part(ctx, from, to)
	}
	p, err := u.far.Part(ctx, 0, -1)
	p.Whole = u.whole && err == nil
	return p, err
}
