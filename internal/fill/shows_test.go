package fill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// A break of the link is no end for a reader whose bytes the store does not take:
// it continues at its offset, as it does in a fetch.
func TestBreakIsNotNoticedPastAStoreThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 100)
		u := &upstream{body: want, read: breakOnce(size / 2)}
		g := newGroup(t, failingStore{newStore(t), 0})
		mustRead(t, open(t, g, oci.DigestOf(want), u), want)
		if opens, sent := u.asked(); len(opens) != 2 || sent > size+64<<10 {
			t.Errorf("asked at %v, %d bytes sent", opens, sent)
		}
	})
}

// A silence of the source is bounded there, too.
func TestStallIsBoundedPastAStoreThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 101)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var once sync.Once
		u := &upstream{body: want, read: func(ctx context.Context, at int64) (err error) {
			if at >= size/2 {
				once.Do(func() {
					<-ctx.Done()
					err = ctx.Err()
				})
			}
			return err
		}}
		r, err := newGroup(t, failingStore{newStore(t), 0}).Open(ctx, oci.DigestOf(want), u.source())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		began := time.Now()
		got, err := io.ReadAll(r)
		if waited := time.Since(began); waited > 2*time.Minute {
			t.Errorf("waited %v for a source that is silent", waited)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// What Close promises holds for readers past the store, too.
func TestCloseEndsReadersPastAStoreThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 102)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		u := &upstream{body: want, read: holdAt(size/2, make(chan struct{}))}
		g := newGroup(t, failingStore{newStore(t), 0})
		r, err := g.Open(ctx, oci.DigestOf(want), u.source())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ended := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(r)
			ended <- err
		}()
		synctest.Wait()
		g.Close()
		synctest.Wait()
		select {
		case err := <-ended:
			if !errors.Is(err, fill.ErrStopped) {
				t.Errorf("got %v", err)
			}
		default:
			t.Error("the reader still waits after Close")
			cancel()
			<-ended
		}
	})
}

// A reader that comes when the bytes are known to be wrong has nothing of them.
func TestReaderThatComesWhileWrongBytesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 103)
		d := oci.DigestOf(want)
		gate := make(chan struct{})
		g := newGroup(t, endingStore{newStore(t), gate})
		go func() {
			if r, err := g.Open(t.Context(), d, (&upstream{body: content(size, 104)}).source()); err == nil {
				_, _ = io.ReadAll(r) // ends short
				_ = r.Close()
			}
		}()
		time.Sleep(time.Minute) // the mismatch has been found and Discard is held
		late := make(chan error)
		go func() {
			r, err := g.Open(t.Context(), d, (&upstream{body: want}).source())
			if err == nil {
				var got []byte
				got, err = io.ReadAll(r)
				if err == nil && !bytes.Equal(got, want) {
					err = fmt.Errorf("%d wrong bytes", len(got))
				}
				err = errors.Join(err, r.Close())
			}
			late <- err
		}()
		synctest.Wait()
		close(gate)
		if err := <-late; err != nil {
			t.Errorf("with a healthy source of its own: %v", err)
		}
	})
}

// A gaplessStore takes no byte behind a gap: its journal cannot be written.
type gaplessStore struct{ store.Store }

type gaplessIngest struct{ store.Ingest }

func (s gaplessStore) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	in, err := s.Store.Ingest(ctx, d)
	return gaplessIngest{in}, err
}

func (in gaplessIngest) WriteAt(p []byte, off int64) (int, error) {
	if off > in.Len() {
		return 0, fmt.Errorf("journal: %w", store.ErrUnwritable)
	}
	return in.Ingest.WriteAt(p, off)
}

// Lines that a store refuses are not tried again and again: each costs a request
// and its first bytes.
func TestRefusedGapsAreNotAskedForAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(16<<20, 105)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 10 * time.Millisecond, each: 512 << 10}, step: 64 << 10}
		g := linesGroup(t, gaplessStore{newStore(t)}, 0)
		var readers sync.WaitGroup
		readers.Go(func() { fetchTime(t, g, d, u.source(), want) })
		readers.Go(func() {
			time.Sleep(time.Second)
			from := int64(12 << 20)
			if got, err := readFrom(t, g, d, u.source(), from, 1<<20); err != nil || !bytes.Equal(got, want[from:from+1<<20]) {
				t.Errorf("far ahead: %d bytes, %v", len(got), err)
			}
		})
		readers.Wait()
		if opens, sent := u.asked(); len(opens) > 10 || sent > int64(len(want))*11/10 {
			t.Errorf("asked %d times, %d bytes sent for %d", len(opens), sent, len(want))
		}
	})
}
