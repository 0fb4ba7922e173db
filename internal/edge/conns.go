package edge

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/pires/go-proxyproto"
)

// conns bounds the connections of all clients and of each. Zero bounds nothing.
type conns struct {
	refused func()

	mu    sync.Mutex
	most  int
	each  int
	proxy []netip.Prefix // which are many clients
	open  map[net.Conn]netip.Prefix
	count map[netip.Prefix]int
}

func newConns(refused func()) *conns {
	return &conns{refused: refused, open: make(map[net.Conn]netip.Prefix), count: make(map[netip.Prefix]int)}
}

// bound replaces the bounds. Connections that are open stay, and who they count for.
func (c *conns) bound(b Bounds) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.each, c.proxy = b.Connections, b.ConnectionsPerClient, b.Trusted
}

// state is for [http.Server.ConnState]. A connection too many is closed before a
// byte of it is read.
func (c *conns) state(conn net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		if !c.add(conn) {
			c.refused()
			_ = conn.Close() // nothing was sent
		}
	case http.StateClosed, http.StateHijacked:
		c.remove(conn)
	}
}

// add counts a connection in, unless it is one too many. Trusted proxies, whether
// they speak the PROXY protocol or not, and who comes by a Unix socket are counted in
// all only: the proxy bounds its clients.
func (c *conns) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var client netip.Prefix
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if _, proxied := raw.(*proxyproto.Conn); !proxied {
		if addr, ok := addrOf(conn.RemoteAddr()); ok && !contains(c.proxy, addr) {
			client = network(addr)
		}
	}
	switch {
	case c.most > 0 && len(c.open) >= c.most:
		return false
	case client.IsValid() && c.each > 0 && c.count[client] >= c.each:
		return false
	}
	c.open[conn] = client
	if client.IsValid() {
		c.count[client]++
	}
	return true
}

// number is how many there are.
func (c *conns) number() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

func (c *conns) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, ok := c.open[conn]
	if !ok {
		return
	}
	delete(c.open, conn)
	if !client.IsValid() {
		return
	}
	if c.count[client]--; c.count[client] == 0 {
		delete(c.count, client)
	}
}
