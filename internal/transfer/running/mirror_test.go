package running

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sampan/internal/oci"
)

// A fakeIntake answers what is put, one answer after the other.
type fakeIntake struct {
	answers []func(w http.ResponseWriter, r *http.Request)
	offsets []string // that were put
}

func (f *fakeIntake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := len(f.offsets)
	f.offsets = append(f.offsets, r.URL.Query().Get("offset"))
	if n >= len(f.answers) {
		http.Error(w, "asked too often", http.StatusTeapot)
		return
	}
	f.answers[n](w, r)
}

func says(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, status) }
}

// takes reads all and wants these bytes.
func takes(want string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != want {
			http.Error(w, fmt.Sprintf("got %q, want %q: %v", got, want, err), http.StatusTeapot)
			return
		}
		fmt.Fprintln(w, `{"here": true, "have": 0}`)
	}
}

// breaks takes some bytes and breaks the connection.
func breaks(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.CopyN(io.Discard, r.Body, 3)
	panic(http.ErrAbortHandler)
}

// A blob is sent until it is there, from where the mirror wants it, and not longer than it
// makes sense.
func TestABlobIsSentFromWhereTheMirrorWantsIt(t *testing.T) {
	const blob = "0123456789"
	have := func(n int) func(http.ResponseWriter, *http.Request) {
		return says(http.StatusRequestedRangeNotSatisfiable, fmt.Sprintf(`{"here": false, "have": %d}`, n))
	}
	lie, busy := says(http.StatusUnprocessableEntity, "not those"), says(http.StatusConflict, "somebody else")
	for _, c := range []struct {
		name    string
		answers []func(http.ResponseWriter, *http.Request)
		offsets []string
		status  int    // of the error; 0 for none
		says    string // the error
	}{
		{"at its end", []func(http.ResponseWriter, *http.Request){have(10), takes("")}, []string{"0", "10"}, 0, ""},
		{"at once", []func(http.ResponseWriter, *http.Request){takes(blob)}, []string{"0"}, 0, ""},
		{"some is there", []func(http.ResponseWriter, *http.Request){have(4), takes("456789")}, []string{"0", "4"}, 0, ""},
		{"it breaks off", []func(http.ResponseWriter, *http.Request){breaks, have(3), takes("3456789")}, []string{"0", "0", "3"}, 0, ""},
		{"it is gone since", []func(http.ResponseWriter, *http.Request){have(4), have(0), takes(blob)}, []string{"0", "4", "0"}, 0, ""},
		{"somebody else brings it", []func(http.ResponseWriter, *http.Request){busy, takes(blob)}, []string{"0", "0"}, 0, ""},
		{"what was there is wrong", []func(http.ResponseWriter, *http.Request){have(4), lie, takes(blob)}, []string{"0", "4", "0"}, 0, ""},
		{"all of it is wrong", []func(http.ResponseWriter, *http.Request){lie}, []string{"0"}, http.StatusUnprocessableEntity, "not those"},
		{"wrong again", []func(http.ResponseWriter, *http.Request){have(4), lie, lie}, []string{"0", "4", "0"}, http.StatusUnprocessableEntity, "not those"},
		{"no room", []func(http.ResponseWriter, *http.Request){says(http.StatusInsufficientStorage, "full")}, []string{"0"}, http.StatusInsufficientStorage, "full"},
		{"no token", []func(http.ResponseWriter, *http.Request){says(http.StatusUnauthorized, "token")}, []string{"0"}, http.StatusUnauthorized, "token"},
		{"no good name", []func(http.ResponseWriter, *http.Request){says(http.StatusBadRequest, "not served")}, []string{"0"}, http.StatusBadRequest, "not served"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeIntake{answers: c.answers}
			server := httptest.NewServer(f)
			defer server.Close()
			w := mirrorAt(t, server.URL, Options{Pause: thrice})
			d := oci.Descriptor{Digest: oci.DigestOf([]byte(blob)), Size: int64(len(blob))}
			err := w.PutBlob(t.Context(), mustRepository(t, "docker.io/library/app"), d, func(_ context.Context, offset int64) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(blob[offset:])), nil
			}, nil)
			if c.status == 0 && err != nil || statusOf(err) != c.status || c.status != 0 && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(f.offsets, c.offsets) {
				t.Errorf("it was sent from %v, want %v", f.offsets, c.offsets)
			}
		})
	}
}

