package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A mirror whose archive is gone runs on, and is asked why it gives no answer.
func TestAMirrorIsFoundAlthoughItsArchiveIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sampan.yaml")
	if err := os.WriteFile(file, []byte("admin: {listen: 127.0.0.1:5999}\nupstreams: {docker.io: {endpoints: ['archive:/gone/images.tar']}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := mirrorOptions{config: file}.open()
	if err != nil || m.base != "http://127.0.0.1:5999" {
		t.Errorf("got %+v, %v", m, err)
	}
}
