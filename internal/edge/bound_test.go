package edge_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/edge"
)

// pipes is a listener whose connections have no buffers and no network, so that time
// may stand still around them.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// dial is a new connection of a client.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// A listenerCase is one of the listeners of a process.
type listenerCase struct {
	name string
	run  func(t *testing.T, ctx context.Context, ln net.Listener) error
}

func everyListener(h http.HandlerFunc) []listenerCase {
	log := slog.New(slog.DiscardHandler)
	edgeWith := func(redirect http.Handler) func(*testing.T, context.Context, net.Listener) error {
		return func(t *testing.T, ctx context.Context, ln net.Listener) error {
			e, err := edge.New(edge.Options{Handler: h, Log: log, MinRate: 8 << 10})
			if err != nil {
				t.Error(err)
				return err
			}
			return e.Serve(ctx, 0, edge.Listener{Listener: ln, Handler: redirect})
		}
	}
	return []listenerCase{
		{"registries", edgeWith(nil)},
		{"redirect", edgeWith(edge.RedirectHTTPS("443"))},
		{"operator", func(_ *testing.T, ctx context.Context, ln net.Listener) error {
			return edge.Serve(ctx, ln, edge.NewServer(h, log), 0)
		}},
	}
}

// Nobody holds a connection by what does not come, at any listener.
func TestSlowClientsLoseTheirConnectionEverywhere(t *testing.T) {
	for _, l := range everyListener(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }) {
		for _, c := range []struct {
			name, sent string
			within     time.Duration
		}{
			{"says nothing", "", 15 * time.Second},
			{"half a header", "GET / HTTP/1.1\r\nHost: a\r\nX-", 15 * time.Second},
			{"half a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf", 15 * time.Second},
			{"chunks without end", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 15 * time.Second},
			{"idles after an answer", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3 * time.Minute},
			{"idles after a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", 3 * time.Minute},
		} {
			t.Run(l.name+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					ln, ended := newPipes(), make(chan error, 1)
					go func() { ended <- l.run(t, ctx, ln) }()
					conn := ln.dial()
					began := time.Now()
					if _, err := io.WriteString(conn, c.sent); err != nil {
						t.Fatal(err)
					}
					_, err := io.Copy(io.Discard, conn)
					if err != nil {
						t.Error(err)
					}
					if took := time.Since(began); took > c.within+time.Second {
						t.Errorf("the connection was held for %v, want %v at most", took, c.within)
					}
					cancel()
					if err := <-ended; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// The deadline of a body is not that of the answer: what is asked for by a body may
// take long.
func TestAnswersOutliveTheDeadlineOfTheBody(t *testing.T) {
	long := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		select {
		case <-time.After(time.Hour):
			_, _ = w.Write(body)
		case <-r.Context().Done():
		}
	}
	for _, l := range everyListener(long) {
		if l.name == "redirect" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				ln, ended := newPipes(), make(chan error, 1)
				go func() { ended <- l.run(t, ctx, ln) }()
				conn := ln.dial()
				if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(conn)
				if err != nil || !strings.HasSuffix(string(got), "\r\n\r\nbody") {
					t.Errorf("got %q, %v", got, err)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A body that is larger than anything that is asked for is refused before it is read.
func TestBodiesForTheOperatorAreBounded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan int64, 1)
	srv := edge.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		read <- n
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- edge.Serve(ctx, ln, srv, 0) }()
	resp, err := http.Post("http://"+ln.Addr().String()+"/", "", io.LimitReader(zeros{}, 2<<20))
	if err == nil { // it may be broken off while the body is sent
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %s", resp.Status)
		}
	}
	if n := <-read; n != 1<<20 {
		t.Errorf("%d bytes were read", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A client of HTTP/2 that reads nothing loses its connection, and the handlers of all
// its streams end.
func TestAnHTTP2ClientThatReadsNothingIsCutOff(t *testing.T) {
	certificate := newPair(t, 1, "one.test")
	keyPair, err := tls.X509KeyPair(certificate.cert, certificate.key)
	if err != nil {
		t.Fatal(err)
	}
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &keyPair, nil }
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		ln := newPipes()
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer running.Done()
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 64<<20))
		})
		e, err := edge.New(edge.Options{Handler: h, Log: slog.New(slog.DiscardHandler), MinRate: 8 << 10})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Serve(ctx, 0, edge.Listener{Listener: ln, TLS: edge.TLSConfig(get, true)}) }()
		running.Add(10)
		c := newFlood(t, ln.dial())
		for range 10 {
			c.ask(t, c.next(), true)
		}
		began := time.Now()
		running.Wait()
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("the handlers ran for %v", took)
		}
		if _, err := c.conn.NetConn().Write([]byte("x")); err == nil {
			synctest.Wait()
			if _, err := c.conn.NetConn().Write([]byte("x")); err == nil {
				t.Error("the connection is still open")
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = c.conn.NetConn().Close()
	})
}

// A bounder bounds what is put by itself.
type bounder struct{ http.HandlerFunc }

func (bounder) BoundsBody(r *http.Request) bool { return r.Method == http.MethodPut }

// A handler that bounds some bodies itself gets them whole, and the others as all do.
func TestAHandlerMayBoundBodiesItself(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan int64, 1)
	srv := edge.NewServer(bounder{func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		read <- n
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- edge.Serve(ctx, ln, srv, 0) }()
	for method, want := range map[string]int64{http.MethodPut: 2 << 20, http.MethodPost: 1 << 20} {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+ln.Addr().String()+"/", io.LimitReader(zeros{}, 2<<20))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil { // one may be broken off while the body is sent
			_ = resp.Body.Close()
		}
		if n := <-read; n != want {
			t.Errorf("%s: %d bytes were read, want %d", method, n, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
