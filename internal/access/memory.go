package access

import (
	"sync"
	"time"
)

// A memory keeps values for a time each. The zero value is empty.
type memory[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]kept[V]
}

type kept[V any] struct {
	value V
	until time.Time
}

func (m *memory[K, V]) get(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.m[k]
	if !ok || !time.Now().Before(e.until) {
		var none V
		return none, false
	}
	return e.value, true
}

// put remembers a value. When there are too many, those whose time is over go,
// and if there are none, all: they are asked for again.
func (m *memory[K, V]) put(k K, v V, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.m == nil {
		m.m = make(map[K]kept[V])
	}
	if len(m.m) >= maxMemory {
		for old, e := range m.m {
			if !now.Before(e.until) {
				delete(m.m, old)
			}
		}
		if len(m.m) >= maxMemory {
			clear(m.m)
		}
	}
	m.m[k] = kept[V]{v, now.Add(d)}
}

func (m *memory[K, V]) drop(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, k)
}