// A blob that cannot be read is not blamed on the mirror.
func TestABlobThatCannotBeReadIsTheArchivesFault(t *testing.T) {
	f := &fakeIntake{answers: []func(http.ResponseWriter, *http.Request){takes("x")}}
	server := httptest.NewServer(f)
	defer server.Close()
	w := mirrorAt(t, server.URL, Options{})
	broken := errors.New("the archive is broken")
	for name, open := range map[string]func() (io.ReadCloser, error){
		"at once": func() (io.ReadCloser, error) { return nil, broken },
		"in between": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader([]byte("01")), failing{broken})), nil
		},
		"early end": func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("01"))), nil },
	} {
		f.offsets = nil
		err := w.PutBlob(t.Context(), mustRepository(t, "docker.io/library/app"), oci.Descriptor{Digest: oci.DigestOf(nil), Size: 10}, func(context.Context, int64) (io.ReadCloser, error) { return open() }, nil)
		if !errors.Is(err, broken) && (name != "early end" || !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("%s: got %v", name, err)
		}
		if len(f.offsets) > 1 {
			t.Errorf("%s: it was sent %d times", name, len(f.offsets))
		}
	}
}

// A slowBlob has some bytes, and then none until its request has ended.
type slowBlob struct {
	ctx  context.Context
	left int
	open *atomic.Int32 // how many are open
}

func (b *slowBlob) Read(p []byte) (int, error) {
	if b.left > 0 {
		n := min(len(p), b.left)
		b.left -= n
		return n, nil
	}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *slowBlob) Close() error {
	b.open.Add(-1)
	return nil
}

// A mirror may answer in the middle of a blob. Then nobody reads on before it is opened
// again, or after PutBlob.
func TestABlobIsReadByOneAtATime(t *testing.T) {
	early := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 3)
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}
	f := &fakeIntake{answers: []func(http.ResponseWriter, *http.Request){early, early, early, early}}
	server := httptest.NewServer(f)
	defer server.Close()
	w := mirrorAt(t, server.URL, Options{Pause: thrice})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open atomic.Int32
	err := w.PutBlob(ctx, mustRepository(t, "docker.io/library/app"), oci.Descriptor{Digest: oci.DigestOf(nil), Size: 1 << 20}, func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		if n := open.Add(1); n > 1 {
			t.Errorf("%d read it", n)
		}
		return &slowBlob{ctx, 64 << 10, &open}, nil
	}, nil)
	if statusOf(err) != http.StatusServiceUnavailable || len(f.offsets) != 4 || open.Load() != 0 {
		t.Errorf("got %v after %d requests; %d read on", err, len(f.offsets), open.Load())
	}
}

// mirrorAt is a Mirror at an address, which does not wait for others.
func mirrorAt(t *testing.T, address string, o Options) *Mirror {
	t.Helper()
	o.Address = address
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	m.busy = 0
	t.Cleanup(m.Close)
	return m
}

// thrice is a Pause that gives up.
func thrice(_ context.Context, n int, err error) error {
	if n > 3 {
		return err
	}
	return nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func mustRepository(t *testing.T, s string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A mirror that takes the connection and says nothing, as one that is frozen does, is
// given up.
func TestAMirrorThatSaysNothingIsGivenUp(t *testing.T) {
	free := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-free:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(free)
	w := mirrorAt(t, server.URL, Options{Patience: 50 * time.Millisecond, Pause: func(_ context.Context, _ int, err error) error { return err }})
	repo := mustRepository(t, "docker.io/library/app")
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than lies in between
	d := oci.Descriptor{Digest: oci.DigestOf(large), Size: int64(len(large))}
	if _, err := w.Has(t.Context(), repo, d); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a question: %v", err)
	}
	open := func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(large[offset:])), nil
	}
	if err := w.PutBlob(t.Context(), repo, d, open, nil); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a blob: %v", err)
	}
	if err := w.PutManifest(t.Context(), repo, d, large, nil); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a manifest: %v", err)
	}
}
