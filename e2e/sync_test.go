//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A list brings two repositories of one registry in step with another, and what is in
// step is not sent again.
func TestSyncBringsARegistryInStep(t *testing.T) {
	s := newCopier(t)
	hub, quay := bed.registries["docker.io"], bed.registries["quay.io"]
	for _, tag := range []string{"1.0.0", "1.1.0", "2.0.0-rc.1"} {
		s.run(t, "copy", "--quiet", hub+"/library/tiny:latest", hub+"/synced/tiny:"+tag)
	}
	list := writeFile(t, filepath.Join(s.dir, "sync.yaml"), fmt.Sprintf(`targets: [%s/in-step/]
names: {rule: flatten}
images:
  - %[2]s/me/app:1
  - {source: %[2]s/synced/tiny, tags: {newest: 1, exclude: ["*-*"]}}
  - %[2]s/there/is:none
`, quay, hub))

	if out := s.fail(t, "sync", "--file", list); !strings.Contains(out, "there/is:none") || !strings.Contains(out, "MANIFEST_UNKNOWN") {
		t.Errorf("nothing is said of the image that is not there: %s", out)
	}
	for name, from := range map[string]manifest{
		"me.app:1":          original(t, "docker.io", "me/app", "1"),
		"synced.tiny:1.1.0": original(t, "docker.io", "library/tiny", "latest"),
	} {
		repo, tag, _ := strings.Cut(name, ":")
		if there, err := fetchManifest(quay, "in-step/"+repo, tag); err != nil || there.digest != from.digest {
			t.Errorf("%s: %v, is %s, want %s", name, err, there.digest, from.digest)
		}
	}
	for _, tag := range []string{"1.0.0", "2.0.0-rc.1"} {
		if _, err := fetchManifest(quay, "in-step/synced.tiny", tag); err == nil {
			t.Errorf("%s was not chosen, and is there", tag)
		}
	}

	list = writeFile(t, list, fmt.Sprintf("targets: [%s/in-step/]\nnames: {rule: flatten}\nimages: [{source: %s/synced/tiny, tags: {newest: 1, exclude: ['*-*']}}]\n", quay, hub))
	var report struct {
		Complete bool
		Blobs    int
		Images   []struct{ Target, Result string }
	}
	if err := json.Unmarshal([]byte(s.run(t, "sync", "--file", list, "--output", "json", "--quiet")), &report); err != nil {
		t.Fatal(err)
	}
	if !report.Complete || report.Blobs != 0 || len(report.Images) != 1 || report.Images[0].Result != "unchanged" {
		t.Errorf("the second time: %+v", report)
	}
	newTool(t, "crane").run(t, "validate", "--insecure", "--remote", quay+"/in-step/synced.tiny:1.1.0")
}
