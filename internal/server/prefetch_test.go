package server_test

import (
	"testing"

	"sampan/internal/oci"
)

// An expectant library is told which manifests clients get.
type expectant struct {
	*library
	told []oci.Digest
}

func (e *expectant) Prefetch(_ oci.Repository, m oci.Manifest) {
	e.told = append(e.told, m.Descriptor.Digest)
}

// Whoever only looks whether a manifest is there, or has it already, will not
// ask for its blobs.
func TestOnlyManifestsThatClientsGetArePrefetched(t *testing.T) {
	e := &expectant{library: newLibrary()}
	ts := newServer(t, e)
	digest, _ := digests(e.library)
	for _, c := range []struct {
		line   string
		header []string
		told   int
	}{
		{"HEAD /v2/library/app/manifests/v1", nil, 0},
		{"HEAD /v2/library/app/manifests/" + digest, nil, 0},
		{"GET /v2/library/app/manifests/" + digest, []string{"If-None-Match", `"` + digest + `"`}, 0},
		{"GET /v2/library/app/manifests/v2", nil, 0},
		{"GET /v2/library/app/manifests/v1", nil, 1},
		{"GET /v2/library/app/manifests/" + digest, nil, 1},
	} {
		e.told = nil
		do(t, ts, c.line, c.header...)
		if len(e.told) != c.told {
			t.Errorf("%s %v: told of %v", c.line, c.header, e.told)
		}
	}
}
