//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newTool is a client built by install.sh, with an empty home folder, in which
// it also runs.
func newTool(t *testing.T, name string) command {
	t.Helper()
	dir := testDir(t, name)
	return command{path: tool(name), env: cleanEnv(dir), dir: dir}
}

func TestCraneReadsEverything(t *testing.T) {
	m := startMirror(t, options{})
	crane := newTool(t, "crane")
	name := m.address + "/library/tiny"
	image := original(t, "docker.io", "library/tiny", "latest")

	if got := strings.TrimSpace(crane.run(t, "digest", name+":latest")); got != image.digest {
		t.Errorf("the digest is %s, want %s", got, image.digest)
	}
	if got := crane.run(t, "manifest", name+":latest"); strings.TrimSpace(got) != strings.TrimSpace(string(image.raw)) {
		t.Errorf("the manifest is\n%s\nwant\n%s", got, image.raw)
	}
	if got, want := crane.run(t, "ls", name), "1.0\n1.1\n2.0\nlatest\n"; strings.ReplaceAll(got, "latest-raw\n", "") != want {
		t.Errorf("the tags are %q, want %q", got, want)
	}
	crane.run(t, "validate", "--remote", name+":latest")
	crane.run(t, "pull", "--format", "oci", name+":latest", filepath.Join(crane.dir, "layout"))
	wantLayout(t, filepath.Join(crane.dir, "layout"), image)
	m.wantOnlyAsked(t, "docker.io")
	m.wantEachBlobOnce(t)
	m.upstream(t, "docker.io").wantAsked(t, "^GET .*/tags/list", 1, 1)
}

func TestCraneReadsPagesOfTags(t *testing.T) {
	m := startMirror(t, options{})
	crane := newTool(t, "crane")
	got := strings.Fields(crane.run(t, "ls", "--full-ref", m.address+"/docker.io/library/tiny"))
	for i, tag := range []string{"1.0", "1.1", "2.0", "latest"} {
		if want := m.address + "/docker.io/library/tiny:" + tag; i >= len(got) || got[i] != want {
			t.Errorf("tag %d of %v is not %s", i, got, want)
		}
	}
	// One tag a page: every Link must lead to the next page at the mirror.
	var tags []string
	next := "/v2/docker.io/library/tiny/tags/list?n=1"
	for pages := 0; next != "" && pages < 10; pages++ {
		status, header, body, err := get("http://" + m.address + next)
		if err != nil || status != 200 {
			t.Fatalf("GET %s: status %d, %v", next, status, err)
		}
		var page struct{ Tags []string }
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Tags) > 1 {
			t.Errorf("a page of %d tags, want one", len(page.Tags))
		}
		tags = append(tags, page.Tags...)
		link, _, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
		next = strings.TrimPrefix(link, "http://"+m.address)
	}
	if got := strings.Join(tags, " "); got != "1.0 1.1 2.0 latest latest-raw" {
		t.Errorf("page by page the tags are %q", got)
	}
}

// regctl asks its mirror with ns=registry-1.docker.io.
func TestRegctlCopiesThroughAMirrorSetting(t *testing.T) {
	m := startMirror(t, options{})
	regctl := newTool(t, "regctl")
	regctl.run(t, "registry", "set", m.address, "--tls", "disabled", "--skip-check")
	regctl.run(t, "registry", "set", "docker.io", "--mirror", m.address, "--skip-check")
	out := filepath.Join(regctl.dir, "layout")
	regctl.run(t, "image", "copy", "docker.io/library/zstd:1", "ocidir://"+out+":1")
	image := original(t, "docker.io", "library/zstd", "1")
	wantLayout(t, out, image)
	m.wantOnlyAsked(t, "docker.io")
	m.wantColdPull(t, "docker.io", image)
}

// docker-registry has no referrers API and olareg has one: the answer through
// the mirror is the same.
func TestOrasPullsAndDiscovers(t *testing.T) {
	for upstream, how := range map[string]string{"ghcr.io": "by tag", "native.test": "by API"} {
		t.Run(how, func(t *testing.T) {
			m := startMirror(t, options{})
			oras := newTool(t, "oras")
			oras.run(t, "pull", "--plain-http", m.address+"/"+upstream+"/artifacts/file:1")
			wantFile(t, filepath.Join(oras.dir, "sbom.json"), billOfMaterials)
			m.wantOnlyAsked(t, upstream)
			m.wantEachBlobOnce(t)

			direct := oras.run(t, "discover", "--plain-http", "--format", "json", bed.registries[upstream]+"/me/app:1")
			type referrers struct{ Manifests []descriptor }
			var want, got referrers
			if err := json.Unmarshal([]byte(direct), &want); err != nil || len(want.Manifests) != 1 {
				t.Fatalf("%v: the testbed's image has not one referrer: %s", err, direct)
			}
			name := m.address + "/" + upstream + "/me/app"
			out := oras.run(t, "discover", "--plain-http", "--format", "json", "--artifact-type", "application/spdx+json", name+":1")
			if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Manifests) != 1 || got.Manifests[0].Digest != want.Manifests[0].Digest {
				t.Fatalf("%v: discovered %s, want %s", err, out, direct)
			}
			none := oras.run(t, "discover", "--plain-http", "--format", "json", "--artifact-type", "application/other", name+":1")
			if strings.Contains(none, want.Manifests[0].Digest) {
				t.Errorf("another artifact type discovers %s", none)
			}

			if err := os.Remove(filepath.Join(oras.dir, "sbom.json")); err != nil {
				t.Fatal(err)
			}
			oras.run(t, "pull", "--plain-http", name+"@"+got.Manifests[0].Digest)
			wantFile(t, filepath.Join(oras.dir, "sbom.json"), billOfMaterials)
		})
	}
}

func TestHelmPullsByVersionAndByRange(t *testing.T) {
	m := startMirror(t, options{})
	helm := newTool(t, "helm")
	name := "oci://" + m.address + "/ghcr.io/charts/hello"
	for wanted, version := range map[string]string{"0.1.0": "0.1.0", "~0.1.0": "0.1.7", ">=0.1.0": "0.2.0"} {
		helm.run(t, "pull", name, "--plain-http", "--version", wanted)
		file := "hello-" + version + ".tgz"
		if got, want := fileDigest(t, filepath.Join(helm.dir, file)), fileDigest(t, filepath.Join(bed.chart, file)); got != want {
			t.Errorf("version %s gives a chart of digest %s, want that of %s, %s", wanted, got, version, want)
		}
	}
	if out := helm.run(t, "template", "release", name, "--plain-http", "--version", "0.1.7"); !strings.Contains(out, `version: "0.1.7"`) {
		t.Errorf("the chart renders as\n%s", out)
	}
	m.wantOnlyAsked(t, "ghcr.io")
	m.wantEachBlobOnce(t)
}

func TestWritesAreRefused(t *testing.T) {
	m := startMirror(t, options{})
	crane := newTool(t, "crane")
	said := crane.fail(t, "copy", bed.registries["quay.io"]+"/team/tool:1", m.address+"/quay.io/team/other:1")
	if !strings.Contains(said, "UNSUPPORTED") {
		t.Errorf("the refusal does not say UNSUPPORTED: %s", said)
	}
	if writes := m.upstream(t, "quay.io").asked("^(POST|PUT|PATCH|DELETE) "); len(writes) > 0 {
		t.Errorf("the upstream was asked to write: %v", writes)
	}
}
