//go:build e2e

package e2e

import (
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// told is what the page says a person should do, in the order of the page: files and
// commands, each under the name of its element.
type told map[string]toldPart

type toldPart struct{ file, text string }

// readPage reads the page as it stands in its HTML.
func readPage(t *testing.T, url string) told {
	t.Helper()
	status, _, body := curl(t, "--header", "Accept: text/html", url)
	if status != "200" {
		t.Fatalf("%s: %s\n%s", url, status, body)
	}
	parts := told{}
	block := regexp.MustCompile(`(?s)<div class="code">\s*(?:<p class="file">.*?<code>(.*?)</code></p>)?\s*<pre id="([\w-]+)" tabindex="0"><code>(.*?)</code></pre>`)
	for _, m := range block.FindAllStringSubmatch(string(body), -1) {
		parts[m[2]] = toldPart{html.UnescapeString(m[1]), html.UnescapeString(m[3]) + "\n"}
	}
	return parts
}

// part is one part of the page, which must be a file where the name of one is given.
func (p told) part(t *testing.T, id, file string) string {
	t.Helper()
	found, ok := p[id]
	if !ok || found.file != file {
		t.Fatalf("the page has no %s for %q: %+v", id, file, p)
	}
	return found.text
}

// put writes a file of the page to where the page says, until the test ends. The
// folders are private to the tests.
func (p told) put(t *testing.T, id, file string) {
	t.Helper()
	writeFile(t, file, p.part(t, id, file))
	t.Cleanup(func() { os.Remove(file) })
}

// obey runs those commands of a part that are of a client.
func (p told) obey(t *testing.T, id string, c command) {
	t.Helper()
	ran := 0
	for line := range strings.Lines(p.part(t, id, "")) {
		if words := strings.Fields(line); words[0] == strings.TrimRight(filepath.Base(c.path), "2") {
			c.run(t, words[1:]...)
			ran++
		}
	}
	if ran == 0 {
		t.Fatalf("no command for %s in %q", c.path, p[id].text)
	}
}

// Docker does as the page says, word for word: by the mirror's name with plain HTTP,
// and with the mirror behind its own names.
func TestPageTellsDockerWhatWorks(t *testing.T) {
	m := startMirror(t, options{})
	image := original(t, "docker.io", "library/tiny", "latest")
	page := readPage(t, pageURL(m, "docker run --rm tiny"))
	t.Run("pull and tag", func(t *testing.T) {
		d := startDocker(t, page.part(t, "docker-0", "/etc/docker/daemon.json"))
		page.obey(t, "docker-1", d.command)
		d.wantImage(t, "tiny:latest", image)
		d.wantRun(t, "tiny:latest", said("docker.io", "library/tiny"))
		m.wantOnlyAsked(t, "docker.io")
	})
	t.Run("registry-mirrors", func(t *testing.T) {
		d := startDocker(t, page.part(t, "docker-2", "/etc/docker/daemon.json"))
		d.run(t, "pull", "tiny")
		d.wantImage(t, "tiny:latest", image)
		m.wantOnlyAsked(t, "docker.io")
	})
}

func TestPageTellsContainerdWhatWorks(t *testing.T) {
	for _, v := range containerdVersions {
		t.Run(v.name, func(t *testing.T) {
			m := startMirror(t, options{})
			page := readPage(t, pageURL(m, "quay.io/team/tool:1"))
			page.put(t, "containerd-2", "/etc/containerd/certs.d/quay.io/hosts.toml")
			c := startContainerd(t, v, nil, "")
			page.obey(t, "containerd-3", c.command)
			c.wantImage(t, "default", "quay.io/team/tool:1", original(t, "quay.io", "team/tool", "1"))
			m.wantOnlyAsked(t, "quay.io")

			// One file for all registries, from the page without an image.
			m.forget()
			if err := os.RemoveAll("/etc/containerd/certs.d/quay.io"); err != nil {
				t.Fatal(err)
			}
			readPage(t, pageURL(m, "")).put(t, "containerd-2", "/etc/containerd/certs.d/_default/hosts.toml")
			c.run(t, "images", "pull", "--hosts-dir", "/etc/containerd/certs.d", "registry.k8s.io/pause:3.1")
			c.wantImage(t, "default", "registry.k8s.io/pause:3.1", original(t, "registry.k8s.io", "pause", "3.1"))
			m.wantOnlyAsked(t, "registry.k8s.io")
		})
	}
}

func TestPageTellsPodmanWhatWorks(t *testing.T) {
	for pasted, a := range map[string]mirrored{
		"tiny":                 {"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
		"k8s.gcr.io/pause:3.1": {"k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
	} {
		m := startMirror(t, options{})
		page := readPage(t, pageURL(m, pasted))
		page.put(t, "podman-0", "/etc/containers/registries.conf.d/50-sampan.conf")
		c := newContainersEnv(t, "")
		page.obey(t, "podman-1", c.command(podmanPath))
		wantStored(t, c.command(buildahPath), a.name, original(t, a.upstream, a.repository, a.reference))
		m.wantOnlyAsked(t, a.upstream)
	}
}

// A name of the page in other clients' words.
func TestPageTellsNamesThatWork(t *testing.T) {
	m := startMirror(t, options{})
	page := readPage(t, pageURL(m, "gcr.io/google_containers/pause:3.1"))
	crane := newTool(t, "crane")
	image := original(t, "gcr.io", "google-containers/pause", "3.1")
	for _, id := range []string{"name-path", "name-host"} {
		if got := crane.run(t, "digest", "--insecure", strings.TrimSpace(page.part(t, id, ""))); strings.TrimSpace(got) != image.digest {
			t.Errorf("%s: %s, want %s", id, got, image.digest)
		}
	}
}
