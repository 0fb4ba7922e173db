package bolt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"sampan/internal/refs"
)

// write is the one goroutine that writes. The timer runs from the first write
// after a batch, so that a stream of writes does not put the batch off.
func (x *Index) write() {
	defer close(x.done)
	timer := time.NewTimer(flushDelay)
	defer timer.Stop()
	armed := true
	commit := func() error {
		err := x.commit()
		if armed = err != nil; armed {
			timer.Reset(retryDelay)
		}
		return err
	}
	for {
		select {
		case <-x.stop:
			return
		case answer := <-x.flushes:
			answer <- commit()
		case <-x.kick:
			if !armed {
				armed = true
				timer.Reset(flushDelay)
			}
		case <-timer.C:
			if err := commit(); err != nil {
				x.log.Error("names not saved, will try again", "err", err, "dur", retryDelay)
			}
		}
	}
}

// commit writes the pending records in one transaction. On failure they are
// pending again, under newer ones.
func (x *Index) commit() error {
	x.mu.Lock()
	x.batch, x.pending = x.pending, make(map[key][]byte)
	batch := x.batch
	x.mu.Unlock()
	err := x.store(batch)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.batch = nil
	x.refused = err != nil
	if err == nil {
		x.dropped = 0
		return nil
	}
	for k, v := range batch {
		switch _, newer := x.pending[k]; {
		case newer:
		case len(x.pending) < maxPending:
			x.pending[k] = v
		default:
			x.dropped++
		}
	}
	if x.dropped > 0 {
		return fmt.Errorf("index: %w; %d records dropped", err, x.dropped)
	}
	return fmt.Errorf("index: %w", err)
}

func (x *Index) store(batch map[key][]byte) error {
	if len(batch) == 0 {
		return nil
	}
	tx, err := x.begin(true)
	if err != nil {
		return err
	}
	err = guard(func() error {
		if err := apply(tx, batch); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit() // which rolls back when it fails
	})
	if errors.Is(err, refs.ErrDamaged) { // the transaction may be open for ever
		x.broken.Store(true)
	}
	return err
}

func apply(tx *bbolt.Tx, batch map[key][]byte) error {
	for k, v := range batch {
		b := tx.Bucket([]byte(k.bucket))
		var err error
		if v == nil {
			err = b.Delete([]byte(k.name))
		} else {
			err = b.Put([]byte(k.name), v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// put makes records visible and has them written. A nil value deletes.
func (x *Index) put(ctx context.Context, records map[key][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return errClosed
	}
	for k, v := range records {
		if _, known := x.pending[k]; !known {
			x.makeRoom()
		}
		x.pending[k] = v
	}
	x.mu.Unlock()
	select {
	case x.kick <- struct{}{}:
	default:
	}
	return nil
}

// makeRoom forgets a record, no matter which, when there are too many that the
// medium has refused: as after a crash, it is asked for again. The caller holds
// mu.
func (x *Index) makeRoom() {
	if !x.refused || len(x.pending) < maxPending {
		return
	}
	for k := range x.pending {
		delete(x.pending, k)
		x.dropped++
		return
	}
}
