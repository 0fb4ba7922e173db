//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// containerd is a daemon with nothing in it, and ctr talking to it.
type containerd struct {
	command
	dir    string
	socket string
}

// containerdVersion is Debian's containerd, or the present one. The keys of the
// settings differ.
type containerdVersion struct {
	name, daemon, ctr string
	config            string // format: the folder of hosts.toml files
}

var containerdVersions = []containerdVersion{
	{"1.6", containerdPath, ctrPath, `version = 2
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = %q
`},
	{"2.1", tool("containerd2"), tool("ctr2"), `version = 3
[plugins."io.containerd.cri.v1.images".registry]
config_path = %q
`},
}

// startContainerd starts the daemon. hosts maps the folders below certs.d to
// their hosts.toml.
func startContainerd(t *testing.T, v containerdVersion, hosts map[string]string, config string) *containerd {
	t.Helper()
	dir := testDir(t, "containerd")
	for name, content := range hosts {
		writeFile(t, filepath.Join(dir, "certs.d", name, "hosts.toml"), content)
	}
	socket := filepath.Join(dir, "s.sock")
	settings := fmt.Sprintf("root = %q\nstate = %q\n[grpc]\naddress = %q\n", filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	version, rest, _ := strings.Cut(fmt.Sprintf(v.config, filepath.Join(dir, "certs.d")), "\n")
	file := writeFile(t, filepath.Join(dir, "config.toml"), version+"\n"+settings+rest+config)
	c := &containerd{command: command{path: v.ctr, env: cleanEnv(dir, "CONTAINERD_ADDRESS="+socket), dir: dir}, dir: dir, socket: socket}
	d := startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "containerd.log"), v.daemon, "--config", file)
	err := d.ready(func() error {
		_, err := c.output("plugins", "ls")
		return err
	})
	if err != nil {
		t.Fatalf("containerd is not ready: %v", err)
	}
	return c
}

// pull pulls as ctr does, which reads the folder of hosts.toml files by itself.
func (c *containerd) pull(t *testing.T, name string) {
	t.Helper()
	c.run(t, "images", "pull", "--hosts-dir", filepath.Join(c.dir, "certs.d"), name)
}

// wantImage fails unless the daemon holds the original's manifest, by its digest
// and byte for byte, under the name.
func (c *containerd) wantImage(t *testing.T, namespace, name string, image manifest) {
	t.Helper()
	for line := range strings.Lines(c.run(t, "--namespace", namespace, "images", "ls", "name=="+name)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == name {
			if fields[2] != image.digest {
				t.Errorf("%s has the digest %s, want %s", name, fields[2], image.digest)
			}
			if got := c.run(t, "--namespace", namespace, "content", "get", image.digest); got != string(image.raw) {
				t.Errorf("the manifest of %s is\n%s\nwant\n%s", name, got, image.raw)
			}
			return
		}
	}
	t.Errorf("containerd has no image %s in namespace %s", name, namespace)
}

// wantRun fails unless a container of the image prints text.
func (c *containerd) wantRun(t *testing.T, name, text string) {
	t.Helper()
	if got := c.run(t, "run", "--rm", name, filepath.Base(testDir(t, "container"))); got != text {
		t.Errorf("the container of %s printed %q, want %q", name, got, text)
	}
}

// hostsFor is a hosts.toml that asks the mirror first, and the server, if it is
// not empty, after it.
func hostsFor(server, mirror, settings string) string {
	var b strings.Builder
	if server != "" {
		fmt.Fprintf(&b, "server = %q\n", server)
	}
	fmt.Fprintf(&b, "[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n%s", mirror, settings)
	return b.String()
}

func eachContainerd(t *testing.T, test func(t *testing.T, v containerdVersion)) {
	for _, v := range containerdVersions {
		t.Run(v.name, func(t *testing.T) { test(t, v) })
	}
}

