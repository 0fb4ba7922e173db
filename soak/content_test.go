package soak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A cargo is one image with an index, under two names: what clients want during a
// part of a run.
type cargo struct {
	repository string
	twin       *cargo // the same in another repository; nil in that one
	blobs      []oci.Descriptor
	manifests  []string          // the tag, and the digests of the platforms
	content    map[string][]byte // by tag or digest
	index      oci.Digest        // what the tag points at
	layer      oci.Descriptor    // the first one of the first platform
	size       int64             // of the blobs, in bytes
}

// load adds the nth cargo to the upstream and learns its content, byte by byte,
// from another registry that holds the same and counts for nothing.
func load(t *testing.T, up *registrytest.Registry, n int, layers []int64) *cargo {
	t.Helper()
	c := &cargo{repository: fmt.Sprintf("soak/cargo%d", n), content: make(map[string][]byte)}
	spec := registrytest.ImageSpec{
		Layers: layers, Seed: uint64(n + 1),
		Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}},
	}
	image := up.AddImage(c.repository, "latest", spec)
	truth := registrytest.StartTest(t, registrytest.Options{})
	defer truth.Close()
	truth.AddImage(c.repository, "latest", spec)
	client := truth.Client()
	c.blobs, c.layer = image.Blobs(), image.Layers[0][0]
	for _, b := range c.blobs {
		c.size += b.Size
		c.content[b.Digest.String()] = fetch(t, client, truth.URL()+"/v2/"+c.repository+"/blobs/"+b.Digest.String(), b.Digest)
	}
	c.manifests = []string{"latest"}
	c.index = image.Manifest.Descriptor.Digest
	c.content["latest"] = image.Manifest.Bytes
	for _, m := range image.Platforms {
		ref := m.Descriptor.Digest.String()
		c.manifests = append(c.manifests, ref)
		c.content[ref] = m.Bytes
	}
	twin := *c
	twin.repository += "-twin"
	up.AddImage(twin.repository, "latest", spec)
	c.twin = &twin
	return c
}

// digest is what the answer to a tag or digest must say that it is.
func (c *cargo) digest(ref string) string {
	if ref == "latest" {
		return c.index.String()
	}
	return ref
}

// fetch reads an URL whose content must be what digest names.
func fetch(t *testing.T, client *http.Client, url string, digest oci.Digest) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !digest.Verify(b) {
		t.Fatalf("%s: %d bytes that are not the digest's, %v", url, len(b), err)
	}
	return b
}

// sent is how many bytes of the cargo's blobs the upstream sent.
func (c *cargo) sent(up *registrytest.Registry) (n int64) {
	for _, b := range c.blobs {
		n += up.BytesSentOf(b.Digest)
	}
	return n
}

// A shelf verifies the files below blobs, each once: what is there under its
// final name never changes.
type shelf struct {
	dir      string
	verified map[string]bool
}

func newShelf(h *home) *shelf {
	return &shelf{dir: filepath.Join(h.data(), "blobs"), verified: make(map[string]bool)}
}

// verify hashes the files that are new.
func (s *shelf) verify(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || s.verified[path] {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, f); err != nil {
			return err
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != entry.Name() {
			t.Errorf("%s holds the content of %s", path, got)
		}
		s.verified[path] = true
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// verifyAll hashes every file, and wants one for each blob of the cargoes.
func (s *shelf) verifyAll(ctx context.Context, t *testing.T, cargoes []*cargo) {
	t.Helper()
	clear(s.verified)
	s.verify(t)
	for _, c := range cargoes {
		for _, b := range c.blobs {
			hex := b.Digest.Hex()
			if !s.verified[filepath.Join(s.dir, "sha256", hex[:2], hex)] {
				t.Errorf("%s of %s is not stored", b.Digest, c.repository)
			}
		}
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
	}
}

// partials returns the names of the partial files and of the journals beside
// those that have gaps.
func partials(t *testing.T, h *home) (files, journals []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.data(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".journal") {
			journals = append(journals, e.Name())
		} else {
			files = append(files, e.Name())
		}
	}
	return files, journals
}
