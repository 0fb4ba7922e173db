package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"sampan/internal/oci"
)

// A content is a blob to be sent, which counts what is read of it.
type content struct {
	oci.Descriptor
	raw []byte

	mu   sync.Mutex
	read int64
}

func newContent(seed byte, size int) *content {
	raw := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(raw)
	return &content{Descriptor: oci.Descriptor{Digest: oci.DigestOf(raw), Size: int64(size)}, raw: raw}
}

// open is a [transfer.Open].
func (c *content) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(&counting{c, bytes.NewReader(c.raw[offset:])}), nil
}

type counting struct {
	c *content
	r io.Reader
}

func (r *counting) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.read += int64(n)
	return n, err
}

// put sends a blob to a fake that behaves so.
func put(t *testing.T, f *fake, c *content) error {
	t.Helper()
	name := f.registry(t)
	repo, err := name.Repository("a/app")
	if err != nil {
		t.Fatal(err)
	}
	return open(t, name, true).PutBlob(t.Context(), repo, c.Descriptor, c.open, nil)
}

func isUpload(r *http.Request, method string) bool {
	return r.Method == method && strings.Contains(r.URL.Path, "/blobs/uploads/")
}

// What a target says of an upload need not be true. A blob arrives all the same where it
// can, and where it cannot there is an end.
func TestUploadsEndWhateverTheTargetSays(t *testing.T) {
	const size = 200 << 10
	always := func(method string, answer func(f *fake, w http.ResponseWriter, r *http.Request)) behavior {
		return behavior{instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			if !isUpload(r, method) {
				return false
			}
			io.Copy(io.Discard, r.Body)
			answer(f, w, r)
			return true
		}}
	}
	// cut breaks the first PUT off after some bytes, of which the fake keeps all.
	cut := func(f *fake, r *http.Request) {
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		got, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		f.uploads[id] = append(f.uploads[id], got...)
		panic(http.ErrAbortHandler)
	}
	broken := func(look func(f *fake, w http.ResponseWriter, r *http.Request) bool) behavior {
		return behavior{instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			if isUpload(r, http.MethodPut) && f.once("cut", 1) {
				cut(f, r)
			}
			return isUpload(r, http.MethodGet) && look(f, w, r)
		}}
	}
	for fact, c := range map[string]struct {
		behave behavior
		says   string // empty where the blob arrives
		most   int64  // bytes read of the source; 0 for any
	}{
		"a break is read on": {behave: broken(func(*fake, http.ResponseWriter, *http.Request) bool { return false }), most: size + size - 64<<10},
		"a break is read on after a while without answers": {most: size + size - 64<<10, behave: broken(func(f *fake, w http.ResponseWriter, _ *http.Request) bool {
			if f.once("look", 2) {
				refuse(w, http.StatusBadGateway, "UNKNOWN", "not now")
				return true
			}
			return false
		})},
		"a break is read on after a rate limit": {most: size + size - 64<<10, behave: broken(func(f *fake, w http.ResponseWriter, _ *http.Request) bool {
			if f.once("look", 3) {
				refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "not now")
				return true
			}
			return false
		})},
		"it never says how much it has": {behave: broken(func(_ *fake, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		})},
		"it says that it has more than was sent": {behave: broken(func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", r.URL.Path)
			w.Header().Set("Range", fmt.Sprintf("0-%d", int64(size)*2))
			w.WriteHeader(http.StatusNoContent)
			return true
		})},
		"it says that it has more than it has": {behave: broken(func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", r.URL.Path)
			w.Header().Set("Range", fmt.Sprintf("0-%d", 100<<10-1))
			w.WriteHeader(http.StatusNoContent)
			return true
		})},
		"it says nonsense of what it has": {behave: broken(func(_ *fake, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", r.URL.Path)
			w.Header().Set("Range", "bytes -5-1x")
			w.WriteHeader(http.StatusNoContent)
			return true
		})},
		"it always says that it goes on": {says: "does not store it", behave: always(http.MethodPut, func(_ *fake, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.Path)
			w.WriteHeader(http.StatusAccepted)
		})},
		"it always says that the bytes do not follow": {says: "has lost the upload", behave: always(http.MethodPut, func(f *fake, w http.ResponseWriter, r *http.Request) {
			clear(f.uploads)
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		})},
		"it forgets every upload": {says: "has lost the upload", behave: always(http.MethodPut, func(f *fake, w http.ResponseWriter, r *http.Request) {
			refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "which upload")
		})},
		"it forgets two uploads": {behave: behavior{instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			if isUpload(r, http.MethodPut) && f.once("forgotten", 2) {
				clear(f.uploads)
			}
			return false
		}}},
		"it takes no piece": {says: "takes no bytes", behave: behavior{largest: 64 << 10, instead: func(_ *fake, w http.ResponseWriter, r *http.Request) bool {
			if !isUpload(r, http.MethodPatch) || r.ContentLength > 64<<10 {
				return false
			}
			w.Header().Set("Location", r.URL.Path)
			w.Header().Set("Range", "0-0")
			w.WriteHeader(http.StatusAccepted)
			return true
		}}},
		"every request is too large": {says: "takes no more for a/app", behave: behavior{largest: 1}},
		"it is never there":          {says: "status 502", behave: always(http.MethodPut, func(_ *fake, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })},
		"it always limits the rate":  {says: "limits the rate", behave: always(http.MethodPut, func(_ *fake, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })},
		"it says it has stored another": {says: "says that it has stored", behave: always(http.MethodPut, func(_ *fake, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", oci.DigestOf([]byte("another")).String())
			w.WriteHeader(http.StatusCreated)
		})},
		"it says that the bytes do not follow, and each time how much else it has": {says: "status 416", behave: behavior{instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			switch {
			case !isUpload(r, r.Method) || r.Method == http.MethodPost:
				return false
			case len(f.requests) > 300: // or it would not end
				w.WriteHeader(http.StatusForbidden)
			case r.Method == http.MethodGet:
				f.hits["look"]++
				w.Header().Set("Location", r.URL.Path)
				w.Header().Set("Range", fmt.Sprintf("0-%d", 1000+f.hits["look"]%2))
				w.WriteHeader(http.StatusNoContent)
			default:
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			}
			return true
		}}},
		"it takes a piece and never has it": {says: "status 416", behave: behavior{largest: 64 << 10, instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
			switch {
			case len(f.requests) > 300 && isUpload(r, http.MethodPatch): // or it would not end
				w.WriteHeader(http.StatusForbidden)
			case isUpload(r, http.MethodGet):
				w.Header().Set("Location", r.URL.Path)
				w.Header().Set("Range", "0-0")
				w.WriteHeader(http.StatusNoContent)
			case isUpload(r, http.MethodPatch) && r.ContentLength <= 64<<10:
				io.Copy(io.Discard, r.Body)
				if !strings.HasPrefix(r.Header.Get("Content-Range"), "0-") {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return true
				}
				w.Header().Set("Location", r.URL.Path)
				w.WriteHeader(http.StatusAccepted)
			default:
				return false
			}
			return true
		}}},
		"it says that the bytes are others": {says: "right when they left", behave: behavior{corruptBlobs: true}},
		"it leads nowhere": {says: "does not say where", behave: always(http.MethodPost, func(_ *fake, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
		})},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			f, blob := newFake(t, c.behave), newContent(1, size)
			err := put(t, f, blob)
			f.mu.Lock()
			defer f.mu.Unlock()
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || !bytes.Equal(f.blobs["a/app"][blob.Digest.String()], blob.raw) {
				t.Errorf("it has not arrived: %v", err)
			}
			if len(f.requests) > 64 {
				t.Errorf("%d requests", len(f.requests))
			}
			if c.most > 0 && blob.read > c.most {
				t.Errorf("%d bytes were read for a blob of %d:\n%s", blob.read, size, strings.Join(f.requests, "\n"))
			}
		})
	}
}

