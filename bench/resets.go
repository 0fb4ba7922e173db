package main

import (
	"fmt"
	"strconv"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// resets lets the upstream reset each connection after a tenth of the blob, and
// counts who notices and what crosses twice.
func (b *bench) resets() (string, error) {
	const size, rate, clients, most = 256 << 20, 50_000_000, 20, 1.01
	up, end, err := distant(0, registrytest.Behavior{
		Pace:   registrytest.Pace{BytesPerSecond: rate},
		Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: size / 10, Reset: true}},
	})
	if err != nil {
		return "", err
	}
	defer end()
	t := table{head: []string{"server", "requests upstream", "sent by upstream / size", "received / size", "clients right", "clients with an error", "target", "kept"}}
	for i, s := range b.shops("resets") {
		if s.start == nil {
			continue
		}
		d := up.AddBlob(repository, size, uint64(i))
		up.ResetCounts()
		p, err := s.start(up.URL())
		if err != nil {
			return "", err
		}
		r, err := b.load(p.addr, "-conns", strconv.Itoa(clients), "-requests", strconv.Itoa(clients), "-hashed", blobPaths(s.prefix, []oci.Descriptor{d})[0])
		var received int64
		if err == nil && s.goal {
			received, err = p.metric("sampan_fill_upstream_bytes_total")
		}
		p.stop()
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
		sent := float64(up.BytesSentOf(d.Digest)) / size
		got, goal, kept := "", "", ""
		if s.goal {
			got = fmt.Sprintf("%.4f", float64(received)/size)
			goal = fmt.Sprintf("no error, sent ≤ %.2f", most)
			kept = verdict(sent, most)
			if r.Requests != clients {
				kept = "**no**"
			}
		}
		t.add(s.name, strconv.Itoa(up.Count(registrytest.KindBlob, "GET")), fmt.Sprintf("%.4f", sent), got,
			strconv.FormatInt(r.Requests, 10), strconv.FormatInt(clients-r.Requests, 10), goal, kept)
	}
	return fmt.Sprintf("%d clients want a blob of 256 MiB that is not there; the upstream gives each connection %d MB/s and resets it after a tenth of the blob. Sent is what the upstream's operating system took, whether or not it arrived; received is what sampan says that came:\n\n%s",
		clients, rate/1_000_000, t.String()), nil
}
