//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

const forEver = 1 << 30

// carriers are the commands that write to a registry: each brings an image of the
// testbed's docker.io to a name. What a load brings was saved before.
func carriers(t *testing.T, s command) map[string]func(t *testing.T, image, target string) []string {
	t.Helper()
	return carriersFrom(t, s, bed.registries["docker.io"])
}

// carriersFrom is carriers from another address.
func carriersFrom(t *testing.T, s command, hub string) map[string]func(t *testing.T, image, target string) []string {
	t.Helper()
	return map[string]func(t *testing.T, image, target string) []string{
		"copy": func(_ *testing.T, image, target string) []string {
			return []string{"copy", hub + "/" + image, target}
		},
		"sync": func(t *testing.T, image, target string) []string {
			place := target[:strings.LastIndexByte(target, '/')] // a list keeps the rest of the name
			list := fmt.Sprintf("targets: [%s/]\nnames: {rule: template, template: \"{name}\"}\nimages: [%s/%s]\n", place, hub, image)
			return []string{"sync", "--file", writeFile(t, filepath.Join(testDir(t, "list"), "sync.yaml"), list)}
		},
		"load": func(t *testing.T, image, target string) []string {
			file := filepath.Join(testDir(t, "archive"), "image.tar")
			s.run(t, "save", "--quiet", "--platform", "all", hub+"/"+image, "-o", file)
			return []string{"load", "-i", file, "--to", target}
		},
	}
}

// wantWhole fails unless an image is at the registry, whole, with the digest of the
// testbed's.
func wantWhole(t *testing.T, registry, repository, tag string, image manifest) {
	t.Helper()
	there, err := fetchManifest(registry, repository, tag)
	if err != nil || there.digest != image.digest {
		t.Errorf("%s:%s: %v; it is %s, want %s", repository, tag, err, there.digest, image.digest)
		return
	}
	newTool(t, "crane").run(t, "validate", "--insecure", "--remote", registry+"/"+repository+":"+tag)
}

// wantNothing fails if a name is at the registry.
func wantNothing(t *testing.T, registry, repository, tag string) {
	t.Helper()
	if _, err := fetchManifest(registry, repository, tag); err == nil {
		t.Errorf("%s:%s was published", repository, tag)
	}
}

// A target that fails for a while is waited for, whatever it fails at.
func TestCarriedToATargetThatFailsForAWhile(t *testing.T) {
	s := newCopier(t)
	image, large := largeLayer(t)
	limit := refusal(http.StatusTooManyRequests, "TOOMANYREQUESTS", "slowly")
	busy := refusal(http.StatusServiceUnavailable, "UNAVAILABLE", "later")
	lost := refusal(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "which upload")
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for fact, rules := range map[string]func() rule{
		"it limits the rate": func() rule {
			return all(each(1, "^HEAD .*/blobs/", limit), each(1, "^POST ", limit), each(1, "^PUT .*/blobs/", limit),
				each(1, "^PUT .*/manifests/sha256", limit), each(1, "^PUT .*/manifests/1$", limit))
		},
		"it is down now and then": func() rule {
			return all(each(1, "^POST ", busy), each(2, "^PUT .*/blobs/", busy), each(1, "^PUT .*/manifests/1$", busy))
		},
		"it forgets an upload": func() rule { return each(1, "^PUT .*/blobs/.*"+large.Digest[7:], lost) },
		"it cuts connections":  func() rule { return all(each(1, "^POST ", cut), each(1, "^PUT .*/blobs/", cut)) },
		"it says nothing of bytes": func() rule {
			return all(each(1, "^PUT .*/blobs/.*"+large.Digest[7:], cut), each(forEver, "^GET .*/uploads/", lost))
		},
	} {
		t.Run(fact, func(t *testing.T) {
			for name, args := range carriers(t, s) {
				t.Run(name, func(t *testing.T) {
					registry := bed.registries["quay.io"]
					if name == "sync" {
						registry = bed.registries["native.test"]
					}
					p := newPassage(t, registry)
					p.rules(rules())
					repository := "faults/" + strings.ReplaceAll(fact, " ", "-") + "/" + name + "/large"
					s.run(t, args(t, "library/large:1", p.host()+"/"+repository+":1")...)
					wantWhole(t, registry, repository, "1", image)
				})
			}
		})
	}
}

// Bytes that a target has are not sent again after a break: it says how far it came.
func TestABreakInTheMiddleIsReadOn(t *testing.T) {
	s := newCopier(t)
	image, large := largeLayer(t)
	const before = 8 << 20
	for name, args := range carriers(t, s) {
		t.Run(name, func(t *testing.T) {
			p := newPassage(t, bed.registries["native.test"])
			put := regexp.MustCompile("^PUT .*/blobs/.*" + large.Digest[7:])
			var once sync.Once
			p.rules(func(_ http.ResponseWriter, r *http.Request) bool {
				if put.MatchString(r.Method + " " + r.URL.RequestURI()) {
					once.Do(func() { r.Body = &breaking{r.Body, before} })
				}
				return false
			})
			repository := "breaks/" + name + "/large"
			s.run(t, args(t, "library/large:1", p.host()+"/"+repository+":1")...)
			wantWhole(t, bed.registries["native.test"], repository, "1", image)
			patches := p.crossings("^PATCH ")
			if len(patches) != 1 || patches[0].sent > large.Size-before/2 {
				t.Errorf("of %d bytes, of which about %d had come, were sent on: %+v", large.Size, before, patches)
			}
		})
	}
}

