package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/access"
	"sampan/internal/access/rate"
)

// A tapWriter calls at with each piece that is written, and breaks when it fails.
type tapWriter struct {
	http.ResponseWriter
	at func() error
}

func (w tapWriter) Write(p []byte) (int, error) {
	if err := w.at(); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// Who has got all may ask for more at once, and must find it counted by then.
func TestBytesAreCountedBeforeTheClientHasThem(t *testing.T) {
	broken := errors.New("broken")
	body := bytes.Repeat([]byte("x"), 1000)
	for name, send := range map[string]func(io.Writer) error{
		"written": func(w io.Writer) error { _, err := w.Write(body); return err },
		"copied": func(w io.Writer) error {
			_, err := w.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: bytes.NewReader(body), N: 1000})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			limits, err := rate.New(prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			limits.Set([]rate.Rule{{Limits: rate.Limits{BytesPerDay: 1000}}})
			r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
			pull := func() error {
				another, err := limits.Enter(r.Context(), access.Client{Addr: netip.MustParseAddr("192.0.2.1")})
				if err != nil {
					t.Fatal(err)
				}
				defer another.Close()
				return another.Pull(r.Context())
			}
			visit, err := limits.Enter(r.Context(), access.Client{Addr: netip.MustParseAddr("192.0.2.1")})
			if err != nil {
				t.Fatal(err)
			}
			defer visit.Close()

			failing := limited(tapWriter{httptest.NewRecorder(), func() error { return broken }}, r, visit)
			if err := send(failing); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			if err := pull(); err != nil {
				t.Errorf("what could not be sent is counted: %v", err)
			}
			var meanwhile error
			if err := send(limited(tapWriter{httptest.NewRecorder(), func() error { meanwhile = pull(); return nil }}, r, visit)); err != nil {
				t.Fatal(err)
			}
			if meanwhile == nil {
				t.Error("the bytes are with the client and are not counted")
			}
		})
	}
}
