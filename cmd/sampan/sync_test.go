package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/internal/transfer/syncing"
)

// A file of metrics that cannot be written takes no report with it.
func TestAReportIsToldWhereMetricsCannotBeWritten(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	for _, output := range []string{"text", "json"} {
		var out bytes.Buffer
		o := syncOptions{output: output, metrics: filepath.Join(t.TempDir(), "gone", "sync.prom")}
		err := o.report(&out, &syncing.Report{Began: time.Now(), Ended: time.Now(), Empty: []string{"quay.io/a/b"}})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(out.String(), "quay.io/a/b") {
			t.Errorf("%s: got %v, told %q", output, err, out.String())
		}
	}
}

// A file of metrics is whole at any moment, and others may read it.
func TestMetricsAreReplaced(t *testing.T) {
	dir := t.TempDir()
	o := syncOptions{output: "text", metrics: filepath.Join(dir, "sync.prom")}
	for range 2 {
		if err := o.report(&bytes.Buffer{}, &syncing.Report{Began: time.Now(), Ended: time.Now()}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(o.metrics)
		info, statErr := os.Stat(o.metrics)
		if err != nil || statErr != nil || !bytes.Contains(raw, []byte("sampan_sync_complete 0\n")) || info.Mode().Perm()&0o444 != 0o444 {
			t.Errorf("%v %v: %q", err, info.Mode(), raw)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v: %v", err, left)
	}
}