// A target that leads to what is no address gives a wrong answer, which is told at once:
// nothing is asked twice, and the blob is read once at the most.
func TestALocationThatIsNoneIsToldAtOnce(t *testing.T) {
	const size = 200 << 10
	for fact, method := range map[string]string{
		"where an upload begins": http.MethodPost, "where a piece has gone": http.MethodPatch,
		"where it is stored": http.MethodPut, "where it is looked at": http.MethodGet,
	} {
		for _, location := range []string{"file:///etc/passwd", "javascript:alert(1)", "https:///x"} {
			t.Run(fact+" "+location, func(t *testing.T) {
				t.Parallel()
				behave := behavior{instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
					if isUpload(r, http.MethodPut) && method == http.MethodGet && f.once("cut", 1) {
						panic(http.ErrAbortHandler)
					}
					if !isUpload(r, method) || method == http.MethodPatch && r.ContentLength > 64<<10 {
						return false
					}
					io.Copy(io.Discard, r.Body)
					f.hits["astray"]++
					w.Header().Set("Location", location)
					w.WriteHeader(http.StatusAccepted)
					return true
				}}
				if method == http.MethodPatch {
					behave.largest = 64 << 10
				}
				f, blob := newFake(t, behave), newContent(1, size)
				err := put(t, f, blob)
				f.mu.Lock()
				defer f.mu.Unlock()
				if oci.CodeOf(err) != oci.CodeUnsupported || !strings.Contains(err.Error(), "leads to something that is not an address") {
					t.Errorf("got %v", err)
				}
				if f.hits["astray"] != 1 || f.next > 1 {
					t.Errorf("it was heard %d times, in %d uploads:\n%s", f.hits["astray"], f.next, strings.Join(f.requests, "\n"))
				}
			})
		}
	}
}

