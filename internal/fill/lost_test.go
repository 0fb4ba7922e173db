package fill_test

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// A forgetful store loses what was written when its sync fails at the commit, as a
// kernel may drop pages that it could not write.
type forgetfulStore struct {
	store.Store
	reached chan struct{} // closed when the commit has come
	gate    chan struct{} // which waits for this
}

type forgetfulIngest struct {
	store.Ingest
	s    forgetfulStore
	lost *atomic.Bool
}

type forgetfulBlob struct {
	store.Blob
	lost *atomic.Bool
}

func (s forgetfulStore) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	in, err := s.Store.Ingest(ctx, d)
	return forgetfulIngest{in, s, new(atomic.Bool)}, err
}

func (in forgetfulIngest) Commit(context.Context, int64) error {
	close(in.s.reached)
	<-in.s.gate
	in.lost.Store(true)
	return store.ErrUnwritable
}

func (in forgetfulIngest) NewReader() (store.Blob, error) {
	b, err := in.Ingest.NewReader()
	return forgetfulBlob{b, in.lost}, err
}

func (b forgetfulBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Blob.ReadAt(p, off)
	if b.lost.Load() {
		clear(p[:n])
	}
	return n, err
}

// The digest was proven, but what a slow reader reads afterwards is no longer what
// was proven.
func TestReadersLeaveAFileThatCouldNotBeSynced(t *testing.T) {
	for name, before := range map[string]int64{"one that has nothing yet": 0, "one in the middle": size / 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(size, 110)
				u := &upstream{body: want}
				s := forgetfulStore{newStore(t), make(chan struct{}), make(chan struct{})}
				r := open(t, newGroup(t, s), oci.DigestOf(want), u)
				<-s.reached
				got, err := io.ReadAll(io.LimitReader(r, before))
				if err != nil || !bytes.Equal(got, want[:before]) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				close(s.gate)
				synctest.Wait()
				rest, err := io.ReadAll(r)
				got = append(got, rest...)
				if !bytes.HasPrefix(want, got) {
					t.Error("wrong bytes")
				}
				if whole := err == nil && bytes.Equal(got, want); whole != (before == 0) {
					t.Errorf("%d bytes, %v", len(got), err) // what was given before cannot be held against anything
				}
			})
		})
	}
}
