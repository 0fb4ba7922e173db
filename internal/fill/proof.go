package fill

import (
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"syscall"
)

// A proof is the hash of the first bytes, which grows with them. Bytes that come
// in order are hashed on their way; others when the gap before them is closed.
// Its lock comes before that of the flight.
type proof struct {
	arrived chan struct{} // something may be there to catch up with; capacity 1

	mu sync.Mutex // guards h, and at against other writers
	h  hash.Hash
	at atomic.Int64 // how many bytes are hashed
}

// offer hashes p if it continues what is hashed and nobody else hashes now.
func (p *proof) offer(b []byte, off int64) {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if off == p.at.Load() {
		p.h.Write(b)
		p.at.Add(int64(len(b)))
	}
}

// reset begins anew with what drop leaves; meanwhile nothing is hashed.
func (p *proof) reset(drop func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.h.Reset()
	p.at.Store(0)
	return drop()
}

// notify says that the first bytes may have grown.
func (p *proof) notify() {
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// catchUp hashes, from the file, up to the first gap.
func (p *proof) catchUp(f *flight) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := f.prefix()
	at := p.at.Load()
	if at >= end {
		return nil
	}
	b, err := f.ingest.NewReader()
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // no fault of the file
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	defer b.Close()
	buf := make([]byte, chunk)
	for at < end {
		n, err := b.ReadAt(buf[:min(chunk, end-at)], at)
		p.h.Write(buf[:n])
		at += int64(n)
		p.at.Store(at)
		if err != nil && at < end {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		end = f.prefix()
	}
	return nil
}