// A source whose bytes are others never gets its last bytes to a target, which therefore
// need not even look at them.
func TestWrongBytesDoNotLeave(t *testing.T) {
	for fact, behave := range map[string]behavior{
		"in one request": {},
		"in pieces":      {largest: 64 << 10},
		"after a break":  {dropAt: 50 << 10},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			var got int64
			inner := behave
			inner.instead = func(f *fake, w http.ResponseWriter, r *http.Request) bool {
				if r.ContentLength > 0 && (behave.largest == 0 || r.ContentLength <= behave.largest) && (behave.dropAt == 0 || f.hits["drop"] > 0) {
					raw, err := io.ReadAll(r.Body)
					got += int64(len(raw))
					if err != nil {
						panic(http.ErrAbortHandler)
					}
					r.Body = io.NopCloser(bytes.NewReader(raw))
				}
				return false
			}
			f, blob := newFake(t, inner), newContent(1, 200<<10)
			blob.raw[0] ^= 1
			err := put(t, f, blob)
			if oci.CodeOf(err) != oci.CodeDigestInvalid || !strings.Contains(err.Error(), "the bytes that the source gives") {
				t.Errorf("got %v", err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if got >= blob.Size || len(f.blobs["a/app"]) != 0 {
				t.Errorf("%d bytes of %d have left", got, blob.Size)
			}
		})
	}
}

// Where an upload is led to another host, nobody's password goes along.
func TestCredentialsStayWithTheRegistry(t *testing.T) {
	for fact, status := range map[string]int{"by the address of the upload": 0, "by a redirect": http.StatusTemporaryRedirect} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var seen []string
			f := newFake(t, behavior{})
			elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				seen = append(seen, r.Method+" "+r.Header.Get("Authorization")+r.Header.Get("Cookie"))
				mu.Unlock()
				raw, _ := io.ReadAll(r.Body)
				f.mu.Lock()
				defer f.mu.Unlock()
				f.finish(w, "a/app", r.URL.Query().Get("digest"), raw)
			}))
			t.Cleanup(elsewhere.Close)
			f.behave.instead = func(_ *fake, w http.ResponseWriter, r *http.Request) bool {
				if _, _, ok := r.BasicAuth(); !ok {
					w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
					refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
					return true
				}
				switch {
				case isUpload(r, http.MethodPost) && status == 0:
					w.Header().Set("Location", elsewhere.URL+"/signed?key=1")
					w.WriteHeader(http.StatusAccepted)
				case isUpload(r, http.MethodPut):
					w.Header().Set("Location", elsewhere.URL+"/signed?key=1&digest="+url.QueryEscape(r.URL.Query().Get("digest")))
					w.WriteHeader(status)
				default:
					return false
				}
				return true
			}
			name := f.registry(t)
			r, err := Open(name, Options{Pause: atOnce, Username: "me", Password: "secret"}, true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			repo, err := name.Repository("a/app")
			if err != nil {
				t.Fatal(err)
			}
			blob := newContent(1, 1000)
			if err := r.PutBlob(t.Context(), repo, blob.Descriptor, blob.open, nil); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if want := []string{"PUT "}; !slices.Equal(seen, want) {
				t.Errorf("the other host got %q, want %q", seen, want)
			}
		})
	}
}
