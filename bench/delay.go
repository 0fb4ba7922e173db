package main

import (
	"errors"
	"net"
	"net/url"
	"time"

	"sampan/internal/registrytest"
)

// farAway is where the near ends of links listen: upstreams behind one call
// themselves so.
const farAway = "127.0.0.2"

// distant starts an upstream behind a link of a round trip of trip, or behind none
// if that is zero.
func distant(trip time.Duration, behavior registrytest.Behavior) (up *registrytest.Registry, end func(), err error) {
	o := registrytest.Options{CountsOnly: true, Behavior: behavior}
	if trip > 0 {
		o.Hostname = farAway
	}
	if up, err = registrytest.Start(o); err != nil {
		return nil, nil, err
	}
	shut := func() { _ = up.Close() } // it has nothing to lose
	if trip == 0 {
		return up, shut, nil
	}
	cut, err := road(trip).to(up)
	if err != nil {
		shut()
		return nil, nil, err
	}
	return up, func() { cut(); shut() }, nil
}

// A road is an emulated link that takes a time there and back. Its rate is the
// upstream's matter.
type road time.Duration

// to puts the link before all sites of an upstream whose host name is farAway,
// until the function that it returns is called.
func (r road) to(up *registrytest.Registry) (end func(), err error) {
	var listeners []net.Listener
	end = func() {
		for _, l := range listeners {
			_ = l.Close() // it has nothing to lose
		}
	}
	for _, site := range []string{up.URL(), up.CDNURL(), up.TokenURL()} {
		u, err := url.Parse(site)
		if err == nil && u.Hostname() != farAway {
			err = errors.New(site + " is not far away")
		}
		if err != nil {
			end()
			return nil, err
		}
		l, err := net.Listen("tcp", u.Host)
		if err != nil {
			end()
			return nil, err
		}
		listeners = append(listeners, l)
		go r.join(l, net.JoinHostPort("127.0.0.1", u.Port()))
	}
	return end, nil
}

// join joins the connections that l accepts to addr, as a link would. The first
// bytes of a connection come one round trip later: what its handshake would have
// taken.
func (r road) join(l net.Listener, addr string) {
	for {
		near, err := l.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer func() { _ = near.Close() }() // it has nothing to lose
			far, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			defer func() { _ = far.Close() }() // it has nothing to lose
			go r.carry(far, near, time.Now().Add(time.Duration(r)))
			r.carry(near, far, time.Time{})
		}()
	}
}

// A parcel is what was read at once, and when it arrives.
type parcel struct {
	bytes   []byte
	arrives time.Time
}

// carry passes bytes on with the link's delay, none before earliest, and then
// tells to's side that no more come.
func (r road) carry(to, from net.Conn, earliest time.Time) {
	// As much as is on its way at once: up to 16 MiB, what 300 ms hold at 50 MiB/s.
	way := make(chan parcel, 256)
	go func() {
		defer close(way)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				arrives := time.Now()
				if arrives.Before(earliest) {
					arrives = earliest
				}
				way <- parcel{buf[:n], arrives.Add(time.Duration(r) / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	var gone bool
	for p := range way {
		time.Sleep(time.Until(p.arrives))
		if gone {
			continue
		}
		if _, err := to.Write(p.bytes); err != nil {
			gone = true
			// The other end hears of it later, and sends on until then. The
			// reader above ends with it.
			time.AfterFunc(time.Duration(r)/2, func() { _ = from.Close() })
		}
	}
	if t, ok := to.(*net.TCPConn); ok {
		_ = t.CloseWrite() // the other side may be gone
	}
}
