package app_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// What is here is served to who may have nothing more that is not.
func TestColdContentIsLimitedApartFromWarm(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	blobs := []string{up.AddBlob("team/app", 100_000, 1).Digest.String(), up.AddBlob("team/app", 100_000, 2).Digest.String(), up.AddBlob("team/app", 100_000, 3).Digest.String()}
	text := func(cold int) string {
		return fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nlimits: {clients: [{cold: {requests_per_hour: %d}, bytes_per_day: 1MiB}]}\n", up.URL(), cold)
	}
	m := startReloadable(t, text(2))
	path := func(i int) string { return "/v2/up.test/team/app/blobs/" + blobs[i] }
	for i := range 2 {
		if r := m.get(t, path(i)); r.status != http.StatusOK || len(r.body) != 100_000 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	m.settle(t)
	before := up.Count("")
	r := m.get(t, path(2))
	if after, err := strconv.Atoi(r.header.Get("Retry-After")); r.status != http.StatusTooManyRequests || err != nil || after < 60 || after > 1800 || r.code() != "TOOMANYREQUESTS" {
		t.Errorf("%d, %v, %s", r.status, r.header, r.body)
	}
	if n := up.Count(""); n != before {
		t.Errorf("the upstream was asked %d times", n-before)
	}
	if r := m.get(t, path(0)); r.status != http.StatusOK || len(r.body) != 100_000 {
		t.Errorf("what is here: %d", r.status)
	}
	if metrics := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics"); !strings.Contains(string(metrics.body), `sampan_access_limited_total{limit="cold.requests_per_hour"} 1`) {
		t.Error("it is not counted")
	}
	// 300,000 bytes are counted, also over a reload: eight more of these begin below the limit.
	m.write(t, text(1000))
	if err := m.app.Reload(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 200, 200, 200, 200, 200, 200, 200, 429} {
		if r := m.get(t, path(i%3)); r.status != want {
			t.Errorf("pull %d: %d %s", i, r.status, r.body)
		}
	}
}

// A client that asks with HEAD first is told what one is told that does not, whoever
// came before: each mirror here is asked by one of them alone.
func TestHeadAndGetOfABlobAreRefusedAlikeThroughTheMirror(t *testing.T) {
	for _, missing := range []registrytest.Missing{
		registrytest.MissingSpec, registrytest.MissingUnauthorized, registrytest.MissingDenied, registrytest.MissingXML, registrytest.MissingEmpty,
	} {
		up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
			Missing: missing, Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer},
		}})
		up.AddImage("team/app", "1", registrytest.ImageSpec{})
		absent := oci.DigestOf([]byte("absent")).String()
		for _, repository := range []string{"team/app", "no/such"} {
			path := "/v2/up.test/" + repository + "/blobs/" + absent
			var told []string
			for _, order := range [][]string{{http.MethodGet, http.MethodHead}, {http.MethodHead, http.MethodGet}} {
				m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\n", up.URL()))
				for _, method := range order {
					req, err := http.NewRequestWithContext(t.Context(), method, "http://"+m.app.Addr()+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := m.client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if err = errors.Join(err, resp.Body.Close()); err != nil {
						t.Fatal(err)
					}
					// A HEAD has no words: the length of what it leaves out stands for them.
					told = append(told, fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Length")))
					if method == http.MethodGet {
						told = append(told, string(body))
					}
				}
			}
			// GET, its words, HEAD; HEAD, GET, its words.
			if told[0] != told[2] || told[0] != told[3] || told[0] != told[4] || told[1] != told[5] {
				t.Errorf("form %v, %s: %q", missing, repository, told)
			}
		}
	}
}
