// Package doctor finds out why images do not come from the mirror, and says what to do.
//
// It looks at the runtimes of a machine, at the mirror, at the names and the
// reachability of the registries, at clock, proxies and disks. It changes nothing,
// sends no credentials but the person's own to the mirror, and asks registries for
// nothing but /v2/. A machine on which everything is wrong is examined all the same:
// what is wrong is a [Finding], never an error.
//
// Dialling, resolving and the rest of the world are handed in.
package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sampan/internal/runtimes"
)

// Options are what is examined, and the world. Nothing of it may be nil but what says
// so.
type Options struct {
	Machine *runtimes.Machine
	Targets []runtimes.Target
	Mirror  Mirror
	// Registries are asked directly.
	Registries []Registry

	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Second is another resolver, which is asked where the first one's answer leads
	// nowhere; nil for none.
	Second func(ctx context.Context, host string) ([]netip.Addr, error)
	// Roots are whom this machine trusts; nil means the system's.
	Roots *x509.CertPool
	Now   func() time.Time
	// Free tells the bytes that are free, and all, of the disk of a directory.
	Free func(dir string) (free, size uint64, err error)
	// Timeout is for each question; zero means [DefaultTimeout].
	Timeout time.Duration
}

// DefaultTimeout is how long each question may take.
const DefaultTimeout = 5 * time.Second

// A Mirror is the one that the person uses.
type Mirror struct {
	URL, Host string
	PlainHTTP bool
	Assumed   bool   // nobody named one
	CA        []byte // PEM; nil for the system's
	// Username and Password are the person's login; empty for none.
	Username, Password string
}

// A Registry is one to be asked directly, at https://Host.
type Registry struct{ Name, Host string }

// A Severity is how much a finding matters.
type Severity string

// Severities: a problem keeps images from coming, or soon will; a warning is worth
// knowing.
const (
	Problem Severity = "problem"
	Warning Severity = "warning"
)

// A Finding is something that is not as it should be.
type Finding struct {
	ID       string // "mirror-connect": never changes
	Severity Severity
	What, Do runtimes.Text
	rank     int
}

// A Check is one question and its answer.
type Check struct {
	ID   string
	OK   bool
	Says runtimes.Text
}

// A Report is all that was found.
type Report struct {
	Mirror     []Check
	Runtimes   []Runtime
	Registries []Reach
	Proxies    []Check
	Disks      []Disk
	Findings   []Finding // the most important first
}

// Problems tells whether there is a finding that is one.
func (r *Report) Problems() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Problem })
}

// Ranks of findings: what explains others comes first.
const (
	rankMirror = iota
	rankClock
	rankDisk
	rankRuntime
	rankRegistry
	rankRest
)

// An examination is a report that is being made.
type examination struct {
	o       Options
	addrs   []netip.Addr // of the mirror
	works   bool         // the mirror
	uses    bool         // some runtime uses it
	mu      sync.Mutex
	report  Report
	expired bool // a certificate is, or is not yet, valid: the clock may be wrong
}

// Run examines everything. It ends early, with what was found until then, only where
// ctx ends.
func Run(ctx context.Context, o Options) *Report {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	x := &examination{o: o}
	x.mirror(ctx)
	x.runtimes(ctx)
	x.registries(ctx)
	x.proxies()
	x.disks()
	slices.SortStableFunc(x.report.Findings, func(a, b Finding) int {
		if a.Severity != b.Severity {
			return cmp.Compare(a.Severity, b.Severity) // "problem" before "warning"
		}
		return cmp.Compare(a.rank, b.rank)
	})
	return &x.report
}

func (x *examination) find(rank int, s Severity, id string, what, do runtimes.Text) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.report.Findings = append(x.report.Findings, Finding{id, s, what, do, rank})
}

func (x *examination) check(id string, ok bool, says runtimes.Text) {
	x.report.Mirror = append(x.report.Mirror, Check{id, ok, says})
}

// say is a sentence in both languages with the same arguments.
func say(english, chinese string, args ...any) runtimes.Text {
	if len(args) == 0 {
		return runtimes.Text{English: english, Chinese: chinese}
	}
	return runtimes.Text{English: fmt.Sprintf(english, args...), Chinese: fmt.Sprintf(chinese, args...)}
}
