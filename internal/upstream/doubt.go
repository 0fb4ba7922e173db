package upstream

import (
	"sync"
	"time"

	"sampan/internal/oci"
)

const (
	// doubtFor is how long an endpoint that sent wrong bytes of a blob is the last
	// one to be asked for it.
	doubtFor = 10 * time.Minute
	// maxDoubts bounds what is remembered of this.
	maxDoubts = 1024
)

// A doubt is an endpoint that sent wrong bytes of a blob.
type doubt struct {
	ep     *endpoint
	digest oci.Digest
}

// The weights of a doubt: several endpoints sent bytes of which some were wrong, or
// all of them came from one.
const (
	joint  = 1
	proven = 2
)

// doubts remembers them for a while.
type doubts struct {
	mu       sync.Mutex
	m        map[doubt]doubtful
	suspects map[*endpoint]time.Time // any blob of theirs was wrong
}

type doubtful struct {
	at     time.Time
	weight int
}

// add remembers a doubt and returns its weight: proven where the endpoint alone
// sent the blob. It forgets an older doubt, no matter which, where there are too
// many.
func (d *doubts) add(x doubt, alone bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m, d.suspects = make(map[doubt]doubtful), make(map[*endpoint]time.Time)
	}
	if _, known := d.m[x]; !known && len(d.m) >= maxDoubts {
		for old := range d.m {
			delete(d.m, old)
			break
		}
	}
	weight := joint
	if alone {
		weight = proven
	}
	d.m[x] = doubtful{time.Now(), weight}
	d.suspects[x.ep] = time.Now()
	return weight
}

// weight returns that of a doubt, 0 when there is none.
func (d *doubts) weight(x doubt) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if found := d.m[x]; time.Since(found.at) < doubtFor {
		return found.weight
	}
	return 0
}

// suspect tells whether an endpoint has sent wrong bytes of any blob lately, or may
// have.
func (d *doubts) suspect(ep *endpoint) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.suspects[ep]) < doubtFor
}
