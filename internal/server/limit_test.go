package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/access"
	"sampan/internal/access/rate"
	"sampan/internal/oci"
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

// A headWriter notes when the header goes out, and when the first bytes do.
type headWriter struct {
	http.ResponseWriter
	began       time.Time
	head, first time.Duration
	wrote       bool
}

func (w *headWriter) Flush() { w.head = time.Since(w.began) }

func (w *headWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.wrote, w.first = true, time.Since(w.began)
	}
	return w.ResponseWriter.Write(p)
}

// Clients give up on a server that does not answer, and not on one that is slow.
func TestTheHeaderDoesNotWaitForItsBytes(t *testing.T) {
	body := strings.Repeat("x", 1000)
	for name, send := range map[string]func(io.Writer) error{
		"written": func(w io.Writer) error { _, err := io.WriteString(w, body); return err },
		"copied": func(w io.Writer) error {
			_, err := w.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: strings.NewReader(body), N: 1000})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits, err := rate.New(nil)
				if err != nil {
					t.Fatal(err)
				}
				limits.Set([]rate.Rule{{Limits: rate.Limits{BytesPerSecond: 1000}}})
				r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
				visit, err := limits.Enter(t.Context(), access.Client{Addr: netip.MustParseAddr("192.0.2.1")})
				if err != nil {
					t.Fatal(err)
				}
				defer visit.Close()
				if _, err := visit.Piece(t.Context(), 1000); err != nil { // what may be had at once is had
					t.Fatal(err)
				}
				w := &headWriter{ResponseWriter: httptest.NewRecorder(), began: time.Now(), head: -1}
				if err := send(limited(w, r, visit)); err != nil {
					t.Fatal(err)
				}
				if w.head != 0 || w.first != time.Second {
					t.Errorf("the header goes out after %v, the first bytes after %v", w.head, w.first)
				}
			})
		})
	}
}

// What is sent of a refusal is no blob.
func TestARangeThatIsRefusedCostsNoBytes(t *testing.T) {
	limits, err := rate.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	limits.Set([]rate.Rule{{Limits: rate.Limits{BytesPerDay: 1}}})
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	visit, err := limits.Enter(t.Context(), access.Client{Addr: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer visit.Close()
	rec := httptest.NewRecorder()
	w := &blobWriter{ResponseWriter: limited(rec, r, visit), r: r, size: 10}
	w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	if rec.Code != http.StatusRequestedRangeNotSatisfiable || rec.Body.Len() == 0 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if err := visit.Pull(t.Context()); err != nil {
		t.Errorf("the bytes of the refusal are counted: %v", err)
	}
}

// Clients ask for a large blob in parts at the same time: that is one pull.
func TestPartsOfABlobAreOnePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits, err := rate.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		limits.Set([]rate.Rule{{Limits: rate.Limits{Pulls: 1}}})
		enter := func() *rate.Visit {
			v, err := limits.Enter(t.Context(), access.Client{Addr: netip.MustParseAddr("192.0.2.1")})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		pull := func(v *rate.Visit, blob, header string) error {
			r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
			if header != "" {
				r.Header.Set("Range", header)
			}
			return beginPull(r, request{visit: v, digest: oci.DigestOf([]byte(blob))})
		}
		one, two := enter(), enter()
		if err := errors.Join(pull(one, "a", "bytes=0-9"), pull(two, "a", "bytes=10-")); err != nil {
			t.Errorf("another part of the same blob: %v", err)
		}
		for fact, c := range map[string][2]string{
			"a part of another blob": {"b", "bytes=0-9"}, "the same blob once more": {"a", ""}, "no range": {"a", "pages=1"},
		} {
			if err := pull(enter(), c[0], c[1]); oci.CodeOf(err) != oci.CodeTooManyRequests {
				t.Errorf("%s: %v", fact, err)
			}
		}
		one.Close()
		if err := pull(enter(), "b", "bytes=0-9"); oci.CodeOf(err) != oci.CodeTooManyRequests {
			t.Errorf("while a part is being sent: %v", err)
		}
		two.Close()
		if err := pull(enter(), "b", "bytes=0-9"); err != nil {
			t.Errorf("when both have ended: %v", err)
		}
	})
}
