package remote

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/upstream"
)

// inMemory is a transport to a handler, for tests with a clock of their own.
type inMemory struct{ http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	m.ServeHTTP(w, in)
	if r.Body != nil {
		r.Body.Close()
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// A target that limits the rate is asked no earlier than it says, by nobody.
func TestARateLimitHoldsBackEverything(t *testing.T) {
	for _, kind := range []string{"HEAD /v2/a/app/blobs/sha256", "POST ", "PUT /v2/a/app/blobs/", "PUT /v2/a/app/manifests/sha256", "PUT /v2/a/app/manifests/1"} {
		t.Run(strings.TrimSpace(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const told = 7 * time.Second
				f := emptyFake()
				var limited, early []time.Duration
				began := time.Now()
				f.behave.instead = func(f *fake, w http.ResponseWriter, r *http.Request) bool {
					at := time.Since(began)
					half := r.Method == http.MethodGet // of a question that was under way: what a HEAD that was refused means
					if !half && slices.ContainsFunc(limited, func(l time.Duration) bool { return at > l && at < l+told }) {
						early = append(early, at)
					}
					if strings.HasPrefix(r.Method+" "+r.URL.Path, kind) && f.once("limit", 2) {
						limited = append(limited, at)
						w.Header().Set("Retry-After", "7")
						refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slowly")
						return true
					}
					f.mu.Unlock() // each request takes its time
					time.Sleep(300 * time.Millisecond)
					f.mu.Lock()
					return false
				}
				name, _ := oci.ParseRegistry("registry.test")
				r := openInMemory(t, name, f)
				repo, _ := name.Repository("a/app")
				var blobs []*content
				for seed := range byte(6) {
					blobs = append(blobs, newContent(seed, 1000+int(seed)))
				}
				if err := carryByHand(t, r, repo, blobs); err != nil {
					t.Fatal(err)
				}
				if len(limited) == 0 || len(early) > 0 {
					t.Errorf("limited at %v, asked too early at %v:\n%s", limited, early, strings.Join(f.requests, "\n"))
				}
				if len(f.blobs["a/app"]) != len(blobs) || len(f.tags("a/app")) != 1 {
					t.Errorf("%d blobs and the tags %v are there", len(f.blobs["a/app"]), f.tags("a/app"))
				}
			})
		})
	}
}

func openInMemory(t *testing.T, name oci.Registry, h http.Handler) *Registry {
	t.Helper()
	r, err := Open(name, Options{}, true)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Registry, err = upstream.New(upstream.Options{
		Registry: name, Endpoints: []*url.URL{{Scheme: "http", Host: name.String()}}, Write: true, Transport: inMemory{h}, RateLimitWait: rateLimitWait, Persistent: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// carryByHand sends blobs at the same time, and then an image of them.
func carryByHand(t *testing.T, r *Registry, repo oci.Repository, blobs []*content) error {
	t.Helper()
	var group sync.WaitGroup
	errs := make([]error, len(blobs))
	for i, b := range blobs {
		group.Go(func() {
			here, err := r.Has(t.Context(), repo, b.Descriptor)
			if err == nil && !here {
				err = r.PutBlob(t.Context(), repo, b.Descriptor, b.open, nil)
			}
			errs[i] = err
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	raw := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		oci.MediaTypeImageManifest, blobs[0].Digest, blobs[0].Size))
	tag, err := oci.ParseTag("1")
	if err != nil {
		return err
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(raw), Size: int64(len(raw))}
	return r.PutManifest(t.Context(), repo, d, raw, []oci.Tag{tag})
}

// No room is a refusal of its own, whatever it is for.
func TestNoRoom(t *testing.T) {
	for _, status := range []int{http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage} {
		for _, what := range []string{"/blobs/uploads/", "/manifests/"} {
			t.Run(fmt.Sprint(status, " for ", what), func(t *testing.T) {
				t.Parallel()
				b := newBed(t, behavior{instead: func(_ *fake, w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet || r.Method == http.MethodHead || !strings.Contains(r.URL.Path, what) {
						return false
					}
					refuse(w, status, "DENIED", "the project has 1 GiB")
					return true
				}})
				_, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app"))
				if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "takes no more for a/app") || !strings.Contains(err.Error(), "the project has 1 GiB") {
					t.Errorf("got %v", err)
				}
				if tags := b.target.tags("a/app"); len(tags) != 0 {
					t.Errorf("published: %v", tags)
				}
			})
		}
	}
}