func TestContainerdPullsWithAFolderPerHost(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		mirror := "http://" + m.address
		c := startContainerd(t, v, map[string]string{
			"docker.io": hostsFor("https://registry-1.docker.io", mirror, ""),
			"quay.io":   hostsFor("https://quay.io", mirror+"/v2/quay.io", "override_path = true\n"),
			"gcr.io":    hostsFor("https://gcr.io", mirror+"/gcr.io", ""),
		}, "")
		for _, a := range []mirrored{
			{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
			{"quay.io/team/tool:1", "quay.io", "team/tool", "1"},
			{"gcr.io/google_containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
		} {
			m.forget()
			c.pull(t, a.name)
			image := original(t, a.upstream, a.repository, a.reference)
			c.wantImage(t, "default", a.name, image)
			c.wantRun(t, a.name, said(a.upstream, a.repository))
			m.wantOnlyAsked(t, a.upstream)
			m.upstream(t, a.upstream).wantAsked(t, "^GET .*/manifests/"+image.digest, 0, 1)
		}
	})
}

// One folder serves all registries: the query parameter ns says which.
func TestContainerdPullsEverythingWithTheDefaultFolder(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+m.address, "")}, "")
		for _, a := range []mirrored{
			{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
			{"quay.io/team/tool:1", "quay.io", "team/tool", "1"},
			{"gcr.io/google_containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
			{"k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
			{"ghcr.io/me/app:1", "ghcr.io", "me/app", "1"},
		} {
			m.forget()
			c.pull(t, a.name)
			c.wantImage(t, "default", a.name, original(t, a.upstream, a.repository, a.reference))
			c.wantRun(t, a.name, said(a.upstream, a.repository))
			m.wantOnlyAsked(t, a.upstream)
		}
	})
}

func TestContainerdPullsTwoArchitecturesOfAnIndex(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+m.address, "")}, "")
		index := original(t, "docker.io", "library/multi", "1")
		c.run(t, "images", "pull", "--all-platforms", "--hosts-dir", filepath.Join(c.dir, "certs.d"), "docker.io/library/multi:1")
		c.wantImage(t, "default", "docker.io/library/multi:1", index)
		for _, d := range index.Manifests {
			want := original(t, "docker.io", "library/multi", d.Digest)
			if got := c.run(t, "content", "get", d.Digest); got != string(want.raw) {
				t.Errorf("the manifest for %s is\n%s\nwant\n%s", d.Platform.Architecture, got, want.raw)
			}
		}
		m.wantEachBlobOnce(t)
		m.wantOnlyAsked(t, "docker.io")
	})
}

func TestContainerdPullsZstdLayers(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+m.address, "")}, "")
		image := original(t, "docker.io", "library/zstd", "1")
		for _, layer := range image.Layers {
			if !strings.HasSuffix(layer.MediaType, "+zstd") {
				t.Fatalf("the testbed's image has a layer of type %s", layer.MediaType)
			}
		}
		c.pull(t, "docker.io/library/zstd:1")
		c.wantImage(t, "default", "docker.io/library/zstd:1", image)
		c.wantRun(t, "docker.io/library/zstd:1", said("docker.io", "library/tiny"))
		m.wantColdPull(t, "docker.io", image)
	})
}

// The path that Kubernetes takes.
func TestContainerdPullsForKubernetes(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+m.address, "")}, "")
		image := original(t, "registry.k8s.io", "pause", "3.1")
		got, err := criPull(c.socket, "k8s.gcr.io/pause:3.1")
		if err != nil {
			t.Fatal(err)
		}
		if got != image.Config.Digest {
			t.Errorf("the image reference is %s, want the digest of the configuration, %s", got, image.Config.Digest)
		}
		c.wantImage(t, "k8s.io", "k8s.gcr.io/pause:3.1", image)
		m.wantOnlyAsked(t, "registry.k8s.io")
		m.wantColdPull(t, "registry.k8s.io", image)
	})
}

