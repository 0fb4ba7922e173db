package fill_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"sampan/internal/oci"
)

// BenchmarkPieces fetches a blob that comes in pieces of a size, into a file, while
// one reader follows. It tells the CPU time of the process, since others may use the
// machine.
func BenchmarkPieces(b *testing.B) {
	const length = 64 << 20
	want := content(length, 124)
	d := oci.DigestOf(want)
	for _, piece := range []int{16<<10 - 22, 64<<10 - 53, 256 << 10} {
		b.Run(fmt.Sprint(piece), func(b *testing.B) {
			began := cpuTime(b)
			for b.Loop() {
				g := newGroup(b, newStore(b))
				r, err := g.Open(b.Context(), d, (&upstream{body: want, piece: piece}).source())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				_ = r.Close() // was only read
				g.Close()
			}
			b.ReportMetric((cpuTime(b)-began).Seconds()/float64(b.N)*(1<<30/length), "cpu-s/GiB")
		})
	}
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
