package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sampan/internal/edge"
)

// A flood is a client of HTTP/2 that sends what it likes.
type flood struct {
	conn   *tls.Conn
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
	id     uint32
}

// newFlood shakes hands over a connection and sends the preface.
func newFlood(t *testing.T, raw net.Conn) *flood {
	t.Helper()
	c := &flood{conn: tls.Client(raw, &tls.Config{ServerName: "one.test", InsecureSkipVerify: true, NextProtos: []string{"h2"}})}
	if err := c.conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("it speaks %q", got)
	}
	c.framer, c.hpack = http2.NewFramer(c.conn, c.conn), hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	return c
}

// next is the number of a new stream.
func (c *flood) next() uint32 {
	c.id += 2
	return c.id - 1
}

// headers is the block of a GET.
func (c *flood) headers() []byte {
	c.block.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "one.test"}, {":path", "/v2/"}} {
		_ = c.hpack.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into a buffer
	}
	return c.block.Bytes()
}

// ask sends a GET at a stream.
func (c *flood) ask(t *testing.T, stream uint32, end bool) {
	t.Helper()
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.headers(), EndStream: end, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
}

// meetFlood serves h over TLS at listeners; stop is to be called.
func meetFlood(t *testing.T, h http.HandlerFunc, listeners ...net.Listener) (stop func()) {
	t.Helper()
	certificate := newPair(t, 1, "one.test")
	keyPair, err := tls.X509KeyPair(certificate.cert, certificate.key)
	if err != nil {
		t.Fatal(err)
	}
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &keyPair, nil }
	var meet []edge.Listener
	for _, ln := range listeners {
		meet = append(meet, edge.Listener{Listener: ln, TLS: edge.TLSConfig(get, true)})
	}
	_, stop = serveEdge(t, edge.Options{MinRate: 8 << 10}, h, meet...)
	return stop
}

// A thousand streams of one connection: as many run as may, the others are refused,
// and each that runs is answered.
func TestStreamsOfAConnectionAreBounded(t *testing.T) {
	const asked, most = 1000, 250
	var running, peak atomic.Int64
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	ln := newPipes()
	stop := meetFlood(t, func(w http.ResponseWriter, _ *http.Request) {
		peak.Store(max(peak.Load(), running.Add(1)))
		<-held
		running.Add(-1)
		w.WriteHeader(http.StatusNoContent)
	}, ln)
	defer stop()
	defer release()
	c := newFlood(t, ln.dial())
	defer c.conn.NetConn().Close()
	written := make(chan error, 1)
	settled := make(chan struct{})
	go func() {
		<-settled // the server's bound is known
		var err error
		for i := 0; i < asked && err == nil; i++ {
			err = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next(), BlockFragment: c.headers(), EndStream: true, EndHeaders: true})
		}
		written <- err
	}()
	refused, answered, bound, acked := 0, 0, uint32(0), false
	for refused+answered < asked {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			t.Fatalf("%d refused, %d answered: %v", refused, answered, err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			bound, _ = f.Value(http2.SettingMaxConcurrentStreams)
			if !acked {
				acked = true
				if err := c.framer.WriteSettingsAck(); err != nil {
					t.Fatal(err)
				}
				close(settled)
			}
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeProtocol { // for who has heard of the bound (RFC 9113, 5.1.2)
				t.Fatalf("stream %d ends by %v", f.StreamID, f.ErrCode)
			}
			if refused++; refused == asked-most {
				release()
			}
		case *http2.HeadersFrame:
			answered++
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if bound != most || refused != asked-most || answered != most || peak.Load() > most {
		t.Errorf("a bound of %d: %d refused, %d answered, %d at once", bound, refused, answered, peak.Load())
	}
}

// Requests that are taken back at once do not run beside each other without bound:
// who goes on like that loses the connection, and others are served.
func TestRapidResetIsCutOff(t *testing.T) {
	const most = 250
	var begun atomic.Int64
	release := make(chan struct{})
	ln := newPipes()
	stop := meetFlood(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == "another" {
			return
		}
		begun.Add(1)
		<-release // as if what it asked for cannot be taken back
	}, ln)
	c := newFlood(t, ln.dial())
	go func() {
		for {
			stream := c.next()
			err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.headers(), EndStream: true, EndHeaders: true})
			if err != nil || c.framer.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
				return
			}
		}
	}()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			t.Fatalf("the connection ends without a reason: %v", err)
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			if away.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("it ends by %v", away.ErrCode)
			}
			break
		}
	}
	if n := begun.Load(); n > most {
		t.Errorf("%d requests were begun", n)
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return ln.dial(), nil },
		TLSClientConfig: &tls.Config{ServerName: "one.test", InsecureSkipVerify: true},
	}}
	req, err := http.NewRequest(http.MethodGet, "https://one.test/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "another")
	if resp, err := client.Do(req); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("another client: %v, %v", resp, err)
	}
	client.CloseIdleConnections()
	_ = c.conn.NetConn().Close()
	close(release)
	stop()
}

// What has to be answered and whose answers nobody reads is not kept without bound:
// pings end the connection, and of settings one answer waits for all.
func TestFloodsOfControlFramesAreBounded(t *testing.T) {
	const flooded = 100_000
	for name, write := range map[string]func(c *flood) error{
		"pings":    func(c *flood) error { return c.framer.WritePing(false, [8]byte{}) },
		"settings": func(c *flood) error { return c.framer.WriteSettings() },
	} {
		t.Run(name, func(t *testing.T) {
			ln := newPipes()
			stop := meetFlood(t, func(http.ResponseWriter, *http.Request) {}, ln)
			defer stop()
			c := newFlood(t, ln.dial())
			defer c.conn.NetConn().Close()
			before := heap()
			sent := 0
			for ; sent < flooded; sent++ {
				if write(c) != nil {
					break
				}
			}
			if name == "pings" && sent > 20_000 {
				t.Errorf("%d pings were taken without an answer being read", sent)
			}
			if grown := heap() - before; grown > 2<<20 {
				t.Errorf("%d frames hold %d bytes", sent, grown)
			}
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A header that goes on in frame after frame ends with the largest size of a header.
func TestContinuationFloodIsCutOff(t *testing.T) {
	ln := newPipes()
	stop := meetFlood(t, func(http.ResponseWriter, *http.Request) { t.Error("it is a request") }, ln)
	defer stop()
	c := newFlood(t, ln.dial())
	defer c.conn.NetConn().Close()
	go io.Copy(io.Discard, c.conn)
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next(), BlockFragment: c.headers(), EndStream: true}); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for ; sent < 16<<20; sent += 16 << 10 {
		c.block.Reset()
		for c.block.Len() < 15<<10 {
			_ = c.hpack.WriteField(hpack.HeaderField{Name: "x-flood", Value: string(bytes.Repeat([]byte{1}, 1000)), Sensitive: true})
		}
		if err := c.framer.WriteContinuation(c.id-1, false, c.block.Bytes()); err != nil {
			if errors.Is(err, http2.ErrFrameTooLarge) {
				t.Fatal(err)
			}
			break
		}
	}
	if sent > 1<<20 {
		t.Errorf("%d bytes of a header were taken", sent)
	}
}
