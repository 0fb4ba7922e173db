package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/edge"
)

// serveEdge serves h at the listeners and returns the address of the first one.
func serveEdge(t *testing.T, o edge.Options, h http.HandlerFunc, listeners ...edge.Listener) (addr string, stop func()) {
	t.Helper()
	o.Handler = h
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e, err := edge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	addr = listeners[0].Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, 0, listeners...) }()
	return addr, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// listenAt opens one address.
func listenAt(t *testing.T, l edge.Listening, address string) edge.Listener {
	t.Helper()
	opened, err := l.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	if len(opened) != 1 {
		t.Fatalf("%d listeners", len(opened))
	}
	return edge.Listener{Listener: opened[0]}
}

// exchange sends a text to an address and returns what comes back.
func exchange(t *testing.T, network, addr, text string) string {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(got)
}

const question = "GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listenAt(t, edge.Listening{}, "unix:"+path)
	if _, err := (edge.Listening{}).Listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second process gets %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var access bytes.Buffer
	o := edge.Options{Access: slog.New(slog.NewTextHandler(&access, nil)), Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	_, stop := serveEdge(t, o, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }, ln)
	if got := exchange(t, "unix", path, question+"X-Forwarded-For: 192.0.2.7\r\n\r\n"); !strings.HasSuffix(got, "here") {
		t.Errorf("got %q", got)
	}
	stop()
	if !strings.Contains(access.String(), "client=192.0.2.7 ") {
		t.Error(access.String())
	}

	// A socket that a killed process left is in nobody's way.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	again := listenAt(t, edge.Listening{}, "unix:"+path)
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	// What is no socket is not removed.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (edge.Listening{}).Listen("unix:" + file); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestSocketsOfSystemd(t *testing.T) {
	var made []net.Listener
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		made = append(made, ln)
	}
	l := edge.Listening{Sockets: map[string][]net.Listener{"https": made[:2], "other": made[2:]}}
	for address, want := range map[string]int{"systemd": 3, "systemd:https": 2, "systemd:other": 1} {
		if got, err := l.Listen(address); err != nil || len(got) != want {
			t.Errorf("%s: %d sockets, %v", address, len(got), err)
		}
	}
	if _, err := l.Listen("systemd:nope"); !errors.Is(err, edge.ErrNoSocket) {
		t.Errorf("got %v", err)
	}
}

