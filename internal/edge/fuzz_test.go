package edge

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Who a client is, nobody but a trusted proxy says, and it is always an address.
func FuzzClient(f *testing.F) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	f.Add("192.0.2.1:1", "10.0.0.1", "1.1.1.1")
	f.Add("10.0.0.1:1", "1.2.3.4, 10.0.0.2", "x")
	f.Add("@", "::ffff:10.0.0.1", "[::1]:80, fd00::1")
	f.Fuzz(func(t *testing.T, remote, one, two string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.RemoteAddr = remote
		r.Header["X-Forwarded-For"] = []string{one, two}
		got := clientOf(r, trusted)
		if addr, ok := parseAddr(remote); ok && !contains(trusted, addr) && got != remote {
			t.Errorf("%q is taken for %q by what it says itself", remote, got)
		}
		if _, ok := parseAddr(got); !ok && got != remote {
			t.Errorf("%q is no address", got)
		}
		last := two
		if i := strings.LastIndexByte(two, ','); i >= 0 {
			last = two[i+1:]
		}
		if addr, ok := parseAddr(strings.TrimSpace(last)); ok && !contains(trusted, addr) && got != remote && got != addr.String() {
			t.Errorf("%q, where the proxy says %q", got, addr)
		}
	})
}

// What comes at a listener with the PROXY protocol neither breaks it nor makes a
// stranger somebody else.
func FuzzProxyProtocol(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02rest"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, trusted := range []string{"127.0.0.0/8", "192.0.2.0/24"} {
			here, there := net.Pipe()
			ln := Listening{Trusted: func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(trusted)} }}.proxied(&single{conn: address{there, "127.0.0.1:4711"}})
			go func() {
				_, _ = here.Write(said)
				_ = here.Close()
			}()
			conn, err := ln.Accept()
			if err != nil {
				continue
			}
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			got, _ := io.ReadAll(conn)
			if trusted == "192.0.2.0/24" && conn.RemoteAddr().String() != "127.0.0.1:4711" {
				t.Errorf("a stranger is %s", conn.RemoteAddr())
			}
			if !bytes.HasSuffix(said, got) {
				t.Errorf("%q was read of %q", got, said)
			}
			_ = conn.Close()
		}
	})
}

// A single listener has one connection.
type single struct {
	net.Listener
	conn net.Conn
}

func (s *single) Accept() (net.Conn, error) {
	if s.conn == nil {
		return nil, io.EOF
	}
	c := s.conn
	s.conn = nil
	return c, nil
}

func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

type address struct {
	net.Conn
	from string
}

func (a address) RemoteAddr() net.Addr {
	ap := netip.MustParseAddrPort(a.from)
	return net.TCPAddrFromAddrPort(ap)
}

func FuzzCombined(f *testing.F) {
	f.Add("/v2/", "agent", "user")
	f.Fuzz(func(t *testing.T, path, agent, user string) {
		var out bytes.Buffer
		slog.New(Combined(&out)).Info("request", "path", path, "agent", agent, "user", user)
		line := out.String()
		if strings.Count(line, "\n") != 1 || strings.Count(strings.NewReplacer(`\\`, "", `\"`, "").Replace(line), `"`) != 6 {
			t.Errorf("%q", line)
		}
	})
}
