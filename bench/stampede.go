package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// stampede lets many clients ask at once for a blob that is not there, over an
// upstream link of limited rate.
func (b *bench) stampede() (string, error) {
	const clients, size, rate = 200, 256 << 20, 6 << 20
	up, err := registrytest.Start(registrytest.Options{
		CountsOnly: true,
		Behavior:   registrytest.Behavior{Pace: registrytest.Pace{TotalBytesPerSecond: rate}},
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = up.Close() }() // it has nothing to lose
	t := table{head: []string{"round", "one direct download", "last of 200 done", "ratio", "upstream bytes / size", "right", "wrong or short"}}
	var rs, crossed []float64
	var bad int64
	for round := range b.few(2) {
		d := up.AddBlob(repository, size, uint64(round))
		file := filepath.Join(b.work, "expected")
		if err := save(file, up, d); err != nil {
			return "", err
		}
		p, err := b.sampan("sampan-stampede", up.URL())
		if err != nil {
			return "", err
		}
		direct, err := b.load(up.Host(), "-expect", file, "-digest", d.Digest.Hex(), blobPaths("", []oci.Descriptor{d})[0])
		if err == nil {
			err = direct.clean()
		}
		if err != nil {
			p.stop()
			return "", err
		}
		up.ResetCounts()
		r, err := b.load(p.addr, "-conns", strconv.Itoa(clients), "-requests", strconv.Itoa(clients), "-expect", file,
			blobPaths(registryName+"/", []oci.Descriptor{d})[0])
		p.stop()
		if err != nil {
			return "", err
		}
		rs = append(rs, r.Seconds/direct.Seconds)
		crossed = append(crossed, float64(up.BytesSentOf(d.Digest))/size)
		wrong := clients - r.Requests
		bad += wrong
		t.add(strconv.Itoa(round+1), fmt.Sprintf("%.2f s", direct.Seconds), fmt.Sprintf("%.2f s", r.Seconds), fmt.Sprintf("%.3f", rs[round]),
			fmt.Sprintf("%.2f", crossed[round]), strconv.FormatInt(r.Requests, 10), strconv.FormatInt(wrong, 10))
	}
	kept := "yes"
	if median(rs) > 1.15 || median(crossed) > 1.004 || bad > 0 {
		kept = "**no**"
	}
	return fmt.Sprintf("200 clients ask at once for a blob of 256 MiB that is not there; the upstream's link carries %d MiB/s; every byte that every client got is compared:\n\n%s\nMedian ratio %.3f; target: ≤ 1.15, upstream bytes 1.00 × the size, all right. Kept: %s.\n",
		rate>>20, t.String(), median(rs), kept), nil
}

// save writes the right bytes of a blob to a file.
func save(file string, up *registrytest.Registry, d oci.Descriptor) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, io.NewSectionReader(up.Content(d.Digest), 0, d.Size)); err != nil {
		return err
	}
	return f.Close()
}
