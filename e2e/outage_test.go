//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// front is the one address of a registry, at which it can be taken away.
type front struct {
	address string

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	conns    []net.Conn
	accepted int
	running  sync.WaitGroup
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{address: freeAddress()}
	t.Cleanup(f.refuse)
	return f
}

// refuse makes the front refuse connections, and cuts those that are open.
func (f *front) refuse() {
	f.mu.Lock()
	if f.listener != nil {
		f.listener.Close()
		f.listener = nil
	}
	for _, c := range f.conns {
		c.Close()
	}
	f.conns, f.accepted = nil, 0
	f.mu.Unlock()
	f.running.Wait()
}

// lead makes the front lead to a server; an empty target is one that never says
// anything.
func (f *front) lead(t *testing.T, target string) {
	t.Helper()
	f.refuse()
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listener = listener
	f.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.accepted++
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			if target != "" {
				f.running.Go(func() { f.join(conn, target) })
			}
		}
	})
}

// join carries bytes both ways until either side ends.
func (f *front) join(conn net.Conn, target string) {
	defer conn.Close()
	other, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer other.Close()
	f.mu.Lock()
	f.conns = append(f.conns, other)
	f.mu.Unlock()
	f.running.Go(func() {
		io.Copy(other, conn)
		other.Close()
	})
	io.Copy(conn, other)
}

// asked is how many connections came since the front was last changed.
func (f *front) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepted
}

// warmed is one of the images of the day of outage.
type warmed struct {
	upstream, repository, reference string
	image                           registrytest.Image
	multi                           bool
}

// name is how a client pulls it through the mirror at an address.
func (w warmed) name(address string) string {
	separator := ":"
	if strings.HasPrefix(w.reference, "sha256:") {
		separator = "@"
	}
	return address + "/" + w.upstream + "/" + w.repository + separator + w.reference
}

func (w warmed) digest() string { return w.image.Manifest.Descriptor.Digest.String() }

// manifest is what the engines' helpers compare with: of an index, the image of
// this machine's platform.
func (w warmed) manifest() manifest {
	return manifest{digest: w.digest(), raw: w.image.Manifest.Bytes, Config: descriptor{Digest: w.image.Configs[0].Digest.String()}}
}

// outageDay is a mirror of three registries with fifty images in it.
type outageDay struct {
	mirror *mirror
	fronts map[string]*front
	good   map[string]*registrytest.Registry
	images []warmed
}

// startOutageDay warms fifty images: by tag, by digest, and of two platforms.
func startOutageDay(t *testing.T) *outageDay {
	t.Helper()
	d := &outageDay{fronts: map[string]*front{}, good: map[string]*registrytest.Registry{}}
	m := &mirror{address: freeAddress(), admin: freeAddress(), data: testDir(t, "sampan"), upstreams: map[string]*upstream{}}
	config := writeFile(t, filepath.Join(m.data, "sampan.yaml"), "tags: {fresh_for: 0}\n")
	m.args = []string{"serve", "--config", config, "--listen", m.address, "--admin-listen", m.admin, "--data", filepath.Join(m.data, "data")}
	names := []string{"docker.io", "quay.io", "ghcr.io"}
	var trusted []byte
	for _, name := range names {
		good := registrytest.StartTest(t, registrytest.Options{TLS: true})
		d.good[name], d.fronts[name] = good, newFront(t)
		d.fronts[name].lead(t, good.Host())
		trusted = append(trusted, good.CertPEM()...)
		m.args = append(m.args, "--upstream", name+"=https://"+d.fronts[name].address)
	}
	m.env = []string{"SSL_CERT_FILE=" + writeFile(t, filepath.Join(m.data, "ca.crt"), string(trusted))}
	for i := range 50 {
		w := warmed{upstream: names[i%len(names)], repository: fmt.Sprintf("team/app%02d", i), reference: "1"}
		spec := registrytest.ImageSpec{Files: map[string]string{"etc/origin": w.repository + "\n"}, Layers: []int64{}, Seed: uint64(i)}
		tag := w.reference
		switch i % 5 {
		case 0:
			w.multi = true
			for _, architecture := range []string{runtime.GOARCH, "s390x"} {
				spec.Platforms = append(spec.Platforms, oci.Platform{OS: "linux", Architecture: architecture})
			}
		case 1:
			tag = "" // by its digest alone
		}
		w.image = d.good[w.upstream].AddImage(w.repository, tag, spec)
		if tag == "" {
			w.reference = w.digest()
		}
		d.images = append(d.images, w)
	}
	d.mirror = m
	m.start(t)
	d.pullWithCrane(t)
	m.waitForFills(t)
	t.Cleanup(func() { m.wantSoundLog(t) })
	return d
}

