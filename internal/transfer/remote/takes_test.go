package remote

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer"
)

// isMisput tells a manifest under another digest than its own.
func isMisput(r *http.Request) (raw string, ok bool) {
	_, ref, ok := strings.Cut(r.URL.Path, "/manifests/")
	if r.Method != http.MethodPut || !ok {
		return "", false
	}
	b, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(b)))
	return string(b), strings.HasPrefix(ref, "sha256:") && ref != oci.DigestOf(b).String()
}

// answering is a fake with a rule for manifests, by media type and content.
func answering(rule func(mediaType, raw string, misput bool) (status int, code string)) behavior {
	return behavior{instead: func(_ *fake, w http.ResponseWriter, r *http.Request) bool {
		raw, misput := isMisput(r)
		if r.Method != http.MethodPut || raw == "" {
			return false
		}
		status, code := rule(r.Header.Get("Content-Type"), raw, misput)
		if status == 0 {
			return false
		}
		refuse(w, status, code, "no")
		return true
	}}
}

// What a target cannot hold is found out before anything is sent where that can be, and
// what it can hold is never taken for the other.
func TestWhatATargetTakes(t *testing.T) {
	isOCI := func(mediaType string) bool { return strings.Contains(mediaType, "oci") }
	for fact, c := range map[string]struct {
		behave   behavior
		artifact bool
		refused  string // what is said; empty where it arrives
		sent     bool   // although it is refused
	}{
		"one by the book":      {},
		"… and for artifacts":  {artifact: true},
		"one that says so":     {behave: behavior{refusedType: oci.MediaTypeImageManifest}, refused: "does not take manifests of type " + oci.MediaTypeImageManifest + ", so that nothing of it was sent to a/app"},
		"one without indexes":  {behave: behavior{refusedType: oci.MediaTypeImageIndex}, refused: "does not take manifests of type " + oci.MediaTypeImageIndex},
		"one that limits them": {behave: behavior{busy: 2}},
		"an old one, which takes OCI manifests for broken ones": {
			behave: answering(func(mediaType, _ string, _ bool) (int, string) {
				if isOCI(mediaType) {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}), refused: "does not take manifests of type application/vnd.oci.image",
		},
		"one without artifacts": {
			artifact: true, refused: "with application/spdx+json",
			behave: answering(func(_, raw string, _ bool) (int, string) {
				if strings.Contains(raw, "spdx") {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}),
		},
		"one for which a wrong digest is a broken manifest": {
			behave: answering(func(_, _ string, misput bool) (int, string) {
				if misput {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}),
		},
		"one that knows OCI alone, and says the same of a wrong digest": {
			behave: answering(func(mediaType, _ string, misput bool) (int, string) {
				if misput || !isOCI(mediaType) {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}),
		},
		"one for which an index is broken whose children are not there": {
			behave: answering(func(mediaType, raw string, misput bool) (int, string) {
				if misput && mediaType == oci.MediaTypeImageIndex && strings.Contains(raw, "sha256:") {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}),
		},
		"an old one without OCI's index": {
			behave: answering(func(mediaType, _ string, _ bool) (int, string) {
				if mediaType == oci.MediaTypeImageIndex {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}), refused: "does not take manifests of type " + oci.MediaTypeImageIndex,
		},
		"one that takes no line feed behind": {
			behave: answering(func(_, raw string, _ bool) (int, string) {
				if strings.HasSuffix(raw, "\n") {
					return http.StatusBadRequest, "MANIFEST_INVALID"
				}
				return 0, ""
			}),
		},
		"one that forbids it":        {behave: answering(refuseMisputs(http.StatusForbidden, "DENIED"))},
		"one that fails on it":       {behave: answering(refuseMisputs(http.StatusInternalServerError, ""))},
		"one that stores everything": {behave: behavior{instead: storesEverything}},
		"one that looks at the type last": {
			behave: behavior{instead: looksAtTypesLast}, sent: true, refused: "does not take a manifest of type",
		},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, c.behave)
			root := b.image.Manifest
			source := "team/app:1"
			if c.artifact {
				root = b.source.AddArtifact("team/app", "sbom", "application/spdx+json", b.image.Manifest.Descriptor, []byte("{}"))
				source = "team/app:sbom"
			}
			_, err := b.copy(t, transfer.Options{}, b.job(t, source, "a/app"))
			b.target.mu.Lock()
			defer b.target.mu.Unlock()
			sent := len(b.target.blobs["a/app"]) > 0
			if c.refused != "" {
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.refused) || sent != c.sent {
					t.Errorf("got %v; sent: %t", err, sent)
				}
				if _, ok := b.target.manifests["a/app"]["1"]; ok {
					t.Error("it has a tag")
				}
				return
			}
			if got := b.target.manifests["a/app"][strings.TrimPrefix(source, "team/app:")]; err != nil || string(got.raw) != string(root.Bytes) {
				t.Errorf("%v: the tag is %q", err, got.raw)
			}
		})
	}
}

func refuseMisputs(status int, code string) func(string, string, bool) (int, string) {
	return func(_, _ string, misput bool) (int, string) {
		if misput {
			return status, code
		}
		return 0, ""
	}
}

// storesEverything puts a manifest wherever it is told, whole or not.
func storesEverything(f *fake, w http.ResponseWriter, r *http.Request) bool {
	raw, misput := isMisput(r)
	if !misput {
		return false
	}
	if f.manifests["a/app"] == nil {
		f.manifests["a/app"] = map[string]stored{}
	}
	f.manifests["a/app"][oci.DigestOf([]byte(raw)).String()] = stored{r.Header.Get("Content-Type"), []byte(raw)}
	w.WriteHeader(http.StatusCreated)
	return true
}

func looksAtTypesLast(f *fake, w http.ResponseWriter, r *http.Request) bool {
	raw, misput := isMisput(r)
	if raw == "" || misput || !f.complete("a/app", []byte(raw)) {
		return false
	}
	refuse(w, http.StatusUnsupportedMediaType, "", "no")
	return true
}

// That nothing may be written is told before anything is sent, too.
func TestAStrangerIsToldBeforehand(t *testing.T) {
	b := newBed(t, behavior{instead: func(_ *fake, w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
		return true
	}})
	if _, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app")); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if n := b.target.count("POST"); n != 0 || b.source.BytesSentOf(b.image.Layers[0][0].Digest) != 0 {
		t.Errorf("%d uploads were begun", n)
	}
}

// Every kind is asked about once, however many images there are, and not where there is
// nothing to send.
func TestKindsAreAskedAboutOnce(t *testing.T) {
	misputs := 0
	b := newBed(t, behavior{instead: func(_ *fake, _ http.ResponseWriter, r *http.Request) bool {
		if _, misput := isMisput(r); misput {
			misputs++
		}
		return false
	}})
	var jobs []transfer.Job
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		b.source.AddImage("team/"+name, "1", registrytest.ImageSpec{Layers: []int64{10}, Seed: uint64(len(jobs)), Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}})
		jobs = append(jobs, b.job(t, "team/"+name+":1", "x/"+name))
	}
	for range 2 {
		if _, err := b.copy(t, transfer.Options{}, jobs...); err != nil {
			t.Fatal(err)
		}
		if misputs != 2 {
			t.Errorf("asked %d times about indexes and manifests", misputs)
		}
	}
}

// An index with some of its platforms alone is not what every registry takes.
func TestAnIndexWithoutAllThatItNames(t *testing.T) {
	b := newBed(t, behavior{})
	b.image = b.source.AddImage("team/three", "1", registrytest.ImageSpec{Layers: []int64{10}, Seed: 3, Platforms: []oci.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "s390x"},
	}})
	job := b.job(t, "team/three:1", "a/app")
	job.Platforms = []transfer.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	_, err := b.copy(t, transfer.Options{}, job)
	if !errors.Is(err, ErrSparse) || !strings.Contains(err.Error(), "only with all that it names, and "+b.image.Platforms[2].Descriptor.Digest.String()+" is not there") {
		t.Errorf("got %v", err)
	}
	if tags := b.target.tags("a/app"); len(tags) != 0 {
		t.Errorf("published: %v", tags)
	}
}
