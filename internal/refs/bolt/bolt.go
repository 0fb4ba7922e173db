// Package bolt is the embedded [refs.Index]: one file in the data directory, in
// the format of bbolt.
//
// Reads see writes at once, from memory; one goroutine writes batches behind
// them, so that nobody who pulls waits for a disk to sync. Every value carries a
// checksum: a record that was changed by hand or by a dying disk is reported,
// counted as absent and asked for again. The structure of the file is checked
// when it is opened, by a reader of our own that no damage can fault; a damaged
// file is refused with [refs.ErrDamaged], and [Repair] makes a new one of what
// can still be read. A file that is damaged while it is open costs records, never
// the process.
//
// Lock order: Index.linking before Index.mu, Index.beginning and memo.mu, which
// are leaves; no transaction runs under them.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

const (
	// flushDelay is how long a write may wait for others to share its sync.
	flushDelay = 50 * time.Millisecond
	// retryDelay is how long a failed batch waits for the medium to recover.
	retryDelay = 5 * time.Second
	// maxPending bounds the records kept while the medium refuses them.
	maxPending = 100_000
)

// errClosed: the index was used after Close.
var errClosed = errors.New("the index is closed")

// key addresses one record.
type key struct{ bucket, name string }

// Index is an open file. Make one with [Open] and end it with Close.
type Index struct {
	db  *bbolt.DB
	log *slog.Logger

	isNew  bool
	marked atomic.Bool // some digest has a mark

	linking sync.Mutex // held by PutLinks, which reads before it writes
	memo    memo

	mu      sync.RWMutex
	pending map[key][]byte // written since the last batch; nil is a deletion
	batch   map[key][]byte // being written now
	refused bool           // the last batch could not be written
	dropped int            // records forgotten for want of room since
	closed  bool

	kick    chan struct{}   // a write happened
	flushes chan chan error // Flush asks for a batch now
	stop    chan struct{}
	done    chan struct{}

	// beginning is held while a transaction begins: bbolt keeps its locks when it
	// faults there, and those who wait must learn of it. Nothing begins or ends
	// after broken is set.
	beginning sync.Mutex
	broken    atomic.Bool
}

var _ refs.Index = (*Index)(nil)

// Open opens the file, making it where it is missing, and starts the goroutine
// that writes. A file that fails its check is [refs.ErrDamaged].
func Open(path string, log *slog.Logger) (*Index, error) {
	_, err := os.Stat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	db, lost, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	if lost > 0 {
		log.Error("index records damaged, asking upstream again when they are needed", "records", lost)
	}
	marked, err := hasMarks(db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("index %s: %w", path, err), db.Close())
	}
	x := &Index{
		db:      db,
		log:     log,
		isNew:   isNew,
		pending: make(map[key][]byte),
		kick:    make(chan struct{}, 1),
		flushes: make(chan chan error),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	x.marked.Store(marked)
	go x.write()
	return x, nil
}

// IsNew tells whether Open made the file.
func (x *Index) IsNew() bool { return x.isNew }

// Close writes what is pending and closes the file.
func (x *Index) Close() error {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return nil
	}
	x.closed = true
	x.mu.Unlock()
	x.memo.close()
	close(x.stop)
	<-x.done
	err := x.commit()
	if x.broken.Load() {
		return err // closing would wait for a lock that is never let go
	}
	return errors.Join(err, x.db.Close())
}

// Flush implements [refs.Index].
func (x *Index) Flush(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case x.flushes <- answer:
	case <-x.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// get returns the payload of a record, or ErrNotFound.
func (x *Index) get(ctx context.Context, k key) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	x.mu.RLock()
	v, ok := x.pending[k]
	if !ok {
		v, ok = x.batch[k]
	}
	x.mu.RUnlock()
	if !ok {
		var err error
		if v, err = x.read(k); err != nil {
			return nil, err
		}
	}
	if v == nil {
		return nil, refs.ErrNotFound
	}
	payload, err := unseal(k, v)
	if err != nil {
		x.log.Error("index record damaged, asking upstream again", "bucket", k.bucket, "err", err)
		return nil, fmt.Errorf("%w: %w", refs.ErrNotFound, err)
	}
	return payload, nil
}

// read returns a copy of what the file has; nil when there is nothing. What
// cannot be read any more is not there.
func (x *Index) read(k key) (v []byte, err error) {
	tx, err := x.begin(false)
	if err == nil {
		err = guard(func() error {
			v = bytes.Clone(tx.Bucket([]byte(k.bucket)).Get([]byte(k.name)))
			return nil
		})
		x.end(tx)
	}
	if errors.Is(err, refs.ErrDamaged) {
		x.log.Error("index unreadable, asking upstream again", "bucket", k.bucket, "err", err)
		return nil, fmt.Errorf("%w: %w", refs.ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return v, nil
}

// begin begins a transaction. There is one that writes at a time.
func (x *Index) begin(writable bool) (tx *bbolt.Tx, err error) {
	x.beginning.Lock()
	defer x.beginning.Unlock()
	if x.broken.Load() {
		return nil, fmt.Errorf("%w: an earlier transaction found it so", refs.ErrDamaged)
	}
	err = guard(func() (err error) {
		tx, err = x.db.Begin(writable)
		return err
	})
	if errors.Is(err, refs.ErrDamaged) {
		x.broken.Store(true)
	}
	return tx, err
}

// end ends a transaction that reads. It does not wait for who begins one: that
// one may wait for a writer, which waits for this one.
func (x *Index) end(tx *bbolt.Tx) {
	if !x.broken.Load() {
		_ = tx.Rollback() // fails only when it is over already
	}
}

func recordName(repo oci.Repository, rest string) string { return repo.String() + "\x00" + rest }
