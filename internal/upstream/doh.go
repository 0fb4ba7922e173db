package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxDNSMessage bounds a DNS message: its length has 16 bits over TCP.
	maxDNSMessage = 64<<10 - 1
	dnsMediaType  = "application/dns-message"
)

// A doh is a server of DNS over HTTPS (RFC 8484). It is reached without a proxy,
// by its number, by an entry of [Egress.Hosts], or by the system's resolver.
type doh struct {
	url  *url.URL
	http *http.Transport
}

func newDoH(u *url.URL, e Egress) *doh {
	d := newDialer(Redirect{Egress: e}, newGuard(nil), nil)
	c := anonymousTLS(e.TLS)
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &doh{url: u, http: &http.Transport{
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
			return d.connect(ctx, d.plain, to)
		},
		TLSClientConfig:        c,
		TLSHandshakeTimeout:    orDefault(e.TLSTimeout, defaultTLSTimeout),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
		Protocols:              &protocols,
	}}
}

func (d *doh) close() { d.http.CloseIdleConnections() }

// dial makes what a [net.Resolver] takes for a connection; none is opened by it.
func (d *doh) dial(ctx context.Context, _ string) (net.Conn, error) {
	return &dohConn{server: d, ctx: ctx}, nil
}

// exchange sends one message and returns the answer.
func (d *doh) exchange(ctx context.Context, message []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.String(), bytes.NewReader(message))
	if err != nil {
		return nil, errors.New("not an address") // the error would repeat it
	}
	req.Header.Set("Content-Type", dnsMediaType)
	req.Header.Set("Accept", dnsMediaType)
	resp, err := d.http.RoundTrip(req) // follows no redirect
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxDNSMessage+1))
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("DNS over HTTPS: status %d", resp.StatusCode)
	case kind != dnsMediaType:
		return nil, fmt.Errorf("DNS over HTTPS: answered with %q", clean(kind))
	case len(answer) > maxDNSMessage:
		return nil, errTooLarge
	}
	return answer, nil
}

// A dohConn is what Go's resolver takes for a TCP connection to a DNS server:
// messages with their length before them (RFC 1035, section 4.2.2). It is used by
// one goroutine; the context of the lookup bounds what it waits for.
type dohConn struct {
	server *doh
	ctx    context.Context // of the lookup
	query  []byte          // what was written and not yet asked
	answer []byte          // what is still to be read
}

// Write implements [net.Conn].
func (c *dohConn) Write(b []byte) (int, error) {
	c.query = append(c.query, b...)
	return len(b), nil
}

// Read implements [net.Conn]. It asks the server for the message that was
// written.
func (c *dohConn) Read(b []byte) (int, error) {
	if len(c.answer) == 0 {
		if err := c.ask(); err != nil {
			return 0, &net.OpError{Op: "read", Net: "https", Err: err}
		}
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

func (c *dohConn) ask() error {
	if len(c.query) < 2 || len(c.query)-2 < int(binary.BigEndian.Uint16(c.query)) {
		return io.ErrUnexpectedEOF
	}
	size := 2 + int(binary.BigEndian.Uint16(c.query))
	message := c.query[2:size]
	c.query = c.query[size:]
	answer, err := c.server.exchange(c.ctx, message)
	if err != nil {
		return err
	}
	c.answer = append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
	return nil
}

// Close implements [net.Conn]. The connection to the server is kept for others.
func (c *dohConn) Close() error { return nil }

// SetDeadline implements [net.Conn]; it has no effect.
func (c *dohConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.Conn]; it has no effect.
func (c *dohConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.Conn]; it has no effect.
func (c *dohConn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements [net.Conn].
func (c *dohConn) LocalAddr() net.Addr { return dohAddr(serverName(c.server.url)) }

// RemoteAddr implements [net.Conn].
func (c *dohConn) RemoteAddr() net.Addr { return dohAddr(serverName(c.server.url)) }

// A dohAddr names a server in errors.
type dohAddr string

// Network implements [net.Addr].
func (dohAddr) Network() string { return "https" }

// String implements [net.Addr].
func (a dohAddr) String() string { return string(a) }
