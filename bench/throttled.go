package main

import (
	"fmt"
	"strconv"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// throttled compares a cold pull with a direct one where each connection is
// slow, whatever the number of them.
func (b *bench) throttled() (string, error) {
	const size, rate, trip, least = 256 << 20, 4_000_000, 150 * time.Millisecond, 6
	up, end, err := distant(trip, registrytest.Behavior{Pace: registrytest.Pace{BytesPerSecond: rate}})
	if err != nil {
		return "", err
	}
	defer end()
	t := table{head: []string{"round", "direct, one connection", "through sampan", "× faster", "lines", "received / size", "sent / size"}}
	var gains []float64
	for round := range b.few(2) {
		d := up.AddBlob(repository, size, uint64(round))
		direct, err := b.one(up.Host(), "", d)
		if err != nil {
			return "", err
		}
		up.ResetCounts()
		through, e, err := b.through("sampan-throttled", up.URL(), d)
		if err != nil {
			return "", err
		}
		gains = append(gains, direct/through)
		t.add(strconv.Itoa(round+1), seconds(direct), seconds(through), fmt.Sprintf("%.1f", gains[round]), strconv.Itoa(e.lines),
			fmt.Sprintf("%.3f", float64(e.received)/size), fmt.Sprintf("%.3f", float64(up.BytesSentOf(d.Digest))/size))
	}
	return fmt.Sprintf("A blob of 256 MiB that is not there, from an upstream that gives each connection 4 MB/s, over a link of 150 ms:\n\n%s\nMedian gain %.1f; target: ≥ %d. Kept: %s.\n",
		t.String(), median(gains), least, verdictLeast(median(gains), least)), nil
}

// one pulls a blob over one connection and returns the seconds that it took.
func (b *bench) one(addr, prefix string, d oci.Descriptor) (float64, error) {
	r, err := b.load(addr, "-digest", d.Digest.Hex(), blobPaths(prefix, []oci.Descriptor{d})[0])
	if err == nil {
		err = r.clean()
	}
	return r.Seconds, err
}

// through pulls a blob through a new, empty sampan, and tells what that did.
func (b *bench) through(name, upstream string, d oci.Descriptor) (float64, engine, error) {
	p, err := b.sampan(name, upstream)
	if err != nil {
		return 0, engine{}, err
	}
	defer p.stop()
	end := p.watch()
	took, err := b.one(p.addr, registryName+"/", d)
	e, werr := end()
	if err == nil {
		err = werr
	}
	return took, e, err
}
