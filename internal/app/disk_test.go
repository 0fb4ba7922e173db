package app_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// What was pulled is counted for the registry that it came from, manifests too.
func TestTheDiskIsCountedForTheRegistryThatWasPulledFrom(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", threeLayers(1))
	dir := dataDir(t)
	m := start(t, dir, "example.test="+up.URL())
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	var metrics, want string
	for t.Context().Err() == nil { // a blob is committed a moment after it was received
		metrics = string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body)
		want = fmt.Sprintf("sampan_store_registry_bytes{registry=%q} %v\n", "example.test", float64(bytesBelow(t, filepath.Join(dir, "blobs"))))
		if strings.Contains(metrics, want) && strings.Contains(metrics, "sampan_fill_running 0\n") {
			break
		}
	}
	for _, line := range []string{want, "sampan_store_bytes{state=\"reserved\"} 0\n", "sampan_store_limit_bytes{limit=\"hard\"} 0\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	if strings.HasSuffix(want, " 0\n") {
		t.Error("nothing was stored")
	}
}

// bytesBelow adds up the files below a directory.
func bytesBelow(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			n += fi.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
