package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/edge"
	"sampan/internal/oci"
)

// newEdge serves h on a free port and returns its URL, the access log and the
// metrics. What was logged may be read when stop has returned.
func newEdge(t *testing.T, h http.HandlerFunc) (url string, access *bytes.Buffer, metrics *prometheus.Registry, stop func()) {
	t.Helper()
	access = new(bytes.Buffer)
	metrics = prometheus.NewRegistry()
	e, err := edge.New(edge.Options{
		Handler:    h,
		Log:        slog.New(slog.DiscardHandler),
		Access:     slog.New(slog.NewJSONHandler(access, nil)),
		Registerer: metrics,
		Registries: []oci.Registry{oci.DockerHub},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, 0, edge.Listener{Listener: ln}) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return "http://" + ln.Addr().String(), access, metrics, stop
}

func get(t *testing.T, url string) (status int, body []byte, err error) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func repository(t *testing.T, s string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryRequestHasOneAccessLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		handler func(w http.ResponseWriter, r *http.Request, trace *oci.Trace)
		status  int
		bytes   int
		result  string
	}{
		"a file": {func(w http.ResponseWriter, r *http.Request, trace *oci.Trace) {
			trace.Note(oci.ResultHit)
			http.ServeFile(w, r, file)
		}, 200, 100_000, "hit"},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request, _ *oci.Trace) {
			http.Error(w, "no", http.StatusForbidden)
		}, 403, 3, "refused"},
		"a failure": {func(w http.ResponseWriter, _ *http.Request, trace *oci.Trace) {
			trace.Note(oci.ResultMiss)
			http.Error(w, "no", http.StatusServiceUnavailable)
		}, 503, 3, "error"},
		"a body that breaks off": {func(w http.ResponseWriter, _ *http.Request, trace *oci.Trace) {
			trace.Note(oci.ResultFill)
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "part")
			panic(http.ErrAbortHandler)
		}, 200, 4, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			url, access, _, stop := newEdge(t, func(w http.ResponseWriter, r *http.Request) {
				trace := oci.TraceFrom(r.Context())
				trace.Repository, trace.Kind = repository(t, "docker.io/library/app"), "blob"
				tc.handler(w, r, trace)
			})
			_, _, _ = get(t, url+"/v2/some/path") // broken bodies are the handler's doing
			stop()
			if n := strings.Count(access.String(), "\n"); n != 1 {
				t.Fatalf("%d lines:\n%s", n, access)
			}
			var line struct {
				Path, Upstream, Repository, Result, Kind string
				Status, Bytes                            int
			}
			if err := json.Unmarshal(access.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if line.Path != "/v2/some/path" || line.Upstream != "docker.io" || line.Repository != "library/app" || line.Kind != "blob" ||
				line.Result != tc.result || line.Status != tc.status || line.Bytes != tc.bytes {
				t.Errorf("%s", access)
			}
		})
	}
}

func TestClientThatLeavesIsNoError(t *testing.T) {
	left := make(chan struct{})
	url, access, _, stop := newEdge(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
		panic(http.ErrAbortHandler)
	})
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	<-left
	stop()
	if !strings.Contains(access.String(), `"result":"left"`) {
		t.Errorf("%s", access)
	}
}

func TestStrangersMakeNoLabels(t *testing.T) {
	url, _, metrics, stop := newEdge(t, func(_ http.ResponseWriter, r *http.Request) {
		oci.TraceFrom(r.Context()).Repository = repository(t, r.URL.Query().Get("repo"))
	})
	for i := range 20 {
		_, _, _ = get(t, fmt.Sprintf("%s/?repo=registry%d.example/x", url, i))
	}
	_, _, _ = get(t, url+"/?repo=docker.io/library/x")
	stop()
	if n := testutil.CollectAndCount(metrics, "sampan_edge_requests_total"); n != 2 {
		t.Errorf("%d series, want docker.io and other", n)
	}
}

func TestOversizedHeadersAreRefused(t *testing.T) {
	url, _, _, _ := newEdge(t, func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = fmt.Fprintf(conn, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 200<<10))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// The wrapping must pass a file on as such, or the kernel cannot send it.
func TestFilesReachTheResponseAsFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := edge.New(edge.Options{Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, file)
	})})
	if err != nil {
		t.Fatal(err)
	}
	w := &fileSink{ResponseRecorder: httptest.NewRecorder()}
	e.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.files != 1 {
		t.Errorf("%d files reached the response", w.files)
	}
}

// A fileSink counts the files that it is given to read from.
type fileSink struct {
	*httptest.ResponseRecorder
	files int
}

func (w *fileSink) ReadFrom(r io.Reader) (int64, error) {
	if lr, ok := r.(*io.LimitedReader); ok {
		if _, ok := lr.R.(*os.File); ok {
			w.files++
		}
	}
	return io.Copy(w.ResponseRecorder, r)
}