// wantAll fails unless these are the digests of all fifty.
func (d *outageDay) wantAll(t *testing.T, client string, digests []string) {
	t.Helper()
	got := map[string]bool{}
	for _, digest := range digests {
		got[digest] = true
	}
	served := 0
	for _, w := range d.images {
		if got[w.digest()] {
			served++
		} else {
			t.Errorf("%s did not get %s", client, w.name("mirror"))
		}
	}
	t.Logf("%s was served %d of %d", client, served, len(d.images))
}

// pullWithCrane pulls all of them, with all of their platforms, in one process.
func (d *outageDay) pullWithCrane(t *testing.T) {
	t.Helper()
	crane := newTool(t, "crane")
	layout := filepath.Join(crane.dir, "layout")
	args := []string{"pull", "--format", "oci"}
	for _, w := range d.images {
		args = append(args, w.name(d.mirror.address))
	}
	crane.run(t, append(args, layout)...)
	var index struct{ Manifests []descriptor }
	raw, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, m := range index.Manifests {
		digests = append(digests, m.Digest)
	}
	d.wantAll(t, "crane", digests)
	for _, w := range d.images {
		for _, blob := range w.image.Blobs() {
			if got := fileDigest(t, filepath.Join(layout, "blobs", "sha256", blob.Digest.Hex())); got != blob.Digest.String() {
				t.Errorf("crane has other bytes for %s of %s", blob.Digest, w.repository)
			}
		}
	}
}