// The older form of the settings, without folders, of containerd 1.x.
func TestContainerdPullsWithMirrorTables(t *testing.T) {
	m := startMirror(t, options{})
	v := containerdVersions[0]
	const table = "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.%q]\nendpoint = [%q]\n"
	v.config = "version = 2\n# without config_path, which would be %q\n" +
		fmt.Sprintf(table, "docker.io", "http://"+m.address) +
		fmt.Sprintf(table, "quay.io", "http://"+m.address+"/v2/quay.io") +
		fmt.Sprintf(table, "*", "http://"+m.address)
	c := startContainerd(t, v, nil, "")
	for _, a := range []mirrored{
		{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
		{"quay.io/team/tool:1", "quay.io", "team/tool", "1"},
		{"gcr.io/google_containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
	} {
		m.forget()
		if _, err := criPull(c.socket, a.name); err != nil {
			t.Fatal(err)
		}
		c.wantImage(t, "k8s.io", a.name, original(t, a.upstream, a.repository, a.reference))
		m.wantOnlyAsked(t, a.upstream)
	}
}

// With the mirror as server there is no way past it, and its 404 is the answer.
func TestContainerdHearsThatAnImageDoesNotExist(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		mirror := "http://" + m.address
		c := startContainerd(t, v, map[string]string{"_default": hostsFor(mirror, mirror, "")}, "")
		_, err := criPull(c.socket, "docker.io/library/absent:1")
		if status := (criError{}); !errors.As(err, &status) || !strings.Contains(status.message, "not found") {
			t.Errorf("pulling what does not exist gives %v, want a status that says not found", err)
		}
		m.wantOnlyAsked(t, "docker.io")
		if _, err := criPull(c.socket, "docker.io/library/tiny:latest"); err != nil {
			t.Error(err)
		}
	})
}

// containerd 2.1 can fetch a layer in pieces, with open-ended ranges that it
// closes early. They must not multiply what a slow upstream sends: only what is on
// its way when a body is given up crosses twice.
func TestContainerdPullsALayerInPieces(t *testing.T) {
	m := startMirror(t, options{})
	v := containerdVersions[1]
	c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+m.address, "")},
		"[plugins.\"io.containerd.cri.v1.images\"]\nconcurrent_layer_fetch_buffer = 4194304\n[plugins.\"io.containerd.transfer.v1.local\"]\nconcurrent_layer_fetch_buffer = 4194304\n")
	image := original(t, "docker.io", "library/large", "1")
	layer := image.Layers[2]
	m.upstream(t, "docker.io").misbehave(&fault{path: regexp.MustCompile("/blobs/" + layer.Digest), rate: 4 << 20})
	if _, err := criPull(c.socket, "docker.io/library/large:1"); err != nil {
		t.Fatal(err)
	}
	c.wantImage(t, "k8s.io", "docker.io/library/large:1", image)
	if sent := m.upstream(t, "docker.io").bodyBytes("/blobs/" + layer.Digest); sent < layer.Size || sent > layer.Size*101/100 {
		t.Errorf("the upstream sent %d bytes of a layer of %d", sent, layer.Size)
	}
	m.waitForFills(t)
	want := image.Config.Size
	for _, l := range image.Layers {
		want += l.Size
	}
	_, _, metrics, err := get("http://" + m.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^sampan_fill_upstream_bytes_total (\S+)$`).FindSubmatch(metrics)
	if found == nil {
		t.Fatal("no metric of the bytes received")
	}
	if got, err := strconv.ParseFloat(string(found[1]), 64); err != nil || int64(got) != want {
		t.Errorf("%s bytes of blobs were taken for %d, %v", found[1], want, err)
	}
	pieces := 0
	for line := range strings.Lines(m.process.logTail(1 << 20)) {
		if strings.Contains(line, "/blobs/"+layer.Digest) && strings.Contains(line, "status=206") {
			pieces++
		}
	}
	if pieces < 4 {
		t.Errorf("the access log has %d partial answers for the layer: it was not fetched in pieces", pieces)
	}
}
