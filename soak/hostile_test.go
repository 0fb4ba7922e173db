package soak

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

const (
	idlers  = 2000
	readers = 500
)

// dial opens a connection that says text and nothing more.
func dial(t *testing.T, l *life, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Thousands of connections that say nothing or never end what they say, and hundreds
// of clients that take a blob and do not read it, harm nobody else, cost little
// memory, and leave nothing behind.
func TestIdleAndSlowClientsHarmNobody(t *testing.T) {
	const size = 12 << 20
	up := registrytest.StartTest(t, registrytest.Options{CountsOnly: true})
	c := load(t, up, 0, []int64{size})
	h := newHome(t, up.URL())
	l := h.start(t)
	crowd(t, l, c, 1) // it is here
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const memory, files = "process_resident_memory_bytes", "process_open_fds"
	before, opened := l.metric(ctx, t, memory), l.metric(ctx, t, files)
	var conns []net.Conn
	for i := range idlers {
		text := ""
		if i%2 == 0 {
			text = "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Never-Ends: " // slowloris
		}
		conns = append(conns, dial(t, l, text))
	}
	for range readers {
		conn := dial(t, l, fmt.Sprintf("GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: a\r\n\r\n", c.repository, c.layer.Digest))
		if _, err := io.ReadFull(conn, make([]byte, 4<<10)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if n := l.metric(ctx, t, "sampan_edge_connections"); n < idlers+readers {
		t.Errorf("%v connections are open", n)
	}
	crowd(t, l, c, 50)
	grown := l.metric(ctx, t, memory) - before
	t.Logf("%d connections cost %.0f KiB each", idlers+readers, grown/(idlers+readers)/1024)
	if grown > 250<<20 {
		t.Errorf("the process has grown by %.0f MiB", grown/(1<<20))
	}
	for _, conn := range conns {
		_ = conn.Close() // it was never of use
	}
	poll(ctx, t, "the end of the connections", func() bool { return l.metric(ctx, t, files) < opened+50 })
	crowd(t, l, c, 10)
	if sent := up.BytesSentOf(c.layer.Digest); sent != size {
		t.Errorf("the upstream sent %d bytes of %d", sent, size)
	}
	l.stop(t)
	h.mustBeQuiet(t)
}

// What is too much of a header is refused, and so is what could be read in two ways.
func TestRequestsThatAreNoneAreRefused(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{CountsOnly: true})
	c := load(t, up, 0, []int64{1 << 10})
	h := newHome(t, up.URL())
	l := h.start(t)
	const host = "Host: a\r\n"
	for _, r := range []struct {
		fact, text string
		want       string // status lines that may come; empty is none
	}{
		{"a header of a MiB", "GET /v2/ HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 1<<20), "431"},
		{"ten thousand headers", "GET /v2/ HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 20_000), "431"},
		{"a path of a MiB", "GET /v2/" + strings.Repeat("x", 1<<20), "431 414"},
		{"two lengths", "POST /v2/ HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "400"},
		{"a length and chunks", "POST /v2/ HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + host + "\r\n", "400 405"},
		{"an unknown transfer encoding", "POST /v2/ HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", "501 400"},
		{"two hosts", "GET /v2/ HTTP/1.1\r\n" + host + "Host: b\r\n\r\n", "400"},
		{"no host", "GET /v2/ HTTP/1.1\r\n\r\n", "400"},
		{"a host that is none", "GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
		{"a tunnel", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "405 404 400"},
		{"all options", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "200 405"},
		{"a space before the colon", "GET /v2/ HTTP/1.1\r\n" + host + "X : y\r\n\r\n", "400"},
		{"a line that is folded", "GET /v2/ HTTP/1.1\r\n" + host + "X: y\r\n z\r\n\r\n", "400 200"},
		{"no HTTP at all", "\x16\x03\x01\x00\x05hello\r\n\r\n", "400"},
		{"HTTP/2 that was not offered", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 400 405"},
	} {
		conn := dial(t, l, "")
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.WriteString(conn, r.text) // the server may close first
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		got, _ := io.ReadAll(io.LimitReader(conn, 1<<16)) // a reset is an answer, too
		_ = conn.Close()
		status := ""
		if fields := strings.Fields(string(got)); len(fields) > 1 {
			status = fields[1]
		}
		if status != "" && !strings.Contains(r.want, status) {
			t.Errorf("%s: %.200q", r.fact, got)
		}
		if strings.Contains(string(got), "smuggled") || strings.Count(string(got), "HTTP/1.1 ") > 1 {
			t.Errorf("%s: a second request was read: %.300q", r.fact, got)
		}
	}
	if got, err := newHTTP().Get(l.url + "/v2/"); err != nil || got.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %v", err)
	}
	crowd(t, l, c, 5)
	l.stop(t)
	h.mustBeQuiet(t)
}
