package edge_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"

	"sampan/internal/edge"
)

// A tapped connection keeps what came over it.
type tapped struct {
	net.Conn
	came bytes.Buffer
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.came.Write(p[:n])
	return n, err
}

// dataRecords counts the records of application data (RFC 5246, 6.2.1).
func (c *tapped) dataRecords() int {
	n := 0
	for b := c.came.Bytes(); len(b) >= 5; {
		if b[0] == 23 {
			n++
		}
		b = b[min(len(b), 5+int(binary.BigEndian.Uint16(b[3:]))):]
	}
	return n
}

// The first answer on a connection is in as few records as any later one: the
// clients of registries have many short connections.
func TestFirstAnswerIsInLargeRecords(t *testing.T) {
	c, err := edge.NewCertificates(slog.New(slog.DiscardHandler), []edge.KeyPair{newPair(t, 1, "one.test").write(t, t.TempDir(), "one")})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 12<<10)
	addr, stop := serveEdge(t, edge.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // the client says what came
	}, edge.Listener{Listener: ln, TLS: edge.TLSConfig(c.Get, false)})
	defer stop()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	tap := &tapped{Conn: raw}
	// In 1.3 the handshake has such records, too.
	client := tls.Client(tap, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	defer client.Close()
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if err != nil || !bytes.HasSuffix(got, append([]byte("\r\n\r\n"), body...)) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if n := tap.dataRecords(); n == 0 || n > 3 {
		t.Errorf("%d records for %d bytes", n, len(got))
	}
}