// pullWithSkopeo pulls all of them in one process.
func (d *outageDay) pullWithSkopeo(t *testing.T) {
	t.Helper()
	env := newContainersEnv(t, "")
	var list strings.Builder
	fmt.Fprintf(&list, "%s:\n  tls-verify: false\n  images:\n", d.mirror.address)
	for _, w := range d.images {
		fmt.Fprintf(&list, "    %s/%s: [%q]\n", w.upstream, w.repository, w.reference)
	}
	source, target := writeFile(t, filepath.Join(env.dir, "images.yaml"), list.String()), filepath.Join(env.dir, "target")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	env.command(skopeoPath).run(t, "sync", "--all", "--src", "yaml", "--dest", "dir", source, target)
	var digests []string
	err := filepath.WalkDir(target, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "manifest.json" {
			digests = append(digests, fileDigest(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.wantAll(t, "skopeo", digests)
}

// some are an image of two platforms, one by digest and one by tag, all of
// docker.io.
func (d *outageDay) some() []warmed {
	var found []warmed
	for _, wanted := range []func(warmed) bool{
		func(w warmed) bool { return w.multi },
		func(w warmed) bool { return strings.HasPrefix(w.reference, "sha256:") },
		func(w warmed) bool { return !w.multi && w.reference == "1" },
	} {
		i := slices.IndexFunc(d.images, func(w warmed) bool { return w.upstream == "docker.io" && wanted(w) })
		found = append(found, d.images[i])
	}
	return found
}

func (d *outageDay) pullWithDocker(t *testing.T) {
	t.Helper()
	engine := startDocker(t, "{}")
	for _, w := range d.some() {
		name := w.name(d.mirror.address)
		engine.run(t, "pull", "--quiet", name)
		engine.wantImage(t, name, w.manifest())
	}
}

func (d *outageDay) pullWithContainerd(t *testing.T) {
	t.Helper()
	c := startContainerd(t, containerdVersions[0], map[string]string{"docker.io": hostsFor("", "http://"+d.mirror.address, "")}, "")
	for _, w := range d.some() {
		name := strings.TrimPrefix(w.name(""), "/")
		c.pull(t, name)
		c.wantImage(t, "default", name, w.manifest())
	}
}

func (d *outageDay) pullWithPodman(t *testing.T) {
	t.Helper()
	env := newContainersEnv(t, mirrorsConf(d.mirror.address, "docker.io"))
	podman := env.command(podmanPath)
	for _, w := range d.some() {
		name := strings.TrimPrefix(w.name(""), "/")
		podman.run(t, "pull", "--quiet", name)
		if out := podman.run(t, "image", "inspect", "--format", "{{.Id}} {{.RepoDigests}}", name); !strings.Contains(out, w.image.Configs[0].Digest.Hex()) || !strings.Contains(out, w.digest()) {
			t.Errorf("podman has %s for %s, want %s", out, name, w.digest())
		}
	}
}

// A day of outage: every upstream is away, the mirror is restarted, and whoever
// pulls gets all of what was pulled before.
func TestDayOfOutage(t *testing.T) {
	d := startOutageDay(t)
	wrong := registrytest.StartTest(t, registrytest.Options{TLS: true}) // nobody trusts it
	each := func(t *testing.T, away func(name string, f *front)) {
		for _, name := range slices.Sorted(maps.Keys(d.fronts)) {
			away(name, d.fronts[name])
		}
	}
	for _, outage := range []struct {
		name    string
		away    func(t *testing.T)
		engines []func(*testing.T)
		most    int // connections to each upstream
	}{
		{
			"connections are refused",
			func(t *testing.T) { each(t, func(_ string, f *front) { f.refuse() }) },
			[]func(*testing.T){d.pullWithDocker},
			0,
		},
		{
			"nothing answers",
			func(t *testing.T) { each(t, func(_ string, f *front) { f.lead(t, "") }) },
			[]func(*testing.T){d.pullWithContainerd, d.pullWithPodman},
			12,
		},
		{
			"429",
			func(t *testing.T) {
				each(t, func(name string, f *front) {
					d.good[name].FailNext(registrytest.KindAny, -1, registrytest.TooMany(registrytest.TooManyHub, 0))
					t.Cleanup(d.good[name].ClearFailures)
					f.lead(t, d.good[name].Host())
				})
			},
			[]func(*testing.T){d.pullWithPodman},
			12,
		},
		{
			"the wrong certificate",
			func(t *testing.T) { each(t, func(_ string, f *front) { f.lead(t, wrong.Host()) }) },
			[]func(*testing.T){d.pullWithDocker},
			12,
		},
		{ // the last one: the mirror stays so
			"offline by its operator's wish",
			func(t *testing.T) {
				d.mirror.args = append(d.mirror.args, "--offline")
				each(t, func(name string, f *front) { f.lead(t, d.good[name].Host()) })
			},
			nil, 0,
		},
	} {
		t.Run(outage.name, func(t *testing.T) {
			d.mirror.process.stop()
			outage.away(t)
			d.mirror.start(t)
			for name, f := range d.fronts {
				if n := f.asked(); n != 0 {
					t.Errorf("%s was asked %d times by the start", name, n)
				}
			}
			d.pullWithCrane(t)
			d.pullWithSkopeo(t)
			for _, pull := range outage.engines {
				pull(t)
			}
			d.wantToldAsStale(t)
			// A hundred pulls and more do not try again and again.
			for name, f := range d.fronts {
				n := f.asked()
				t.Logf("%s was asked %d times", name, n)
				if n > outage.most {
					t.Errorf("%s was asked %d times, want at most %d", name, n, outage.most)
				}
			}
		})
	}
	if n := wrong.Count(registrytest.KindAny); n > 0 {
		t.Errorf("%d requests were sent to a server with the wrong certificate", n)
	}
}

// wantToldAsStale fails unless client, operator and metrics learn that an old
// answer was given.
func (d *outageDay) wantToldAsStale(t *testing.T) {
	t.Helper()
	w := d.some()[2]
	_, head, _ := curl(t, "--header", "Accept: "+manifestTypes, fmt.Sprintf("http://%s/v2/%s/%s/manifests/%s", d.mirror.address, w.upstream, w.repository, w.reference))
	if !strings.Contains(head, "\nWarning: 299 ") {
		t.Errorf("no Warning in\n%s", head)
	}
	sampan := command{path: os.Getenv(binaryVariable), env: cleanEnv(d.mirror.data)}
	if out := sampan.run(t, "explain", w.name(d.mirror.address), "--admin", "http://"+d.mirror.admin); !strings.Contains(out, "\nnext pull   stale: ") || !strings.Contains(out, w.digest()) {
		t.Errorf("explain says\n%s", out)
	}
	status, _, metrics, err := get("http://" + d.mirror.admin + "/metrics")
	if err != nil || status != http.StatusOK || !strings.Contains(string(metrics), `sampan_cache_stale_answers_total{reason="`) {
		t.Errorf("no stale answer is counted: %d, %v", status, err)
	}
}