// breaking is a body that ends too early.
type breaking struct {
	io.ReadCloser
	left int64
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// A target that runs full in the middle takes what it can, says so, and gets the rest
// another time.
func TestATargetThatRunsFull(t *testing.T) {
	s := newCopier(t)
	image, large := largeLayer(t)
	small := original(t, "docker.io", "me/app", "1")
	for _, c := range []struct {
		status         int
		code, says, do string
	}{
		{http.StatusInsufficientStorage, "", "takes no more for full/", "what has arrived is not sent again"},
		{http.StatusRequestEntityTooLarge, "SIZE_INVALID", "takes no more for full/", "what has arrived is not sent again"},
		{http.StatusForbidden, "DENIED", "does not let a stranger write to full/", "or for more room"},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			p := newPassage(t, bed.registries["quay.io"])
			const quota = 4 << 20
			refuse := refusal(c.status, c.code, "the project has 4 MiB")
			p.rules(func(w http.ResponseWriter, r *http.Request) bool {
				if r.ContentLength <= 0 || !strings.Contains(r.URL.Path, "/blobs/") || p.sent()+r.ContentLength <= quota {
					return false
				}
				refuse(w, r)
				return true
			})
			place := fmt.Sprintf("full/%d", c.status)
			hub := bed.registries["docker.io"]
			args := []string{"copy", hub + "/me/app:1", hub + "/library/large:1", p.host() + "/" + place + "/"}
			said := s.fail(t, args...)
			for _, want := range []string{"exit status 1", "library/large:1", c.says, "the project has 4 MiB", c.do} {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q: %s", want, said)
				}
			}
			wantWhole(t, bed.registries["quay.io"], place+"/me/app", "1", small)
			wantNothing(t, bed.registries["quay.io"], place+"/library/large", "1")

			p.rules(nil)
			s.run(t, args...)
			wantWhole(t, bed.registries["quay.io"], place+"/library/large", "1", image)
			if got := p.sent(); got != large.Size {
				t.Errorf("the second time %d bytes were sent, of which %d were missing", got, large.Size)
			}
		})
	}
}

// What a target does not take is told in plain words, before anything is sent.
func TestATargetThatRefusesMediaTypes(t *testing.T) {
	s := newCopier(t)
	for fact, answer := range map[string]http.HandlerFunc{
		"says so": refusal(http.StatusUnsupportedMediaType, "UNSUPPORTED", "media type"),
		"calls them broken, as registries did before OCI": refusal(http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid"),
	} {
		t.Run(fact, func(t *testing.T) {
			p := newPassage(t, bed.registries["quay.io"])
			p.rules(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/vnd.oci.image") {
					return false
				}
				answer(w, r)
				return true
			})
			said := s.fail(t, "copy", bed.registries["docker.io"]+"/library/oci:1", p.host()+"/refused/oci:1")
			for _, want := range []string{"does not take manifests of type application/vnd.oci.image.manifest.v1+json", "too old for this"} {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q: %s", want, said)
				}
			}
			if got := p.crossings("/blobs/uploads/"); len(got) != 0 {
				t.Errorf("sent nevertheless: %v", got)
			}
			wantNothing(t, bed.registries["quay.io"], "refused/oci", "1")
			// Docker's own types go to the same registry.
			s.run(t, "copy", bed.registries["docker.io"]+"/library/tiny:latest", p.host()+"/refused/tiny:1")
			wantWhole(t, bed.registries["quay.io"], "refused/tiny", "1", original(t, "docker.io", "library/tiny", "latest"))
		})
	}
}

// A registry that stores something else, or that says so, gets no name.
func TestATargetThatStoresSomethingElse(t *testing.T) {
	s := newCopier(t)
	other := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", digestOf([]byte("another")))
		w.WriteHeader(http.StatusCreated)
	}
	for fact, pattern := range map[string]string{"of a blob": "^PUT .*/blobs/", "of a manifest": "^PUT .*/manifests/" + original(t, "docker.io", "me/app", "1").digest} {
		t.Run(fact, func(t *testing.T) {
			for name, args := range carriers(t, s) {
				p := newPassage(t, bed.registries["quay.io"])
				p.rules(each(forEver, pattern, other))
				repository := "other/" + strings.ReplaceAll(fact, " ", "-") + "/" + name + "/app"
				said := s.fail(t, args(t, "me/app:1", p.host()+"/"+repository+":1")...)
				if !strings.Contains(said, "says that it has stored") || !strings.Contains(said, digestOf([]byte("another"))) {
					t.Errorf("%s: %s", name, said)
				}
				wantNothing(t, bed.registries["quay.io"], repository, "1")
			}
		})
	}
}

