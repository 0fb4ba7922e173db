package access

import (
	"context"
	"net/netip"
	"slices"
)

// A Client is who asks, as far as it is known. The zero value is nobody known, at
// no address.
type Client struct {
	// Addr is its address; zero over a Unix socket.
	Addr netip.Addr
	// Host is the mirror as the client named it: in lower case, without port and
	// without the client's code.
	Host string
	// User is the name of a user who has proven it; empty for none.
	User string
	// Groups are those that whoever vouches for the user tells.
	Groups []string
	// Code is the name of the access code in the host name; empty for none.
	Code string
}

// Known tells whether the client has shown who it is.
func (c Client) Known() bool { return c.User != "" || c.Code != "" }

// Name is the client for logs: the name of the user or the code, empty for nobody
// known.
func (c Client) Name() string {
	if c.User != "" {
		return c.User
	}
	return c.Code
}

// Account is whom limits count: the user, the code, or the address, where one /64
// of IPv6 is one. It tells them apart: nobody can choose a name that is another's
// account.
func (c Client) Account() string {
	switch {
	case c.User != "":
		return "user " + c.User
	case c.Code != "":
		return "code " + c.Code
	default:
		return "address " + Network(c.Addr).String()
	}
}

// Network is what counts as one address: itself, and of IPv6 the /64 that somebody
// is given. It is invalid for none.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // the bits fit
	return p
}

// In tells whether the client's address is in one of the networks.
func (c Client) In(networks []netip.Prefix) bool {
	return c.Addr.IsValid() && slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(c.Addr.Unmap()) })
}

type clientKey struct{}

// WithClient makes a context that carries who asks.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientFrom returns who asks.
func ClientFrom(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}
