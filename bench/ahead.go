package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// ahead measures how long the end of a blob takes of which nothing is there, as a
// client wants it that pulls lazily or resumes.
func (b *bench) ahead() (string, error) {
	const size, piece, rate, most = 256 << 20, 1 << 20, 100_000_000, 2
	up, end, err := distant(roundTrip, registrytest.Behavior{Pace: registrytest.Pace{TotalBytesPerSecond: rate}})
	if err != nil {
		return "", err
	}
	defer end()
	d := up.AddBlob(repository, size, 11)
	want := make([]byte, piece)
	if _, err := up.Content(d.Digest).ReadAt(want, size-piece); err != nil && err != io.EOF {
		return "", err
	}
	shops := b.shops("ahead")
	times, answers := make([][]float64, len(shops)), make([]int, len(shops))
	for range b.rounds {
		for _, i := range rand.Perm(len(shops)) {
			took, status, err := askAhead(shops[i], up, d, want)
			if err != nil {
				return "", fmt.Errorf("%s: %w", shops[i].name, err)
			}
			times[i], answers[i] = append(times[i], took.Seconds()), status
		}
	}
	t := table{head: []string{"server", "answer", "time", "× direct", "spread", "target", "kept"}}
	for i, s := range shops {
		rs := ratios(times[i], times[0])
		m, goal, kept := median(rs), "", ""
		if s.goal {
			goal, kept = fmt.Sprintf("≤ %d", most), verdict(m, most)
		}
		t.add(s.name, strconv.Itoa(answers[i]), milliseconds(median(times[i])), fmt.Sprintf("%.2f", m), spread(rs), goal, kept)
	}
	return "Time until a client that asks for the last MiB of a blob of 256 MiB, of which nothing is there, has it all, connections included; the link carries 100 MB/s and takes 20 ms. 200 is an answer with all of the blob, whose end the client waits for:\n\n" + t.String(), nil
}

// askAhead asks for the end of a blob once and compares it.
func askAhead(s shop, up *registrytest.Registry, d oci.Descriptor, want []byte) (took time.Duration, status int, err error) {
	addr := up.Host()
	if s.start != nil {
		p, err := s.start(up.URL())
		if err != nil {
			return 0, 0, err
		}
		defer p.stop()
		addr = p.addr
	}
	client := http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+addr+blobPaths(s.prefix, []oci.Descriptor{d})[0], nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.Size-int64(len(want)), d.Size-1))
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK { // all of it, whatever was asked for
		_, err = io.CopyN(io.Discard, resp.Body, d.Size-int64(len(want)))
	} else if resp.StatusCode != http.StatusPartialContent {
		err = fmt.Errorf("%s to a Range", resp.Status)
	}
	if err != nil {
		return 0, 0, err
	}
	got, err := io.ReadAll(resp.Body)
	took = time.Since(began)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%d bytes that are not the right ones", len(got))
	}
	return took, resp.StatusCode, err
}
