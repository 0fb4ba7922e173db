package config

import (
	"strings"
	"testing"
	"time"
)

func TestEndpointsSayWhatTheyServe(t *testing.T) {
	c := mustLoad(t, `
upstreams:
  docker.io:
    hedge: 300ms
    rate_limit_wait: 0
    endpoints:
      - {url: 'https://m.example', serves: blobs}
      - {url: 'https://registry-1.docker.io', serves: all}
      - url: https://other.example
`, nil)
	u := upstream(t, c, "docker.io")
	var serves []bool
	for _, e := range u.Endpoints {
		serves = append(serves, e.BlobsOnly)
	}
	if len(serves) != 3 || !serves[0] || serves[1] || serves[2] {
		t.Errorf("got %v", serves)
	}
	if time.Duration(u.Hedge) != 300*time.Millisecond || u.RateLimitWait != 0 {
		t.Errorf("hedge %s, wait %s", u.Hedge, u.RateLimitWait)
	}
	if other := upstream(t, c, "quay.io"); other.Hedge != 0 || other.RateLimitWait != DefaultRateLimitWait {
		t.Errorf("defaults: hedge %s, wait %s", other.Hedge, other.RateLimitWait)
	}
	var shown strings.Builder
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	again := upstream(t, mustLoad(t, shown.String(), nil), "docker.io")
	if len(again.Endpoints) != 3 || !again.Endpoints[0].BlobsOnly || again.Hedge != u.Hedge || again.RateLimitWait != u.RateLimitWait {
		t.Errorf("shown and read again it is %+v", again)
	}
}
