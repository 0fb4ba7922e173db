package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A fakeDNS is a DNS server over UDP and TCP at one port.
type fakeDNS struct {
	udp net.PacketConn
	tcp net.Listener

	mu     sync.Mutex
	hosts  map[string]string // names to addresses; another name does not exist
	code   dnsmessage.RCode  // with which everything is answered, if it is not success
	silent bool              // nothing is answered
	cut    bool              // what is asked over UDP does not fit
	asked  []string          // "udp NAME" or "tcp NAME" of questions for IPv4
	from   []string          // addresses that asked
	wait   sync.WaitGroup
}

func startDNS(t *testing.T, hosts map[string]string) *fakeDNS {
	t.Helper()
	s := &fakeDNS{hosts: hosts}
	var err error
	if s.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if s.udp, err = net.ListenPacket("udp", s.tcp.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s.wait.Go(s.serveUDP)
	s.wait.Go(func() {
		for {
			conn, err := s.tcp.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() { s.serveTCP(conn) })
		}
	})
	t.Cleanup(func() {
		_ = s.tcp.Close()
		_ = s.udp.Close()
		s.wait.Wait()
	})
	return s
}

// at is the server's address in a scheme.
func (s *fakeDNS) at(t *testing.T, scheme string) string {
	t.Helper()
	return scheme + "://" + s.tcp.Addr().String()
}

func (s *fakeDNS) serveUDP() {
	b := make([]byte, 2048)
	for {
		n, from, err := s.udp.ReadFrom(b)
		if err != nil {
			return
		}
		if answer := s.answer("udp", from, b[:n]); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *fakeDNS) serveTCP(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	head := make([]byte, 2)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		b := make([]byte, int(head[0])<<8|int(head[1]))
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		answer := s.answer("tcp", conn.RemoteAddr(), b)
		if answer == nil {
			return
		}
		_, _ = conn.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	}
}

// serveHTTP answers as DNS over HTTPS.
func (s *fakeDNS) serveHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/dns-message" {
		http.Error(w, "not RFC 8484", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/dns-message")
	_, _ = w.Write(s.answer("https", nil, b))
}

// answer returns nil for silence.
func (s *fakeDNS) answer(network string, from net.Addr, query []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := q.Name.String()
	if q.Type == dnsmessage.TypeA {
		s.asked = append(s.asked, network+" "+name)
	}
	if from != nil {
		host, _, _ := net.SplitHostPort(from.String())
		s.from = append(s.from, host)
	}
	if s.silent {
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals, m.RCode = true, true, nil, s.code
	addr, known := s.hosts[name]
	switch {
	case s.code != dnsmessage.RCodeSuccess:
	case s.cut && network == "udp":
		m.Truncated = true
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()},
		}}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// names returns what was asked, each once, in order.
func (s *fakeDNS) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(s.asked)))
}

// set changes how the server answers.
func (s *fakeDNS) set(change func(*fakeDNS)) *fakeDNS {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	return s
}

// clients returns the addresses that asked.
func (s *fakeDNS) clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.from)
}

// forget starts anew.
func (s *fakeDNS) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.from = nil, nil
}

// nobody is the system's resolver of a test in which it must not be asked.
func nobody(t *testing.T) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("the system's DNS was asked")
		return nil, net.UnknownNetworkError("none")
	}}
}
