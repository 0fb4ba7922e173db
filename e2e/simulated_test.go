//go:build e2e

package e2e

import (
	"net/http"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// The registries as they are: challenges and tokens, blobs behind signed
// redirects to other hosts. The image in them is a real one, and Docker runs it.
func TestDockerPullsFromRegistriesAsTheyAre(t *testing.T) {
	d := startDocker(t, "{}")
	for _, c := range []struct {
		name, repository string
		behavior         registrytest.Behavior
		tokens           int // the most that one pull may cost
	}{
		{"docker.io", "library/tiny", registrytest.DockerHub(), 1},
		{"quay.io", "team/tool", registrytest.Quay(), 1},
		{"ghcr.io", "me/app", registrytest.GHCR(), 1},
		{"gcr.io", "google-containers/pause", registrytest.GCR(), 1},
		{"registry.k8s.io", "pause", registrytest.K8s(), 0},
		{"mcr.microsoft.com", "dotnet/runtime", registrytest.MCR(), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulated := registrytest.StartTest(t, registrytest.Options{})
			image := fill(t, simulated, c.repository, "1")
			simulated.SetBehavior(c.behavior)
			m := startMirror(t, options{upstreams: map[string]string{c.name: simulated.URL()}})

			name := m.address + "/" + c.name + "/" + c.repository + ":1"
			d.run(t, "pull", "--quiet", name)
			d.wantImage(t, name, image)
			d.wantRun(t, name, said("docker.io", "library/tiny"))
			if got := simulated.TokensIssued(); got > c.tokens {
				t.Errorf("the pull cost %d tokens, want at most %d", got, c.tokens)
			}
			for _, blob := range append(image.Layers, image.Config) {
				requests := 0
				for _, r := range simulated.Requests() {
					if r.Method == http.MethodGet && r.Kind == registrytest.KindBlob && strings.HasSuffix(r.Path, blob.Digest) {
						requests++
					}
				}
				if requests != 1 {
					t.Errorf("%s was asked for %d times", blob.Digest, requests)
				}
			}

			simulated.ResetCounts()
			newTool(t, "crane").run(t, "validate", "--remote", name)
			if got := simulated.Count(registrytest.KindAny, http.MethodGet); got > 0 {
				t.Errorf("a warm read asked the upstream with GET %d times", got)
			}
			if got := m.missing(t, c.name+"/"+c.repository+":absent"); !strings.Contains(got, "MANIFEST_UNKNOWN") && !strings.Contains(got, "NAME_UNKNOWN") {
				t.Errorf("a missing tag gives: %s", got)
			}
			d.run(t, "image", "rm", "--force", name)
		})
	}
}

// fill puts the testbed's library/tiny into a simulated registry.
func fill(t *testing.T, into *registrytest.Registry, repository, tag string) manifest {
	t.Helper()
	return fillFrom(t, into, repository, tag, "docker.io", "library/tiny", "latest")
}

// fillFrom puts any image of the testbed into a simulated registry.
func fillFrom(t *testing.T, into *registrytest.Registry, repository, tag, upstream, from, reference string) manifest {
	t.Helper()
	image := original(t, upstream, from, reference)
	for _, blob := range append(image.Layers, image.Config) {
		_, _, content, err := get("http://" + bed.registries[upstream] + "/v2/" + from + "/blobs/" + blob.Digest)
		if err != nil || digestOf(content) != blob.Digest {
			t.Fatalf("reading the original: %v", err)
		}
		into.AddBytes(repository, blob.MediaType, content)
	}
	into.AddManifest(repository, tag, image.MediaType, image.raw)
	return image
}

// missing is what crane says about an image that does not exist.
func (m *mirror) missing(t *testing.T, name string) string {
	t.Helper()
	return newTool(t, "crane").fail(t, "manifest", m.address+"/"+name)
}