// Where a target leads uploads to another host, its password does not go along.
func TestUploadsThatLeadElsewhere(t *testing.T) {
	s := newCopier(t)
	elsewhere, p := newPassage(t, bed.registries["quay.io"]), newPassage(t, bed.registries["quay.io"])
	var mu sync.Mutex
	var carried []string
	elsewhere.rules(func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		carried = append(carried, r.Header.Get("Authorization"))
		return false
	})
	p.rules(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		switch {
		case user != "me" || password != "secret":
			w.Header().Set("WWW-Authenticate", `Basic realm="e2e"`)
			refusal(http.StatusUnauthorized, "UNAUTHORIZED", "who are you")(w, r)
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/"):
			w.Header().Set("Location", elsewhere.server.URL+r.URL.RequestURI())
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			return false
		}
		return true
	})
	writeFile(t, filepath.Join(s.dir, ".docker", "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6c2VjcmV0"}}}`, p.host()))
	s.run(t, "copy", bed.registries["docker.io"]+"/me/app:1", p.host()+"/elsewhere/app:1")
	wantWhole(t, bed.registries["quay.io"], "elsewhere/app", "1", original(t, "docker.io", "me/app", "1"))
	mu.Lock()
	defer mu.Unlock()
	if len(carried) == 0 || strings.Join(carried, "") != "" {
		t.Errorf("the other host got %q", carried)
	}
}

// Some platforms of an index are not what a strict registry takes; it is said what is.
func TestSomePlatformsAtAStrictRegistry(t *testing.T) {
	s := newCopier(t)
	hub, quay := bed.registries["docker.io"], bed.registries["quay.io"]
	multi, tiny := original(t, "docker.io", "library/multi", "1"), original(t, "docker.io", "library/tiny", "latest")
	s.run(t, "copy", hub+"/library/multi:1", hub+"/sparse/three:two")
	s.run(t, "copy", hub+"/library/tiny:latest", hub+"/sparse/three:one")
	var index struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(multi.raw, &index); err != nil {
		t.Fatal(err)
	}
	index.Manifests = append(index.Manifests, json.RawMessage(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"architecture":"s390x","os":"linux"}}`, tiny.MediaType, tiny.digest, len(tiny.raw))))
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPut, "http://"+hub+"/v2/sparse/three/manifests/1", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", index.MediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	said := s.fail(t, "copy", "--platform", "linux/amd64,linux/arm64", hub+"/sparse/three:1", quay+"/sparse/three:1")
	for _, want := range []string{"only with all that it names, and " + tiny.digest + " is not there", "Copy all platforms, or one alone"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q: %s", want, said)
		}
	}
	wantNothing(t, quay, "sparse/three", "1")
	s.env = append(s.env, "LANG=zh_CN.UTF-8")
	if said := s.fail(t, "copy", "--platform", "linux/amd64,linux/arm64", hub+"/sparse/three:1", quay+"/sparse/three:1"); !strings.Contains(said, "请复制所有平台") {
		t.Errorf("in Chinese: %s", said)
	}
	s.run(t, "copy", hub+"/sparse/three:1", quay+"/sparse/three:1")
	if there, err := fetchManifest(quay, "sparse/three", "1"); err != nil || there.digest != digestOf(raw) {
		t.Errorf("all of it: %v, %s", err, there.digest)
	}
}

// While one blob is on a slow way, other images arrive.
func TestASlowUploadHoldsNobodyBack(t *testing.T) {
	s := newCopier(t)
	image, large := largeLayer(t)
	hub, quay := bed.registries["docker.io"], bed.registries["quay.io"]
	p := newPassage(t, quay)
	slow := regexp.MustCompile("^PUT .*/blobs/.*" + large.Digest[7:])
	arrived := make(chan struct{})
	p.rules(func(_ http.ResponseWriter, r *http.Request) bool {
		if slow.MatchString(r.Method + " " + r.URL.RequestURI()) {
			select {
			case <-arrived:
			case <-r.Context().Done():
			}
		}
		return false
	})
	ended := make(chan error, 1)
	go func() {
		_, err := s.output("copy", hub+"/library/large:1", hub+"/me/app:1", hub+"/library/multi:1", p.host()+"/slow/")
		ended <- err
	}()
	for _, name := range []struct{ repository, tag string }{{"me/app", "1"}, {"library/multi", "1"}} {
		if err := poll(clientTimeout, func() error {
			_, err := fetchManifest(quay, "slow/"+name.repository, name.tag)
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	wantNothing(t, quay, "slow/library/large", "1")
	close(arrived)
	if err := within(t, "the copy", ended); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, quay, "slow/library/large", "1", image)
}
