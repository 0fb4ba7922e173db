// Package rate bounds what each client may take: requests and bytes per second,
// blobs at the same time, and bytes per day; and the same of what is cold, which has
// to come from an upstream first and costs its budget.
//
// It promises that a client's account is one, however many connections and addresses
// of its network it uses, and is kept over changes of the rules; that who is a little
// early waits a moment, since some clients give up at the first refusal or try again
// at once, and that everybody else is told when to come again. Accounts are kept in
// memory, a bounded number of them: strangers beyond that share one.
//
// It knows no HTTP. The day is that of UTC; what was counted is forgotten with the
// process.
//
// Lock order: Limiter.mu before account.mu.
package rate

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sampan/internal/access"
	"sampan/internal/oci"
)

// Limits are those of one client; 0 is none.
type Limits struct {
	// RequestsPerSecond are those of the registry's API. As many may come at once as
	// in ten seconds.
	RequestsPerSecond float64
	// BytesPerSecond are those of blobs, of all connections together.
	BytesPerSecond int64
	// Pulls are blobs that are being sent at the same time; the parts of one are one.
	Pulls int
	// BytesPerDay are those of blobs, as far as they were sent.
	BytesPerDay int64
	// Cold is of what has to come from an upstream.
	Cold Cold
}

// Cold are the limits of what has to come from an upstream; 0 is none.
type Cold struct {
	// RequestsPerHour are those for manifests, lists and blobs. As many may come at
	// once.
	RequestsPerHour int
	// Pulls are blobs at the same time.
	Pulls int
	// BytesPerDay are those of blobs, counted when they begin to come.
	BytesPerDay int64
}

// A Rule gives limits to clients.
type Rule struct {
	// For says to whom, by Networks, Users, Groups, Codes and Hosts; the rest of it
	// is not looked at.
	For access.Rule
	Limits
}

const (
	// patience is how long who is early waits before it is refused.
	patience = 5 * time.Second
	// burst is for how long requests may be saved up.
	burst = 10 * time.Second
	// maxBlobs is how many blobs of an account are known to be counted already. A pull
	// asks for fewer at the same time.
	maxBlobs = 64
	// maxAccounts bounds those that are kept.
	maxAccounts = 1 << 16
	// piece is how many bytes are sent at once at the most where they are paced.
	piece = 256 << 10
)

// A Limiter keeps the accounts. Make one with [New].
type Limiter struct {
	rules   atomic.Pointer[[]Rule]
	metrics *metrics

	mu       sync.Mutex
	accounts map[string]*account
	swept    time.Time
}

// Set replaces the rules. What was counted stays.
func (l *Limiter) Set(rules []Rule) { l.rules.Store(&rules) }

// limits are those of a client: of the first rule that is about it.
func (l *Limiter) limits(c access.Client) Limits {
	for _, r := range *l.rules.Load() {
		if r.For.About(c) {
			return r.Limits
		}
	}
	return Limits{}
}

// An account is what counts against a client. The zero value is that of a new one.
type account struct {
	mu       sync.Mutex
	requests *rate.Limiter // nil as long as it was not needed, like the others
	bytes    *rate.Limiter
	cold     *rate.Limiter
	pulls    slots
	fetches  slots // cold
	day      int64 // since 1970, in UTC
	sent     int64 // that day
	fetched  int64
	blobs    []oci.Digest // the last that are in fetched
}

// account finds that of a client.
func (l *Limiter) account(name string) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[name]; a != nil {
		return a
	}
	if len(l.accounts) >= maxAccounts {
		l.sweep(time.Now())
	}
	if len(l.accounts) >= maxAccounts {
		name = "" // nobody's name
		if a := l.accounts[name]; a != nil {
			return a
		}
	}
	a := new(account)
	l.accounts[name] = a
	return a
}

// sweep forgets accounts that are as new. It takes its time, and is not done often.
// The caller holds mu.
func (l *Limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < burst {
		return
	}
	l.swept = now
	for name, a := range l.accounts {
		if a.idle(now) {
			delete(l.accounts, name)
		}
	}
}

