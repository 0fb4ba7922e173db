package cache

import (
	"math"
	"slices"
	"time"

	"sampan/internal/oci"
)

// Forever is a bound that is never reached.
const Forever time.Duration = math.MaxInt64

// Freshness is how the answers about one repository age. The zero value asks
// each time, serves nothing stale and remembers nothing that is missing.
type Freshness struct {
	// FreshFor is how long a tag, a list of tags and a list of referrers are
	// served without asking again; 0 asks each time.
	FreshFor time.Duration
	// StaleIfError is how old an answer may be, since an upstream last confirmed
	// it, that is served because the upstream gives none now; 0 serves none, and
	// [Forever] is no bound.
	StaleIfError time.Duration
	// MissingFor is how long an upstream's "unknown", "unauthorized" and "denied"
	// are given again without asking; 0 asks each time.
	MissingFor time.Duration
	// Immutable are the tags that never move. One that is here is not asked for
	// again.
	Immutable []oci.Pattern
	// Refresh asks for tags in use again in the background, shortly before they
	// are no longer fresh.
	Refresh bool
}

// fresh tells whether what was confirmed at that time need not be asked for. A
// clock that was set back must not keep it for ever.
func (f Freshness) fresh(checked time.Time) bool {
	return time.Since(checked).Abs() < f.FreshFor
}

// serves tells whether what was confirmed at that time may be served in place of
// an answer that cannot be had.
func (f Freshness) serves(checked time.Time) bool {
	return f.StaleIfError > 0 && time.Since(checked).Abs() <= f.StaleIfError
}

const (
	// stretch is how many times longer answers are given without asking when
	// little may still be asked, and leastStretched what is taken for FreshFor at
	// least.
	stretch        = 10
	leastStretched = time.Minute
)

// stretched tells whether what was confirmed at that time need not be asked for
// while little may still be asked.
func (f Freshness) stretched(checked time.Time) bool {
	return time.Since(checked).Abs() < stretch*min(max(f.FreshFor, leastStretched), Forever/stretch)
}

// immutable tells whether the tag never moves.
func (f Freshness) immutable(tag oci.Tag) bool {
	return slices.ContainsFunc(f.Immutable, func(p oci.Pattern) bool { return p.Match(tag.String()) })
}

// A Reason says why an answer was served that ought to have been asked for
// again.
type Reason string

// The reasons, in the words of the metrics.
const (
	ReasonError   Reason = "error"   // the upstream gives no answer, or not in time
	ReasonBudget  Reason = "budget"  // the upstream limits the rate, or soon will
	ReasonOffline Reason = "offline" // nobody is asked
)

// sentence is what the client is told: what was said at that time.
func (r Reason) sentence(checked time.Time) string {
	why := "the upstream gives no answer"
	switch r {
	case ReasonBudget:
		why = "the upstream limits how often it may be asked"
	case ReasonOffline:
		why = "this mirror is offline"
	case ReasonError:
	}
	return why + "; this is what it said at " + checked.UTC().Format(time.RFC3339)
}

// reasonOf is the reason that a failure to get an answer makes.
func reasonOf(err error) Reason {
	if oci.CodeOf(err) == oci.CodeTooManyRequests {
		return ReasonBudget
	}
	return ReasonError
}

// A sparer is an upstream's reader that can tell that little may still be asked
// about a repository.
type sparer interface {
	Spare(repo oci.Repository) bool
}