// Who the client is, as the access log has it.
func TestClientIsWhoTrustedProxiesSay(t *testing.T) {
	loopback, private := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")
	for _, tc := range []struct {
		name    string
		trusted []netip.Prefix
		proxy   bool
		first   string // before the request
		header  string
		want    string // empty: the connection's own address
		status  string
	}{
		{name: "nobody is trusted", header: "X-Forwarded-For: 192.0.2.7\r\n"},
		{name: "the proxy's word", trusted: []netip.Prefix{loopback}, header: "X-Forwarded-For: 192.0.2.7\r\n", want: "192.0.2.7"},
		{name: "what a client adds itself", trusted: []netip.Prefix{loopback}, header: "X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", want: "192.0.2.7"},
		{name: "two trusted proxies", trusted: []netip.Prefix{loopback, private}, header: "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.1.1.1\r\n", want: "192.0.2.7"},
		{name: "IPv6 with a port", trusted: []netip.Prefix{loopback}, header: "X-Forwarded-For: [2001:db8::1]:99\r\n", want: "2001:db8::1"},
		{name: "garbage", trusted: []netip.Prefix{loopback}, header: "X-Forwarded-For: 192.0.2.7, nobody\r\n"},
		{name: "somebody else is trusted", trusted: []netip.Prefix{private}, header: "X-Forwarded-For: 192.0.2.7\r\n"},
		{name: "PROXY of one who is trusted", trusted: []netip.Prefix{loopback}, proxy: true, first: "PROXY TCP4 192.0.2.8 127.0.0.1 1 2\r\n", want: "192.0.2.8:1"},
		{name: "PROXY left out", trusted: []netip.Prefix{loopback}, proxy: true},
		{name: "PROXY of one who is not", trusted: []netip.Prefix{private}, proxy: true, first: "PROXY TCP4 192.0.2.8 127.0.0.1 1 2\r\n", status: "400"},
		{name: "PROXY where it is not expected", trusted: []netip.Prefix{loopback}, first: "PROXY TCP4 192.0.2.8 127.0.0.1 1 2\r\n", status: "400"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := edge.Listening{}
			if tc.proxy {
				l.Trusted = func() []netip.Prefix { return tc.trusted }
			}
			var access bytes.Buffer
			o := edge.Options{Access: slog.New(slog.NewTextHandler(&access, nil)), Trusted: tc.trusted}
			addr, stop := serveEdge(t, o, func(http.ResponseWriter, *http.Request) {}, listenAt(t, l, "127.0.0.1:0"))
			got := exchange(t, "tcp", addr, tc.first+question+tc.header+"\r\n")
			stop()
			status := "200"
			if tc.status != "" {
				status = tc.status
			}
			if !strings.HasPrefix(got, "HTTP/1.1 "+status) {
				t.Errorf("got %.40q", got)
			}
			want := "client=" + tc.want + " "
			if tc.want == "" {
				want = "client=127.0.0.1:"
			}
			if status == "200" && !strings.Contains(access.String(), want) {
				t.Errorf("want %q: %s", want, access.String())
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	for name, o := range map[string]edge.Options{"in all": {Connections: 3}, "for each client": {ConnectionsPerClient: 3}} {
		t.Run(name, func(t *testing.T) {
			metrics := prometheus.NewRegistry()
			o.Registerer = metrics
			addr, stop := serveEdge(t, o, func(http.ResponseWriter, *http.Request) {}, listenAt(t, edge.Listening{}, "127.0.0.1:0"))
			defer stop()
			var open []net.Conn
			ask := func() error {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					return err
				}
				open = append(open, conn)
				if _, err := io.WriteString(conn, "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
					return err
				}
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					return err
				}
				return resp.Body.Close()
			}
			for range 3 {
				if err := ask(); err != nil {
					t.Fatal(err)
				}
			}
			if err := ask(); err == nil {
				t.Error("a fourth connection was served")
			}
			const refused = "# HELP sampan_edge_refused_connections_total Connections closed at once because there were too many.\n" +
				"# TYPE sampan_edge_refused_connections_total counter\nsampan_edge_refused_connections_total 1\n"
			if err := testutil.GatherAndCompare(metrics, strings.NewReader(refused), "sampan_edge_refused_connections_total"); err != nil {
				t.Error(err)
			}
			_ = open[0].Close()
			for range 1000 { // the server hears of it in a moment
				if ask() == nil {
					break
				}
			}
			if err := ask(); err == nil {
				t.Error("after one has left, two were served")
			}
			for _, c := range open {
				_ = c.Close()
			}
		})
	}
}

// A response longer than any buffer is sent in pieces, as a file, and every byte of
// it arrives; the deadline of one piece does not reach the next request.
func TestLeastRateChangesNoByte(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	addr, stop := serveEdge(t, edge.Options{MinRate: 1 << 10}, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) },
		listenAt(t, edge.Listening{}, "127.0.0.1:0"))
	defer stop()
	for _, rng := range []string{"", "bytes=5-", "bytes=1048575-1048577", "bytes=0-0,4799999-"} {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/", addr), nil)
		if err != nil {
			t.Fatal(err)
		}
		if rng != "" {
			req.Header.Set("Range", rng)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || int64(len(got)) != resp.ContentLength {
			t.Errorf("%q: %d bytes of %d, %v", rng, len(got), resp.ContentLength, err)
		}
		if rng == "" && !bytes.Equal(got, content) {
			t.Error("other bytes")
		}
		_ = resp.Body.Close()
	}
}
