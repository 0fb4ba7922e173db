//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testbed is what all tests share: registry servers with images in them. Tests
// reach the servers through counting proxies of their own.
type testbed struct {
	registries map[string]string // upstream name to the address of its server
	chart      string            // the folder of the packaged Helm charts
	origins    *origins
}

var bed testbed

// inside starts the servers, makes the images and runs the tests.
func inside(m *testing.M) (int, error) {
	var err error
	if bed.origins, err = listenAsOrigins(); err != nil {
		return 1, err
	}
	bed.registries = map[string]string{}
	for _, name := range []string{"docker.io", "gcr.io", "registry.k8s.io", "quay.io", "ghcr.io"} {
		server, err := startRegistry(name)
		if err != nil {
			return 1, err
		}
		defer server.stop()
	}
	server, err := startReferrersRegistry("native.test")
	if err != nil {
		return 1, err
	}
	defer server.stop()
	if err := makeImages(); err != nil {
		return 1, fmt.Errorf("making the images: %w", err)
	}
	if err := makeArtifacts(); err != nil {
		return 1, fmt.Errorf("making the artifacts: %w", err)
	}
	return m.Run(), nil
}

// startRegistry starts Debian's docker-registry, which has no referrers API.
func startRegistry(name string) (*daemon, error) {
	dir, err := newDir("registry")
	if err != nil {
		return nil, err
	}
	address := freeAddress()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q, secret: e2e}\n", filepath.Join(dir, "data"), address)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	d, err := startDaemon(cleanEnv(dir), filepath.Join(dir, "log"), registryPath, "serve", file)
	if err != nil {
		return nil, err
	}
	bed.registries[name] = address
	return d, d.ready(answers("http://" + address + "/v2/"))
}

// startReferrersRegistry starts olareg, which has one.
func startReferrersRegistry(name string) (*daemon, error) {
	dir, err := newDir("olareg")
	if err != nil {
		return nil, err
	}
	address := freeAddress()
	host, port, _ := strings.Cut(address, ":")
	d, err := startDaemon(cleanEnv(dir), filepath.Join(dir, "log"), tool("olareg"),
		"serve", "--addr", host, "--port", port, "--dir", dir, "--gc-frequency", "-1s")
	if err != nil {
		return nil, err
	}
	bed.registries[name] = address
	return d, d.ready(answers("http://" + address + "/v2/"))
}

// answers is a probe: a GET gives 200.
func answers(url string) func() error {
	return func() error {
		status, _, body, err := get(url)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("GET %s: status %d: %s", url, status, body)
		}
		return nil
	}
}

var manifestTypes = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// get is a plain GET that accepts every kind of manifest.
func get(url string) (status int, header http.Header, body []byte, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Accept", manifestTypes)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

// descriptor and manifest are the parts of the specification's documents that
// the tests look at.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Platform  *struct {
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

type manifest struct {
	MediaType string       `json:"mediaType"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"`

	raw    []byte
	digest string
	header http.Header
}

// fetchManifest reads a manifest from a registry or a mirror, by plain HTTP.
func fetchManifest(address, repository, reference string) (manifest, error) {
	var m manifest
	url := fmt.Sprintf("http://%s/v2/%s/manifests/%s", address, repository, reference)
	status, header, body, err := get(url)
	if err != nil {
		return m, err
	}
	if status != http.StatusOK {
		return m, fmt.Errorf("GET %s: status %d: %s", url, status, body)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("GET %s: %w", url, err)
	}
	m.raw, m.digest, m.header = body, digestOf(body), header
	return m, nil
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

// fileDigest is the digest of a file's content.
func fileDigest(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(content)
}

// original reads what the registry behind an upstream holds, past all proxies.
func original(t *testing.T, upstream, repository, reference string) manifest {
	t.Helper()
	m, err := fetchManifest(bed.registries[upstream], repository, reference)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantFile fails unless the file holds exactly this.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if string(got) != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}
