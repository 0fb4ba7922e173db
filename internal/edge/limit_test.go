package edge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sampan/internal/edge"
)

// newLimited serves h with a short BodyTimeout and returns its address.
func newLimited(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	e, err := edge.New(edge.Options{Handler: h, Log: slog.New(slog.DiscardHandler), BodyTimeout: 50 * time.Millisecond})
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
	return ln.Addr().String()
}

// A client that announces a body and does not send it gets its answer and loses
// its connection.
func TestBodyThatNeverComesHoldsNoConnection(t *testing.T) {
	addr := newLimited(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) })
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 405 ") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPanicOfAHandlerIsLoggedAndBreaksTheResponse(t *testing.T) {
	for what, want := range map[any]bool{"a bug": true, http.ErrAbortHandler: false} {
		var log bytes.Buffer
		e, err := edge.New(edge.Options{
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(what) }),
			Log:     slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("the server sees %v", err)
				}
			}()
			e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v2/", nil))
		}()
		if told := strings.Contains(log.String(), "a bug") && strings.Contains(log.String(), "limit_test.go"); told != want {
			t.Errorf("panic %v: the log says %q", what, log.String())
		}
	}
}