func (a *account) idle(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	full := func(r *rate.Limiter) bool { return r == nil || r.TokensAt(now) >= float64(r.Burst()) }
	return a.pulls.idle() && a.fetches.idle() &&
		(a.day != dayOf(now) || a.sent+a.fetched == 0) && full(a.requests) && full(a.bytes) && full(a.cold)
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// today begins a new day if need be. The caller holds mu.
func (a *account) today(now time.Time) {
	if d := dayOf(now); d != a.day {
		a.day, a.sent, a.fetched, a.blobs = d, 0, 0, nil
	}
}

// A Visit is one request of a client; nil is one without limits.
type Visit struct {
	l       *Limiter
	a       *account
	limits  Limits
	pulls   *place // that is taken; nil for none
	fetches *place
	charged oci.Cost // of the blob that this request had counted as cold; zero for none
}

// Enter begins a request, which Close ends. It waits a moment for who is early, and
// fails with TOOMANYREQUESTS.
func (l *Limiter) Enter(ctx context.Context, c access.Client) (*Visit, error) {
	limits := l.limits(c)
	if limits == (Limits{}) {
		return nil, nil //nolint:nilnil // a Visit without limits
	}
	v := &Visit{l: l, a: l.account(c.Account()), limits: limits}
	if per := limits.RequestsPerSecond; per > 0 {
		most := max(1, int(math.Ceil(per*burst.Seconds())))
		if wait := v.take(ctx, &v.a.requests, rate.Limit(per), most, 1, patience); wait > 0 {
			return nil, v.refuse(ctx, "requests_per_second", wait, "too many requests per second")
		}
	}
	return v, nil
}

// take takes n of a bucket, and waits for them at most as long as patient. It returns
// for how long one would have to wait otherwise.
func (v *Visit) take(ctx context.Context, bucket **rate.Limiter, limit rate.Limit, most, n int, patient time.Duration) time.Duration {
	now := time.Now()
	v.a.mu.Lock()
	if *bucket == nil {
		*bucket = rate.NewLimiter(limit, most)
	}
	b := *bucket
	b.SetLimitAt(now, limit) // the rules may have changed
	b.SetBurstAt(now, most)
	r := b.ReserveN(now, n)
	wait := r.DelayFrom(now)
	if wait > patient {
		r.CancelAt(now) // before the next one reserves: what is cancelled later is not given back
	}
	v.a.mu.Unlock()
	if wait > patient {
		return wait
	}
	if wait > 0 && !sleep(ctx, wait) {
		r.Cancel()
	}
	return 0
}

// sleep waits, and is false when ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Pull begins the sending of a blob. It waits a moment for a place among those that
// are sent at the same time, and fails with TOOMANYREQUESTS.
func (v *Visit) Pull(ctx context.Context) error { return v.PullPart(ctx, oci.Digest{}) }

// PullPart is Pull for a part of a blob. All parts of one that are sent at the same
// time have one place. The zero digest is that of none.
func (v *Visit) PullPart(ctx context.Context, d oci.Digest) error {
	if v == nil {
		return nil
	}
	if most := v.limits.BytesPerDay; most > 0 {
		v.a.mu.Lock()
		now := time.Now()
		v.a.today(now)
		over := v.a.sent >= most
		v.a.mu.Unlock()
		if over {
			return v.refuse(ctx, "bytes_per_day", untilTomorrow(now), "the bytes of today are used up")
		}
	}
	if v.limits.Pulls > 0 && v.pulls == nil {
		if v.pulls = v.a.enter(ctx, &v.a.pulls, v.limits.Pulls, d); v.pulls == nil {
			return v.refuse(ctx, "concurrent_pulls", time.Second, "too many blobs are being pulled at the same time")
		}
	}
	return nil
}

func untilTomorrow(now time.Time) time.Duration {
	return time.Unix((dayOf(now)+1)*24*60*60, 0).Sub(now)
}

// Close ends the request.
func (v *Visit) Close() {
	if v == nil {
		return
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	v.a.pulls.leave(v.pulls)
	v.a.fetches.leave(v.fetches)
	v.pulls, v.fetches = nil, nil
}

// Piece is how many bytes may be sent now, of n; it waits until they may. Less than n
// is only where bytes are paced. It ends with the error of ctx.
func (v *Visit) Piece(ctx context.Context, n int64) (int64, error) {
	if v == nil || v.limits.BytesPerSecond <= 0 {
		return n, nil
	}
	most := int(max(1, min(piece, v.limits.BytesPerSecond)))
	n = min(n, int64(most))
	v.take(ctx, &v.a.bytes, rate.Limit(v.limits.BytesPerSecond), most, int(n), time.Duration(math.MaxInt64))
	return n, context.Cause(ctx)
}

// Paced tells whether bytes have to wait.
func (v *Visit) Paced() bool { return v != nil && v.limits.BytesPerSecond > 0 }

// Sent counts bytes of blobs that are sent; less than zero for those that could not be.
func (v *Visit) Sent(n int64) {
	if v == nil || v.limits.BytesPerDay <= 0 {
		return
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	v.a.today(time.Now())
	v.a.sent += n
}

// refuse is what a client is told that has had too much.
func (v *Visit) refuse(ctx context.Context, limit string, wait time.Duration, why string) error {
	if err := context.Cause(ctx); err != nil {
		return err // it has left, which is no refusal
	}
	v.l.metrics.limited(limit)
	return &oci.Error{
		Code: oci.CodeTooManyRequests, RetryAfter: max(wait, time.Second),
		Message: "this mirror limits what each client may take: " + why + " (" + limit + "). 镜像站限制每个客户端的用量，请稍后再试。",
	}
}
