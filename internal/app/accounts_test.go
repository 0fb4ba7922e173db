package app

import (
	"net/url"
	"slices"
	"testing"

	"sampan/internal/config"
	"sampan/internal/upstream"
)

func TestWhichEndpointsLearnCredentials(t *testing.T) {
	yes, no := true, false
	at := func(host string, blobsOnly bool, credentials *bool) config.Endpoint {
		return config.Endpoint{URL: &url.URL{Scheme: "https", Host: host}, BlobsOnly: blobsOnly, Credentials: credentials}
	}
	for _, c := range []struct {
		fact      string
		endpoints []config.Endpoint
		want      []bool
	}{
		{"the first one", []config.Endpoint{at("a", false, nil), at("b", false, nil)}, []bool{true, false}},
		{"the first one that serves all", []config.Endpoint{at("a", true, nil), at("b", false, nil)}, []bool{false, true}},
		{"also one that is named", []config.Endpoint{at("a", false, nil), at("b", true, &yes)}, []bool{true, true}},
		{"not one that is excluded", []config.Endpoint{at("a", false, &no), at("b", false, nil)}, []bool{false, true}},
	} {
		t.Run(c.fact, func(t *testing.T) {
			cu := config.Upstream{Endpoints: c.endpoints}
			if got := told(cu); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			creds := pinned(told(cu), cu, upstream.Static(upstream.Credential{Token: "x"}))
			for i, e := range c.endpoints {
				if got, err := creds(t.Context(), e.URL); err != nil || got.IsZero() == c.want[i] {
					t.Errorf("%s gets %v, %v", e.URL, got, err)
				}
			}
			plain := &url.URL{Scheme: "http", Host: "a"}
			if got, _ := creds(t.Context(), plain); !got.IsZero() {
				t.Error("the same host without TLS is another endpoint")
			}
		})
	}
}
