//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Images that were saved, and one that Skopeo copied into a layout, are served where no
// registry can be reached: to engines and tools, by tag and by digest.
func TestArchivesAndLayoutsAreServed(t *testing.T) {
	for _, name := range []string{"images.tar", "images.tar.zst"} {
		t.Run(name, func(t *testing.T) {
			source := startMirror(t, options{})
			s := newSampan(t, source)
			s.run(t, "save", "tiny", "quay.io/team/tool:1", "multi:1", "--platform", "all", "-o", name)
			c := newContainersEnv(t, "")
			layout := filepath.Join(c.dir, "layout")
			c.command(skopeoPath).run(t, "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
				"docker://"+source.address+"/library/oci:1", "oci:"+layout+":1")
			source.forget()

			file := "archive:" + filepath.Join(s.dir, name)
			m := startMirror(t, options{
				upstreams: map[string]string{"docker.io": file, "quay.io": file},
				config:    fmt.Sprintf("upstreams: {gcr.io: {endpoints: [{url: 'oci:%s', repository: team/plain}]}}\n", layout),
			})
			tiny, tool := original(t, "docker.io", "library/tiny", "latest"), original(t, "quay.io", "team/tool", "1")
			d := startDocker(t, "{}")
			for name, image := range map[string]manifest{"/library/tiny:latest": tiny, "/quay.io/team/tool:1": tool} {
				d.run(t, "pull", "--quiet", m.address+name)
				d.wantID(t, m.address+name, image)
			}
			d.wantRun(t, m.address+"/library/tiny:latest", said("docker.io", "library/tiny"))
			d.wantRun(t, m.address+"/quay.io/team/tool:1", said("quay.io", "team/tool"))

			crane := newTool(t, "crane")
			for name, image := range map[string]manifest{
				"/library/tiny:latest": tiny, "/quay.io/team/tool:1": tool,
				"/library/multi:1":                  original(t, "docker.io", "library/multi", "1"),
				"/gcr.io/team/plain:1":              original(t, "docker.io", "library/oci", "1"),
				"/library/tiny@" + tiny.digest:      tiny,
				"/quay.io/team/tool@" + tool.digest: tool,
			} {
				if got := strings.TrimSpace(crane.run(t, "digest", m.address+name)); got != image.digest {
					t.Errorf("%s is %s, want %s", name, got, image.digest)
				}
				if len(image.Manifests) > 0 {
					continue // it validates the one of this platform
				}
				crane.run(t, "validate", "--remote", m.address+name)
			}
			if out := crane.fail(t, "manifest", m.address+"/library/other:1"); !strings.Contains(out, "NAME_UNKNOWN") {
				t.Errorf("of an image that is not there it says %s", out)
			}
			for _, name := range source.names() {
				if n := len(source.upstreams[name].asked("")); n > 0 {
					t.Errorf("%s was asked %d times", name, n)
				}
			}
			said := newSampan(t, m).run(t, "explain", "quay.io/team/tool:1", "--admin", "http://"+m.admin)
			if !strings.Contains(said, file+": up") {
				t.Errorf("explain does not name the archive:\n%s", said)
			}
		})
	}
}
