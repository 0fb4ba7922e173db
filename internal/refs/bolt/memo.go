package bolt

import "sync"

// maxMemo bounds the records kept decoded: about 2 MiB.
const maxMemo = 4096

// A memo keeps the records read last as they were decoded, so that what many
// clients ask for is neither looked up in the file nor parsed for each of them.
// It holds nothing that the index does not: a write makes it forget.
type memo struct {
	mu    sync.RWMutex
	epoch uint64 // number of writes
	m     map[key]any
}

// get returns what is remembered of a record. The epoch is for put.
func (m *memo) get(k key) (record any, epoch uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.m[k], m.epoch
}

// put remembers a record that was read after get had returned the epoch. When
// anything was written since, it may have been read before: then it is not kept.
func (m *memo) put(k key, record any, epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != epoch {
		return
	}
	switch {
	case m.m == nil:
		m.m = make(map[key]any)
	case len(m.m) >= maxMemo:
		clear(m.m) // what is in use comes back at once
	}
	m.m[k] = record
}

// forget drops records that were written, after readers can see the new ones.
func (m *memo) forget(records map[key][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	for k := range records {
		delete(m.m, k)
	}
}

// close forgets everything: a closed index answers nothing.
func (m *memo) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	m.m = nil
}
