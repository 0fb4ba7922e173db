package rate

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"sampan/internal/oci"
)

// Admit is an [oci.Admission]: it counts what has to come from an upstream, and fails
// with TOOMANYREQUESTS. Whoever is refused is not counted, a blob that is asked for in
// parts counts once, as it comes once, and one that does not come is given back.
func (v *Visit) Admit(ctx context.Context, c oci.Cost) error {
	if v == nil {
		return nil
	}
	if c.Late {
		if c.Size == 0 {
			v.giveBack(c)
		}
		v.charge(c)
		return nil
	}
	cold := v.limits.Cold
	if err := v.coldBytes(ctx, c); err != nil {
		return err
	}
	entered := false
	if cold.Pulls > 0 && c.Blob && v.fetches == nil {
		if v.fetches = v.a.enter(ctx, &v.a.fetches, cold.Pulls, c.Digest); v.fetches == nil {
			return v.refuse(ctx, "cold.concurrent_pulls", time.Second, "too many blobs that are not here yet are being pulled at the same time")
		}
		entered = true
	}
	err := v.coldBytes(ctx, c) // others may have come while it waited
	if n := cold.RequestsPerHour; err == nil && n > 0 {
		if wait := v.take(ctx, &v.a.cold, rate.Limit(float64(n)/3600), n, 1, patience); wait > 0 {
			err = v.refuse(ctx, "cold.requests_per_hour", wait, "too many requests in an hour for what is not here yet")
		}
	}
	if err != nil {
		if entered {
			v.a.mu.Lock()
			v.a.fetches.leave(v.fetches)
			v.a.mu.Unlock()
			v.fetches = nil
		}
		return err
	}
	v.charge(c)
	return nil
}

// coldBytes refuses a blob when the bytes of the day are used up.
func (v *Visit) coldBytes(ctx context.Context, c oci.Cost) error {
	most := v.limits.Cold.BytesPerDay
	if most <= 0 || !c.Blob {
		return nil
	}
	now := time.Now()
	v.a.mu.Lock()
	v.a.today(now)
	over := v.a.fetched >= most && !v.a.counted(c.Digest)
	v.a.mu.Unlock()
	if over {
		return v.refuse(ctx, "cold.bytes_per_day", untilTomorrow(now), "the bytes of today for what is not here yet are used up")
	}
	return nil
}

// charge counts the bytes of a blob that is not here.
func (v *Visit) charge(c oci.Cost) {
	if v.limits.Cold.BytesPerDay <= 0 || !c.Blob || c.Size <= 0 {
		return
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	v.a.today(time.Now())
	if v.a.counted(c.Digest) {
		return
	}
	v.a.fetched += c.Size
	if c.Digest.IsZero() {
		return
	}
	v.charged = c
	if v.a.blobs = append(v.a.blobs, c.Digest); len(v.a.blobs) > maxBlobs {
		v.a.blobs = slices.Delete(v.a.blobs, 0, 1)
	}
}

// giveBack takes back what this request had counted of a blob that does not come.
func (v *Visit) giveBack(c oci.Cost) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	v.a.today(time.Now())
	if v.charged.Digest.IsZero() || v.charged.Digest != c.Digest {
		return
	}
	if i := slices.Index(v.a.blobs, c.Digest); i >= 0 { // it is still that day
		v.a.blobs = slices.Delete(v.a.blobs, i, i+1)
		v.a.fetched -= v.charged.Size
	}
	v.charged = oci.Cost{}
}

// counted tells whether a blob is among the last that were counted that day. The caller
// holds mu.
func (a *account) counted(d oci.Digest) bool { return !d.IsZero() && slices.Contains(a.blobs, d) }

// MayFetch tells whether it has anything left of what is cold: what is fetched ahead
// of it counts for nobody.
func (v *Visit) MayFetch() bool {
	if v == nil {
		return true
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	v.a.today(time.Now())
	cold := v.limits.Cold
	return (cold.BytesPerDay <= 0 || v.a.fetched < cold.BytesPerDay) &&
		(cold.RequestsPerHour <= 0 || v.a.cold == nil || v.a.cold.Tokens() >= 1)
}
