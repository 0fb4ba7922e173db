package edge_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/edge"
	"sampan/internal/oci"
)

const (
	blobDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	blobPath   = "/v2/library/app/blobs/" + blobDigest
)

// pulling is an edge whose handler is in the middle of something.
func pulling(t *testing.T, h func(e *edge.Edge, w http.ResponseWriter, r *http.Request)) (e *edge.Edge, url string) {
	t.Helper()
	e, err := edge.New(edge.Options{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(e, w, r) }),
		Log:     slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
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
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e, "http://" + ln.Addr().String()
}

// awaitNoPulls returns when none is listed, and fails when one stays.
func awaitNoPulls(t *testing.T, e *edge.Edge) {
	t.Helper()
	for began := time.Now(); len(e.Pulls()) > 0; runtime.Gosched() {
		if time.Since(began) > time.Minute {
			t.Fatalf("still listed: %+v", e.Pulls())
		}
	}
}

// A blob is listed from its first byte, with who gets it, of what, and how far it is;
// and not any more when it has ended, however it does.
func TestABlobIsListedWhileItIsSent(t *testing.T) {
	for name, tc := range map[string]struct {
		status, size int  // size 0: it is not told
		broken       bool // by the handler
		leaves       bool // the client
	}{
		"in full":             {status: http.StatusOK, size: 100},
		"a part":              {status: http.StatusPartialContent, size: 100},
		"of unknown length":   {status: http.StatusOK},
		"broken off":          {status: http.StatusOK, size: 100, broken: true},
		"whose client leaves": {status: http.StatusOK, size: 100, leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			goOn, sent := make(chan struct{}), make(chan string, 1)
			e, url := pulling(t, func(_ *edge.Edge, w http.ResponseWriter, r *http.Request) {
				trace := oci.TraceFrom(r.Context())
				trace.Repository, trace.Kind, trace.Who = repository(t, "docker.io/library/app"), "blob", "ann"
				if tc.size > 0 {
					w.Header().Set("Content-Length", strconv.Itoa(tc.size))
				}
				w.WriteHeader(tc.status)
				_, _ = w.Write(make([]byte, 40)) // who counts says what was sent
				_ = http.NewResponseController(w).Flush()
				sent <- trace.ID
				select {
				case <-goOn:
				case <-r.Context().Done():
					panic(http.ErrAbortHandler)
				}
				if tc.broken {
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write(make([]byte, 60))
			})
			before := time.Now()
			resp, err := http.Get(url + blobPath)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			id := <-sent
			list := e.Pulls()
			if len(list) != 1 {
				t.Fatalf("%+v", list)
			}
			p, size := list[0], int64(tc.size)
			if size == 0 {
				size = -1
			}
			if p.Request != id || id == "" || p.Client != "127.0.0.1" || p.User != "ann" || p.Repository.String() != "docker.io/library/app" ||
				p.Digest != blobDigest || p.Size != size || p.Bytes != 40 || p.Rate < 0 || p.Since.Before(before) || p.Since.After(time.Now()) {
				t.Errorf("%+v", p)
			}
			if tc.leaves {
				_ = resp.Body.Close()
			} else {
				close(goOn)
				body, err := io.ReadAll(resp.Body)
				if (err != nil) != tc.broken || !tc.broken && len(body) != 100 {
					t.Errorf("%d bytes, %v", len(body), err)
				}
			}
			awaitNoPulls(t, e)
		})
	}
}

// What is no body of a blob is not listed, also while it is sent.
func TestWhatIsNoBodyOfABlobIsNotListed(t *testing.T) {
	for name, tc := range map[string]struct {
		method, kind string
		status       int
	}{
		"a question for a blob":    {http.MethodHead, "blob", http.StatusOK},
		"a manifest":               {http.MethodGet, "manifest", http.StatusOK},
		"a blob that is not there": {http.MethodGet, "blob", http.StatusNotFound},
		"a blob that is elsewhere": {http.MethodGet, "blob", http.StatusTemporaryRedirect},
		"a page":                   {http.MethodGet, "", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			listed := make(chan []edge.Pull, 1)
			e, url := pulling(t, func(e *edge.Edge, w http.ResponseWriter, r *http.Request) {
				trace := oci.TraceFrom(r.Context())
				trace.Repository, trace.Kind = repository(t, "docker.io/library/app"), tc.kind
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, "text")
				listed <- e.Pulls()
			})
			req, err := http.NewRequestWithContext(t.Context(), tc.method, url+blobPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if list := <-listed; len(list) != 0 || len(e.Pulls()) != 0 {
				t.Errorf("%+v", list)
			}
		})
	}
}

// Pulls come in the order in which they began, and a file that is handed to the kernel
// is counted as it goes.
func TestPullsAreListedOldestFirst(t *testing.T) {
	const size = 3 << 20
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	goOn, sent := make(chan struct{}), make(chan struct{}, 3)
	e, url := pulling(t, func(_ *edge.Edge, w http.ResponseWriter, r *http.Request) {
		trace := oci.TraceFrom(r.Context())
		trace.Repository, trace.Kind = repository(t, "docker.io"+r.URL.Query().Get("repo")), "blob"
		f, err := os.Open(file)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Length", strconv.Itoa(size))
		n, err := io.CopyN(w, f, 1<<20)
		sent <- struct{}{}
		<-goOn
		if err == nil {
			_, err = io.CopyN(w, f, size-n)
		}
		if err != nil {
			t.Error(err)
		}
	})
	repos := []string{"/x/one", "/x/two", "/x/three"}
	var bodies []io.Reader
	for _, repo := range repos {
		resp, err := http.Get(url + blobPath + "?repo=" + repo)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, resp.Body)
		<-sent
	}
	for i, p := range e.Pulls() {
		if p.Repository.String() != "docker.io"+repos[i] || p.Bytes != 1<<20 || p.Size != size {
			t.Errorf("%d: %+v", i, p)
		}
	}
	if n := len(e.Pulls()); n != len(repos) {
		t.Errorf("%d are listed", n)
	}
	close(goOn)
	for _, body := range bodies {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
	}
	awaitNoPulls(t, e)
}
