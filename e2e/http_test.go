//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// curl runs curl, and gives the status, the head and the body of the answer.
func curl(t *testing.T, args ...string) (status, head string, body []byte) {
	t.Helper()
	dir := testDir(t, "curl")
	c := command{path: curlPath, env: cleanEnv(dir), dir: dir}
	status = c.run(t, append([]string{"--silent", "--show-error", "--dump-header", "head", "--output", "body", "--write-out", "%{http_code}"}, args...)...)
	raw, err := os.ReadFile(filepath.Join(dir, "head"))
	if err != nil {
		t.Fatal(err)
	}
	body, err = os.ReadFile(filepath.Join(dir, "body"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return status, string(raw), body
}

// blobURL is where the mirror has a blob of a docker.io repository.
func blobURL(m *mirror, repository, digest string) string {
	return fmt.Sprintf("http://%s/v2/docker.io/%s/blobs/%s", m.address, repository, digest)
}

func TestRangesOfABlob(t *testing.T) {
	m := startMirror(t, options{})
	image := original(t, "docker.io", "library/tiny", "latest")
	layer := image.Layers[0]
	_, _, whole, err := get("http://" + bed.registries["docker.io"] + "/v2/library/tiny/blobs/" + layer.Digest)
	if err != nil || digestOf(whole) != layer.Digest {
		t.Fatalf("reading the original: %v", err)
	}
	size := len(whole)
	url := blobURL(m, "library/tiny", layer.Digest)
	for _, temperature := range []string{"cold", "warm"} {
		for _, c := range []struct {
			name, ask    string
			first, after int
			status       string
		}{
			{"head of it", "bytes=0-99", 0, 100, "206"},
			{"one byte", "bytes=7-7", 7, 8, "206"},
			{"to the end", "bytes=300000-", 300000, size, "206"},
			{"from the start", "bytes=0-", 0, size, "206"},
			{"suffix", "bytes=-100", size - 100, size, "206"},
			{"one past the end", fmt.Sprintf("bytes=300000-%d", size), 300000, size, "206"},
			{"beyond the end", fmt.Sprintf("bytes=%d-", size), 0, 0, "416"},
		} {
			t.Run(temperature+"/"+c.name, func(t *testing.T) {
				status, head, body := curl(t, "--header", "Range: "+c.ask, url)
				if status != c.status {
					t.Fatalf("the status is %s, want %s:\n%s", status, c.status, head)
				}
				if status == "416" {
					wantHeader(t, head, "Content-Range", fmt.Sprintf("bytes */%d", size))
					return
				}
				wantHeader(t, head, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", c.first, c.after-1, size))
				if !bytes.Equal(body, whole[c.first:c.after]) {
					t.Errorf("got %d other bytes than [%d, %d)", len(body), c.first, c.after)
				}
			})
		}
	}
	m.wantEachBlobOnce(t)
}

func wantHeader(t *testing.T, head, name, want string) {
	t.Helper()
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(key, name) {
			if got := strings.TrimSpace(value); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
			return
		}
	}
	t.Errorf("no %s in\n%s", name, head)
}

func TestManifestAnswersAreTheUpstreams(t *testing.T) {
	m := startMirror(t, options{})
	for repository, tag := range map[string]string{"tiny": "latest", "multi": "1", "zstd": "1"} {
		image := original(t, "docker.io", "library/"+repository, tag)
		url := fmt.Sprintf("http://%s/v2/%s/manifests/%s", m.address, repository, image.digest)
		status, head, body := curl(t, "--header", "Accept: "+manifestTypes, url)
		if status != "200" || !bytes.Equal(body, image.raw) {
			t.Fatalf("GET %s gives %s:\n%s", url, status, body)
		}
		for _, h := range []string{"Content-Type", "Docker-Content-Digest", "Content-Length"} {
			wantHeader(t, head, h, image.header.Get(h))
		}
		status, head, _ = curl(t, "--head", "--header", "Accept: "+manifestTypes, url)
		if status != "200" {
			t.Errorf("HEAD %s gives %s", url, status)
		}
		for _, h := range []string{"Content-Type", "Docker-Content-Digest", "Content-Length"} {
			wantHeader(t, head, h, image.header.Get(h))
		}
		if status, _, _ := curl(t, "--header", "Accept: "+manifestTypes, "--header", `If-None-Match: "`+image.digest+`"`, url); status != "304" {
			t.Errorf("with the digest as If-None-Match the status is %s, want 304", status)
		}
	}
}

func TestUnknownRegistryIsDeniedWithTheKeyToChange(t *testing.T) {
	m := startMirror(t, options{})
	url := "http://" + m.address + "/v2/registry.unknown.test/some/image/manifests/1"
	status, _, body := curl(t, url)
	if status != "403" || !strings.Contains(string(body), "DENIED") || !strings.Contains(string(body), "upstreams") || !strings.Contains(string(body), "registry.unknown.test") {
		t.Errorf("GET %s gives %s: %s", url, status, body)
	}
	said := newTool(t, "crane").fail(t, "manifest", m.address+"/registry.unknown.test/some/image:1")
	if !strings.Contains(said, "DENIED") || !strings.Contains(said, "upstreams") {
		t.Errorf("crane's user is told: %s", said)
	}
	d := startDocker(t, "{}")
	said = d.fail(t, "pull", m.address+"/registry.unknown.test/some/image:1")
	if !strings.Contains(said, "upstreams") {
		t.Errorf("Docker's user is told: %s", said)
	}
	for _, name := range m.names() {
		m.upstream(t, name).wantAsked(t, "", 0, 0)
	}
}

func TestMissingImagesAreNotFound(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	for _, name := range []string{"/library/tiny:absent", "/library/absent:1", "/quay.io/absent/image:1"} {
		said := d.fail(t, "pull", m.address+name)
		if !strings.Contains(said, "not found") && !strings.Contains(said, "unknown") {
			t.Errorf("pulling %s says: %s", name, said)
		}
	}
}

func TestAdminListener(t *testing.T) {
	m := startMirror(t, options{})
	image := original(t, "docker.io", "library/tiny", "latest")
	for range 2 {
		if status, _, _ := curl(t, blobURL(m, "library/tiny", image.Layers[0].Digest)); status != "200" {
			t.Fatalf("GET of a blob: status %s", status)
		}
		m.waitForFills(t) // or else the second one still reads the first one's
	}
	log := m.process.logTail(1 << 20)
	for _, want := range []string{"result=fill", "result=hit"} {
		if !strings.Contains(log, want) {
			t.Errorf("no access line with %s in\n%s", want, log)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if status, _, _ := curl(t, "http://"+m.admin+path); status != "200" {
			t.Errorf("GET %s gives %s on the admin listener", path, status)
		}
		if status, _, _ := curl(t, "http://"+m.address+path); status == "200" {
			t.Errorf("GET %s gives 200 to the clients", path)
		}
	}
	_, _, metrics := curl(t, "http://"+m.admin+"/metrics")
	if !strings.Contains(string(metrics), "\nsampan_") {
		t.Errorf("no metric of sampan's among\n%s", metrics)
	}
}
