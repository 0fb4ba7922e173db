package app_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/internal/admin"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
	"sampan/internal/upstream"
)

// A saved image is one of a registry, under a name of its own in an archive.
type saved struct {
	from *registrytest.Registry
	at   string // repo:tag there
	name string
}

func parsed(t *testing.T, name string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// save writes an archive, in the place of the one that is there.
func save(t *testing.T, name string, o archive.WriteOptions, without map[oci.Digest]oci.Repository, images ...saved) {
	t.Helper()
	var sources []archive.Source
	for _, i := range images {
		endpoint, err := url.Parse(i.from.URL())
		if err != nil {
			t.Fatal(err)
		}
		at := parsed(t, i.from.Host()+"/"+i.at)
		up, err := upstream.New(upstream.Options{Registry: at.Repository.Registry(), Endpoints: []*url.URL{endpoint}})
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		sources = append(sources, archive.Source{Name: parsed(t, i.name), At: at, Reader: up})
	}
	plan, err := archive.NewPlan(t.Context(), sources, archive.PlanOptions{Without: without})
	if err != nil {
		t.Fatal(err)
	}
	o.Bare = true
	if _, err := archive.Write(t.Context(), plan, name, o); err != nil {
		t.Fatal(err)
	}
}

// lay writes a layout of one image whose index tells no more than the tag.
func lay(t *testing.T, dir string, i saved) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.tar")
	save(t, file, archive.WriteOptions{}, nil, i)
	ref := parsed(t, i.name)
	for name, content := range entries(t, file) {
		if name == layout.IndexFile {
			content = bytes.ReplaceAll(content, []byte(`"`+ref.String()+`"`), []byte(`"`+ref.Tag.String()+`"`))
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// entries are the files of a tar.
func entries(t *testing.T, name string) map[string][]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := make(map[string][]byte)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if all[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// pack writes a tar, in the place of the one that is there.
func pack(t *testing.T, name string, all map[string][]byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, file := range slices.Sorted(maps.Keys(all)) {
		if err := w.WriteHeader(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(all[file]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(all[file]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Images of two registries in one archive, and one in a layout, are served with nobody
// to ask.
func TestArchivesAreServedWithoutANetwork(t *testing.T) {
	for _, zstd := range []bool{false, true} {
		t.Run(fmt.Sprintf("zstd %t", zstd), func(t *testing.T) {
			hub, quay := registrytest.StartTest(t, registrytest.Options{}), registrytest.StartTest(t, registrytest.Options{})
			web := hub.AddImage("library/web", "v1", threeLayers(2))
			tool := quay.AddImage("team/tool", "v1", registrytest.ImageSpec{Seed: 1})
			plain := hub.AddImage("library/plain", "v1", registrytest.ImageSpec{Seed: 2})
			dir := t.TempDir()
			tar := filepath.Join(dir, "images.tar")
			save(t, tar, archive.WriteOptions{Zstd: zstd}, nil,
				saved{hub, "library/web:v1", "docker.io/library/web:v1"}, saved{quay, "team/tool:v1", "quay.io/team/tool:v1"})
			lay(t, filepath.Join(dir, "layout"), saved{hub, "library/plain:v1", "docker.io/library/plain:v1"})
			hub.ResetCounts()
			quay.ResetCounts()
			m := startReloadable(t, fmt.Sprintf("upstreams:\n  docker.io: {endpoints: ['archive:%[1]s', {url: 'oci:%[2]s/layout', repository: plain}]}\n  quay.io: {endpoints: ['archive:%[1]s']}\n", tar, dir))
			for repo, image := range map[string]registrytest.Image{"web": web, "quay.io/team/tool": tool, "plain": plain} {
				for _, ref := range []string{"v1", image.Manifest.Descriptor.Digest.String()} {
					if err := m.pull(repo, ref); err != nil {
						t.Errorf("%s %s: %v", repo, ref, err)
					}
				}
				if r := m.get(t, "/v2/"+repo+"/manifests/v1"); !bytes.Equal(r.body, image.Manifest.Bytes) || r.header.Get("Content-Type") != image.Manifest.Descriptor.MediaType {
					t.Errorf("%s is %s of %s", repo, r.body, r.header.Get("Content-Type"))
				}
				if r := m.get(t, "/v2/"+repo+"/tags/list"); !strings.Contains(string(r.body), `"tags":["v1"]`) {
					t.Errorf("%s", r.body)
				}
			}
			if n := len(hub.Requests()) + len(quay.Requests()); n != 0 {
				t.Errorf("the registries were asked %d times", n)
			}
			for path, code := range map[string]string{
				"/v2/web/manifests/v2": "MANIFEST_UNKNOWN", "/v2/none/manifests/v1": "NAME_UNKNOWN",
				"/v2/quay.io/library/web/manifests/v1": "NAME_UNKNOWN", "/v2/web/blobs/" + tool.Layers[0][0].Digest.String(): "BLOB_UNKNOWN",
			} {
				if r := m.get(t, path); r.status != http.StatusNotFound || r.code() != code {
					t.Errorf("%s: %d %s", path, r.status, r.body)
				}
			}
			if n := strings.Count(m.log.take(), "archive opened"); n != 2 {
				t.Errorf("%d times something was opened, want the archive and the layout", n)
			}
		})
	}
}

// What an archive lacks, and what it left out, comes from the registry; what it has does
// not.
func TestAnArchiveInFrontOfARegistry(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	spec := threeLayers(0)
	carried := up.AddImage("team/web", "v1", spec)
	tar := filepath.Join(t.TempDir(), "images.tar")
	left := carried.Layers[0][1]
	save(t, tar, archive.WriteOptions{}, map[oci.Digest]oci.Repository{left.Digest: {}}, saved{up, "team/web:v1", "up.test/team/web:v1"})
	spec.Seed++
	moved := up.AddImage("team/web", "v1", spec)
	up.AddImage("team/web", "v2", registrytest.ImageSpec{Seed: 9})
	up.ResetCounts()
	m := onOneLine(t, dataDir(t), "up.test=archive:"+tar, "up.test="+up.URL())
	if err := m.pull("up.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	if r := m.get(t, "/v2/up.test/team/web/manifests/v1"); r.header.Get("Docker-Content-Digest") != carried.Manifest.Descriptor.Digest.String() {
		t.Errorf("the tag is not that of the archive: %v", r.header)
	}
	if sent := up.BytesSent(); sent != left.Size {
		t.Errorf("%d bytes came from the registry, want the %d that were left out", sent, left.Size)
	}
	if n := up.Count(registrytest.KindManifest); n != 0 {
		t.Errorf("the registry was asked for manifests %d times", n)
	}
	for _, ref := range []string{"v2", moved.Manifest.Descriptor.Digest.String()} {
		if err := m.pull("up.test/team/web", ref); err != nil {
			t.Error(err)
		}
	}
	if r := m.get(t, "/v2/up.test/team/web/tags/list"); !strings.Contains(string(r.body), `"tags":["v1","v2"]`) {
		t.Errorf("%s", r.body)
	}
}

// What is replaced is seen when a tag is asked for again; what goes away leaves what was
// served.
func TestAnArchiveIsReplacedAndGoesAway(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	first := up.AddImage("team/web", "v1", registrytest.ImageSpec{Seed: 1})
	tar := filepath.Join(t.TempDir(), "images.tar")
	write := func(images ...saved) {
		t.Helper()
		save(t, tar+".new", archive.WriteOptions{}, nil, images...)
		if err := os.Rename(tar+".new", tar); err != nil {
			t.Fatal(err)
		}
	}
	v1, v2 := saved{up, "team/web:v1", "up.test/team/web:v1"}, saved{up, "team/web:v2", "up.test/team/web:v2"}
	write(v1)
	m := startReloadable(t, fmt.Sprintf("tags: {fresh_for: 0, missing_for: 0}\nfetch: {prefetch: false}\nupstreams: {up.test: {endpoints: ['archive:%s']}}\n", tar))
	wantTag := func(want registrytest.Image) {
		t.Helper()
		if err := m.pull("up.test/team/web", "v1"); err != nil {
			t.Fatal(err)
		}
		if got := m.get(t, "/v2/up.test/team/web/manifests/v1").header.Get("Docker-Content-Digest"); got != want.Manifest.Descriptor.Digest.String() {
			t.Errorf("the tag is %s, want %s", got, want.Manifest.Descriptor.Digest)
		}
	}
	wantTag(first)
	second := up.AddImage("team/web", "v1", registrytest.ImageSpec{Seed: 2})
	up.AddImage("team/web", "v2", registrytest.ImageSpec{Seed: 3})
	write(v1, v2)
	wantTag(second)
	if e := m.endpoint(t); e.State != "up" || e.URL != "archive:"+tar || e.Serves != "all" {
		t.Errorf("%+v", e)
	}
	m.settle(t)

	if err := os.Rename(tar, tar+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantTag(second)
	}
	r := m.get(t, "/v2/up.test/team/web/manifests/v1")
	if !strings.Contains(r.header.Get("Warning"), "gives no answer") {
		t.Errorf("an old answer is not marked: %v", r.header)
	}
	r = m.get(t, "/v2/up.test/team/web/manifests/v2")
	if r.status != http.StatusServiceUnavailable || r.code() != "UNAVAILABLE" || strings.Contains(string(r.body), tar) {
		t.Errorf("%d %s", r.status, r.body)
	}
	if e := m.endpoint(t); e.State != "down" || e.Failures == 0 || !strings.Contains(e.Error, "no such file") {
		t.Errorf("%+v", e)
	}
	explained := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/api/v1/explain?image=up.test/team/web:v1")
	var e admin.Explanation
	if err := json.Unmarshal(explained.body, &e); err != nil || e.Upstream == nil || e.Upstream.Endpoints[0].URL != "archive:"+tar || len(e.Upstream.Budgets) != 0 {
		t.Errorf("%s", explained.body)
	}
	metrics := string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body)
	if want := fmt.Sprintf("sampan_upstream_endpoint_up{endpoint=%q,registry=\"up.test\"} 0", "archive:"+tar); !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s", want)
	}
	if r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/readyz"); r.status != http.StatusOK {
		t.Errorf("the mirror is not ready: %d", r.status)
	}
	if r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/upstreams"); r.status != http.StatusOK || !strings.Contains(string(r.body), "archive:"+tar) {
		t.Errorf("the dashboard does not show it: %d", r.status)
	}
	if page := m.page(t); !strings.Contains(page, "up.test") {
		t.Errorf("the page lacks it:\n%s", page)
	}
	if err := os.Rename(tar+".away", tar); err != nil {
		t.Fatal(err)
	}
	if err := m.pull("up.test/team/web", "v2"); err != nil {
		t.Error(err)
	}
	if e := m.endpoint(t); e.State != "up" || e.Failures != 0 {
		t.Errorf("%+v", e)
	}
}

// endpoint is the first one of up.test, as the admin API shows it.
func (r *reloadable) endpoint(t *testing.T) admin.Endpoint {
	t.Helper()
	var doc struct{ Upstreams []admin.Upstream }
	reply := fetch(t, r.client, "http://"+r.app.AdminAddr()+"/api/v1/upstreams")
	if err := json.Unmarshal(reply.body, &doc); err != nil {
		t.Fatal(err)
	}
	for _, u := range doc.Upstreams {
		if u.Registry == "up.test" {
			return u.Endpoints[0]
		}
	}
	t.Fatalf("no up.test in %s", reply.body)
	return admin.Endpoint{}
}

// page is what a browser is shown.
func (r *reloadable) page(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.app.Addr()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	return string(do(t, r.client, req).body)
}

func TestArchivesComeAndGoWithTheConfiguration(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	image := up.AddImage("team/web", "v1", threeLayers(0))
	tar := filepath.Join(t.TempDir(), "images.tar")
	save(t, tar, archive.WriteOptions{Zstd: true}, nil, saved{up, "team/web:v1", "up.test/team/web:v1"})
	up.ResetCounts()
	r := startReloadable(t, "upstreams: {}\n")
	text := fmt.Sprintf("upstreams: {up.test: {endpoints: ['archive:%s']}}\n", tar)
	r.write(t, text)
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := r.pull("up.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	// A mistake changes nothing.
	r.write(t, strings.ReplaceAll(text, tar, tar+"x"))
	if err := r.app.Reload(); err == nil || !strings.Contains(err.Error(), "upstreams.up.test.endpoints[0]: cannot be read") {
		t.Errorf("%v", err)
	}
	// What is the same is not opened again, whatever changes beside it.
	r.write(t, fmt.Sprintf("upstreams: {up.test: {tags: {fresh_for: 0}, endpoints: ['archive:%s', %q]}}\n", tar, up.URL()))
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.get(t, "/v2/up.test/team/web/manifests/v1"); got.header.Get("Docker-Content-Digest") != image.Manifest.Descriptor.Digest.String() {
		t.Errorf("%d %s", got.status, got.body)
	}
	if log := r.log.take(); strings.Count(log, "archive opened") != 1 {
		t.Errorf("it was opened again:\n%s", log)
	}
	if len(up.Requests()) != 0 {
		t.Errorf("the registry was asked: %+v", up.Requests())
	}
	r.write(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [%q]}}\n", up.URL()))
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	up.AddImage("team/web", "v2", threeLayers(0))
	if err := r.pull("up.test/team/web", "v2"); err != nil {
		t.Error(err)
	}
	// Its disk can be taken away.
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(open) == 0 {
		t.Fatalf("%v, %v", open, err)
	}
	for _, fd := range open {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, tar) {
			t.Errorf("%s is open still", to)
		}
	}
}
