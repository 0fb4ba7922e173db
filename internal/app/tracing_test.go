package app_test

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"sampan/internal/registrytest"
)

// A receiver takes spans as a collector does.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*spans.Span
	raw   []byte
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := io.Reader(req.Body)
		if req.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(req.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		raw, err := io.ReadAll(body)
		var msg collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(raw, &msg)
		}
		if err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", req.URL.Path, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, raw...)
		for _, resource := range msg.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				r.spans = append(r.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func attribute(s *spans.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			if text := a.GetValue().GetStringValue(); text != "" {
				return text
			}
			return fmt.Sprint(a.GetValue().GetIntValue())
		}
	}
	return ""
}

// A cold blob that two clients read is one fetch, linked with both requests, and what
// the upstream was asked is below it. No secret is in any of it.
func TestARequestIsTracedToTheUpstream(t *testing.T) {
	c := startReceiver(t)
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.DockerHub()})
	blob := up.AddBlob("team/app", 300_000, 1)
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\ntracing: {endpoint: %q}\ntrusted_proxies: [127.0.0.1]\n", up.URL(), c.URL))
	hold := registrytest.NewGate()
	behavior := registrytest.DockerHub()
	behavior.Faults = []registrytest.Fault{{HangAfterHeaders: hold}}
	up.SetBehavior(behavior)
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+"/v2/up.test/team/app/blobs/"+blob.Digest.String(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
			req.SetBasicAuth("somebody", "very-secret")
			resp, err := m.client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			n, err := io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if err != nil || n != 300_000 {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	for !strings.Contains(string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body), "\nsampan_fill_joins_total 1\n") {
		if t.Context().Err() != nil {
			t.Fatal("the second client does not join the fetch")
		}
	}
	hold.Open()
	wg.Wait()
	m.end(t) // sends what is left
	byName := make(map[string][]*spans.Span)
	for _, s := range c.spans {
		byName[s.GetName()] = append(byName[s.GetName()], s)
	}
	requests, fills := byName["blob"], byName["fill"]
	if len(requests) != 2 || len(fills) != 1 || len(byName["cache blob"]) != 2 || len(byName["upstream GET"]) == 0 {
		t.Fatalf("spans: %v", spanNames(c.spans))
	}
	fill := fills[0]
	for _, r := range requests {
		if hex.EncodeToString(r.GetTraceId()) != parent || attribute(r, "sampan.repository") != "team/app" || attribute(r, "http.response.status_code") != "200" || attribute(r, "sampan.request") == "" {
			t.Errorf("request: %v", r)
		}
	}
	linked := 0
	for _, s := range byName["cache blob"] {
		for _, l := range s.GetLinks() {
			if string(l.GetSpanId()) == string(fill.GetSpanId()) {
				linked++
			}
		}
	}
	if linked != 2 || len(fill.GetLinks()) != 1 || string(fill.GetTraceId()) == string(requests[0].GetTraceId()) || attribute(fill, "sampan.bytes") != "300000" {
		t.Errorf("%d are linked with the fetch %v", linked, fill)
	}
	below, moved := 0, 0
	for _, s := range byName["upstream GET"] {
		if string(s.GetTraceId()) == string(fill.GetTraceId()) {
			below++
			if attribute(s, "url.path") == "" {
				moved++
			}
		}
	}
	if below < 2 || moved == 0 {
		t.Errorf("below the fetch are %d exchanges, %d of them redirected: %v", below, moved, spanNames(c.spans))
	}
	for _, secret := range []string{"very-secret", "verify=", "X-Amz", "Bearer", "signature", "sig="} {
		if strings.Contains(string(c.raw), secret) {
			t.Errorf("%q is told to the collector", secret)
		}
	}
}

func spanNames(list []*spans.Span) (names []string) {
	for _, s := range list {
		names = append(names, s.GetName())
	}
	return names
}
