package upstream

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const proxyUser, proxyPassword = "crew", "p@ss:word"

// A fakeProxy is a proxy for HTTP or SOCKS 5 that connects every name to
// 127.0.0.1 and remembers what it was asked for, and by whom.
type fakeProxy struct {
	listener net.Listener
	scheme   string

	mu     sync.Mutex
	refuse int      // the status with which everything is answered; 0 connects
	asked  []string // "user:password METHOD target" of each connection or request
	tls    []tls.ConnectionState
	conns  map[net.Conn]bool
	closed bool
	wait   sync.WaitGroup
}

// startProxy starts a proxy; certificate is for the scheme https.
func startProxy(t *testing.T, scheme string, certificate *tls.Certificate) *fakeProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakeProxy{listener: l, scheme: scheme, conns: map[net.Conn]bool{}}
	p.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if certificate != nil {
				conn = tls.Server(conn, &tls.Config{
					Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
				})
			}
			p.start(conn)
		}
	})
	t.Cleanup(p.close)
	return p
}

// url is the proxy with the credentials that it wants.
func (p *fakeProxy) url() *url.URL {
	return &url.URL{Scheme: p.scheme, Host: p.listener.Addr().String(), User: url.UserPassword(proxyUser, proxyPassword)}
}

func (p *fakeProxy) start(conn net.Conn) {
	if !p.keep(conn) {
		_ = conn.Close()
		return
	}
	p.wait.Go(func() {
		defer func() { _ = conn.Close() }()
		if strings.HasPrefix(p.scheme, "socks") {
			p.serveSOCKS(conn)
		} else {
			p.serveHTTP(conn)
		}
	})
}

func (p *fakeProxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return !p.closed
}

func (p *fakeProxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.wait.Wait()
}

func (p *fakeProxy) note(conn net.Conn, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, line)
	if c, ok := conn.(*tls.Conn); ok {
		p.tls = append(p.tls, c.ConnectionState())
	}
}

// targets returns what the proxy was asked for, each once, in order.
func (p *fakeProxy) targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(p.asked)))
}

// forbid makes the proxy answer everything with a status.
func (p *fakeProxy) forbid(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = status
}

func (p *fakeProxy) status() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refuse
}

// open connects to the port of a target, wherever its name leads.
func (p *fakeProxy) open(target string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err == nil && !p.keep(conn) {
		_ = conn.Close()
	}
	return conn, err
}

func (p *fakeProxy) serveHTTP(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		login, _ := strings.CutPrefix(req.Header.Get("Proxy-Authorization"), "Basic ")
		who, _ := base64.StdEncoding.DecodeString(login)
		p.note(conn, string(who)+" "+req.Method+" "+req.RequestURI)
		switch {
		case string(who) != proxyUser+":"+proxyPassword:
			_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
		case p.status() != 0:
			_, _ = io.WriteString(conn, "HTTP/1.1 "+strconv.Itoa(p.status())+" No\r\nContent-Length: 0\r\n\r\n")
		case req.Method == http.MethodConnect:
			far, err := p.open(req.RequestURI)
			if err != nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			p.relay(conn, in, far)
			return
		default:
			if p.forward(conn, req) != nil {
				return
			}
		}
	}
}

// forward sends a request in absolute form on.
func (p *fakeProxy) forward(conn net.Conn, req *http.Request) error {
	far, err := p.open(net.JoinHostPort(req.URL.Hostname(), req.URL.Port()))
	if err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	req.Header.Del("Proxy-Authorization")
	req.Close = true
	if err := req.Write(far); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(far), req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	resp.Close = false
	return resp.Write(conn)
}

func (p *fakeProxy) relay(near net.Conn, in io.Reader, far net.Conn) {
	p.wait.Go(func() {
		_, _ = io.Copy(far, in)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
}

// serveSOCKS speaks SOCKS 5 with user and password (RFC 1928, RFC 1929).
func (p *fakeProxy) serveSOCKS(conn net.Conn) {
	block := func() []byte { // a length and so many bytes
		size := make([]byte, 1)
		_, _ = io.ReadFull(conn, size)
		b := make([]byte, size[0])
		_, _ = io.ReadFull(conn, b)
		return b
	}
	version := make([]byte, 1)
	_, _ = io.ReadFull(conn, version)
	if !slices.Contains(block(), 2) {
		p.note(conn, " without a password")
		_, _ = conn.Write([]byte{5, 0xff})
		return
	}
	_, _ = conn.Write([]byte{5, 2})
	_, _ = io.ReadFull(conn, version)
	who := string(block()) + ":" + string(block())
	if who != proxyUser+":"+proxyPassword {
		p.note(conn, who)
		_, _ = conn.Write([]byte{1, 1})
		return
	}
	_, _ = conn.Write([]byte{1, 0})
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil || head[3] != 3 { // 3: a name
		p.note(conn, "not a name")
		return
	}
	name := string(block())
	port := make([]byte, 2)
	_, _ = io.ReadFull(conn, port)
	target := net.JoinHostPort(name, strconv.Itoa(int(binary.BigEndian.Uint16(port))))
	p.note(conn, who+" CONNECT "+target)
	far, err := p.open(target)
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // 5: connection refused
		return
	}
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	p.relay(conn, conn, far)
}
