package upstream

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"sampan/internal/oci"
)

const (
	// untoldPause is how long an account waits after a 429 that does not say it, and
	// leastPause at the least; each further 429 in a row doubles that, up to mostPause.
	untoldPause = time.Second
	leastPause  = 100 * time.Millisecond
	mostPause   = time.Minute
	// longestWait is the longest Retry-After that is believed.
	longestWait = time.Hour
	// untoldWindow is how long a budget without a window is believed.
	untoldWindow = time.Hour
	// fewLeft is how many requests are little, and so is less than a tenth.
	fewLeft = 5
)

// errWaiting is the cause of a 429 for which nobody was asked.
var errWaiting = errors.New("waiting for the end of a rate limit")

// A class is a kind of question that registries limit by itself.
type class int

// The classes.
const (
	contents class = iota // manifests and lists by GET: what docker.io counts
	looks                 // manifests by HEAD, which are free there
	bytesOf               // blobs; who asks waits by himself
	classes               // how many there are
)

func (q question) class() class {
	switch {
	case q.kind == kindBlob:
		return bytesOf
	case q.method == http.MethodHead:
		return looks
	default:
		return contents
	}
}

// A budget is what one endpoint still lets one account ask.
type budget struct {
	mu        sync.Mutex
	limit     int64 // requests in window; -1 when not told
	remaining int64 // -1 when not told
	window    time.Duration
	at        time.Time // when it was told; zero for never
	waits     [classes]wait
}

// A wait is the time after a 429.
type wait struct {
	until time.Time
	row   int // answers of 429 in a row
}

// A balance is a budget as it is now.
type balance struct {
	limit, remaining int64
	window           time.Duration
	at               time.Time
	waiting          bool // for the end of a 429
}

// now returns what is known; a window that has passed is known no more.
func (b *budget) now() balance {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := balance{-1, -1, 0, b.at, time.Now().Before(b.waits[contents].until)}
	if !b.at.IsZero() && time.Since(b.at) < orDefault(b.window, untoldWindow) {
		n.limit, n.remaining, n.window = b.limit, b.remaining, b.window
	}
	return n
}

// left is how much an account is to be preferred; what is not known is full.
func (n balance) left() int64 {
	if n.remaining < 0 {
		return math.MaxInt64
	}
	return n.remaining
}

// scarce tells whether so little is left that it should be spared.
func (n balance) scarce() bool {
	return n.waiting || n.remaining >= 0 && (n.remaining < fewLeft || n.remaining < n.limit/10)
}

// until returns when a class may be asked for; zero is now. A HEAD that was refused
// refuses everything.
func (b *budget) until(c class) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	until := b.waits[c].until
	if c == contents && b.waits[looks].until.After(until) {
		until = b.waits[looks].until
	}
	if time.Now().Before(until) {
		return until
	}
	return time.Time{}
}

// limited remembers a 429 and returns how long to wait. After is what the registry
// said, 0 for nothing.
func (b *budget) limited(c class, after time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &b.waits[c]
	if after <= 0 {
		after = untoldPause
	}
	if !time.Now().Before(w.until) {
		w.row++ // and not once for each of those who asked at the same time
	}
	pause := max(min(after, longestWait), min(leastPause<<min(w.row-1, 20), mostPause))
	w.until = time.Now().Add(pause)
	return pause
}

// answered forgets the 429s of a class.
func (b *budget) answered(c class) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waits[c] = wait{}
}

// told reads what an endpoint says of the account's budget, on any answer of its own
// (docker.io: "ratelimit-limit: 100;w=21600" and "ratelimit-remaining: 76;w=21600" on
// GET and HEAD of manifests; without them nothing is limited).
func (r *Registry) told(ep *endpoint, q question, rep *reply) {
	unnamed := ep.account == nil || ep.account.index == clientAccount || ep.budgets == nil
	if unnamed || q.kind == kindToken || q.kind == kindPing {
		return
	}
	b := &ep.budgets[ep.account.index]
	remaining, window := parseBudget(rep.Header.Get("Ratelimit-Remaining"))
	limit, limitWindow := parseBudget(rep.Header.Get("Ratelimit-Limit"))
	if window == 0 {
		window = limitWindow
	}
	if remaining < 0 && (q.kind != kindManifest || rep.StatusCode != http.StatusOK) {
		return
	}
	b.mu.Lock()
	known := !b.at.IsZero()
	b.limit, b.remaining, b.window, b.at = limit, remaining, window, time.Now()
	if remaining < 0 {
		b.at = time.Time{}
	}
	b.mu.Unlock()
	if known || remaining >= 0 {
		r.metrics.budget(ep.account.index, limit, remaining)
	}
}

// parseBudget reads "100;w=21600": a number, and the window in seconds where it is
// told. The number is -1 for what cannot be read.
func parseBudget(s string) (n int64, window time.Duration) {
	number, params, _ := strings.Cut(s, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 {
		return -1, 0
	}
	for p := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		seconds, err := strconv.ParseInt(value, 10, 32)
		if strings.EqualFold(key, "w") && err == nil && seconds > 0 {
			window = time.Duration(seconds) * time.Second
		}
	}
	return n, window
}

// patiently asks again where the registry limits the rate and says that it will not
// for long: as often as fits into Options.RateLimitWait.
func patiently[T any](ctx context.Context, r *Registry, ask func() (T, error)) (T, error) {
	end := time.Now().Add(r.rateLimitWait)
	for {
		v, err := ask()
		var e *oci.Error
		if !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || e.RetryAfter <= 0 ||
			time.Now().Add(e.RetryAfter).After(end) {
			return v, err
		}
		timer := time.NewTimer(e.RetryAfter)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return v, err
		}
	}
}

// Spare tells that little is left of what the registry lets the accounts of a
// repository ask, so that an answer that is here already should be preferred to
// asking: less than a tenth of the limit, fewer than five requests, or a 429 whose end
// is being waited for. It is false where no limit is known.
func (r *Registry) Spare(repo oci.Repository) bool {
	for _, ep := range r.trusted {
		if !ep.breaker.isUp() {
			continue
		}
		for _, a := range r.accountsFor(repo) {
			if !ep.budgets[a.index].now().scarce() {
				return false
			}
		}
		return true
	}
	return false
}
