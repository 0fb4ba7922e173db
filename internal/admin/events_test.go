package admin_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/admin"
	"sampan/internal/oci"
)

// streaming is an admin with a stream of events.
func streaming(t *testing.T) (*admin.Events, *httptest.Server) {
	t.Helper()
	events := &admin.Events{}
	a, err := admin.New(admin.Options{
		Gatherer: prometheus.NewRegistry(), Fills: func() []admin.Fill { return []admin.Fill{} },
		Upstreams: func() []admin.Upstream { return nil }, Events: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return events, s
}

// listen opens a stream; its first event has come.
func listen(t *testing.T, ctx context.Context, s *httptest.Server) (int, *bufio.Scanner) { //nolint:revive // as the other helpers of tests
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	for resp.StatusCode == http.StatusOK && lines.Scan() && lines.Text() != "" {
		continue
	}
	return resp.StatusCode, lines
}

func TestListenersHearOfFetchesThatBeginAndEnd(t *testing.T) {
	events, s := streaming(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	if status, lines := listen(t, ctx, s); status != http.StatusOK {
		t.Fatal(status)
	} else {
		f := admin.Fill{Digest: oci.DigestOf([]byte("one")), Repositories: []string{}}
		events.FillBegan(f)
		events.FillEnded(admin.FillEnd{Fill: f, Result: "stored"})
		var got []string
		for len(got) < 4 && lines.Scan() {
			if lines.Text() != "" {
				got = append(got, lines.Text())
			}
		}
		if len(got) != 4 || got[0] != "event: fill_began" || !strings.Contains(got[1], f.Digest.String()) || got[2] != "event: fill_ended" || !strings.Contains(got[3], `"result":"stored"`) {
			t.Errorf("got %q", got)
		}
	}
}

func TestListenersAreBoundedAndSlowOnesAreSentAway(t *testing.T) {
	events, s := streaming(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range 32 {
		if status, _ := listen(t, ctx, s); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	if status, _ := listen(t, ctx, s); status != http.StatusServiceUnavailable {
		t.Errorf("one more than may: %d", status)
	}
	// Nobody reads: telling ends all the same, and in the end nobody is left.
	f := admin.Fill{Digest: oci.DigestOf([]byte("one")), Repositories: []string{strings.Repeat("x", 100_000)}}
	for told := 0; events.Heard(); told++ {
		if told > 1_000_000 {
			t.Fatal("slow listeners stay")
		}
		events.FillBegan(f)
	}
}
