//go:build e2e

package e2e

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// said is what the container of an image prints, and what its /etc/origin holds.
func said(upstream, repository string) string {
	return "this is " + upstream + "/" + repository + "\n"
}

// largeSize is the size of the one blob of library/large that matters: long
// enough to be stopped in its middle.
const largeSize = 24 << 20

// makeImages fills the registries. All images share their first layer, a root
// file system of busybox; the second one tells whose image it is.
func makeImages() error {
	dir, err := newDir("images")
	if err != nil {
		return err
	}
	rootfs := filepath.Join(dir, "rootfs.tgz")
	if err := writeRootFS(rootfs); err != nil {
		return err
	}
	crane := command{path: tool("crane"), env: cleanEnv(dir)}
	for _, image := range []struct{ upstream, repository, tag string }{
		{"docker.io", "library/tiny", "latest"},
		{"docker.io", "me/app", "1"},
		{"gcr.io", "google-containers/pause", "3.1"},
		{"registry.k8s.io", "pause", "3.1"},
		{"quay.io", "team/tool", "1"},
		{"ghcr.io", "me/app", "1"},
		{"native.test", "me/app", "1"},
	} {
		target := bed.registries[image.upstream] + "/" + image.repository + ":" + image.tag
		if err := pushImage(crane, dir, rootfs, target, said(image.upstream, image.repository), runtime.GOARCH); err != nil {
			return err
		}
	}
	if err := pushIndex(crane, dir, rootfs); err != nil {
		return err
	}
	if err := pushLarge(crane, dir, rootfs); err != nil {
		return err
	}
	if err := pushVariants(dir); err != nil {
		return err
	}
	for _, tag := range []string{"1.0", "1.1", "2.0"} {
		if _, err := crane.output("tag", bed.registries["docker.io"]+"/library/tiny:latest", tag); err != nil {
			return err
		}
	}
	return nil
}

// pushImage pushes an image of two layers whose container prints text.
func pushImage(crane command, dir, rootfs, target, text, architecture string) error {
	origin := filepath.Join(dir, "origin.tgz")
	if err := writeTar(origin, []entry{{name: "etc/", mode: 0o755}, {name: "etc/origin", mode: 0o644, content: []byte(text)}}); err != nil {
		return err
	}
	raw := target + "-raw"
	if _, err := crane.output("append", "-f", rootfs, "-f", origin, "-t", raw); err != nil {
		return err
	}
	_, err := crane.output("mutate", raw, "-t", target, "--entrypoint", "/bin/cat", "--cmd", "/etc/origin", "--set-platform", "linux/"+architecture)
	return err
}

// pushIndex pushes library/multi:1 for this machine's architecture and another.
// The index is written here, because crane's has fields that older clients drop
// when they write it again.
func pushIndex(crane command, dir, rootfs string) error {
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	registry := bed.registries["docker.io"]
	var children []string
	for _, architecture := range []string{runtime.GOARCH, other} {
		text := said("docker.io", "library/multi") + architecture + "\n"
		if err := pushImage(crane, dir, rootfs, registry+"/library/multi:"+architecture, text, architecture); err != nil {
			return err
		}
		child, err := fetchManifest(registry, "library/multi", architecture)
		if err != nil {
			return err
		}
		children = append(children, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"architecture":%q,"os":"linux"}}`,
			child.MediaType, child.digest, len(child.raw), architecture))
	}
	const indexType = "application/vnd.oci.image.index.v1+json"
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, indexType, strings.Join(children, ","))
	req, err := http.NewRequest(http.MethodPut, "http://"+registry+"/v2/library/multi/manifests/1", strings.NewReader(index))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", indexType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("pushing the index: %s", resp.Status)
	}
	return nil
}

// pushLarge pushes library/large:1, whose third layer does not compress.
func pushLarge(crane command, dir, rootfs string) error {
	content := make([]byte, largeSize)
	rand.NewChaCha8([32]byte{1}).Read(content)
	large := filepath.Join(dir, "large.tgz")
	if err := writeTar(large, []entry{{name: "large", mode: 0o644, content: content}}); err != nil {
		return err
	}
	target := bed.registries["docker.io"] + "/library/large:1"
	if err := pushImage(crane, dir, rootfs, target, said("docker.io", "library/large"), runtime.GOARCH); err != nil {
		return err
	}
	_, err := crane.output("append", "-b", target, "-f", large, "-t", target)
	return err
}

// pushVariants pushes library/oci:1 and library/zstd:1, made from library/tiny.
func pushVariants(dir string) error {
	regctl := command{path: tool("regctl"), env: cleanEnv(dir)}
	registry := bed.registries["docker.io"]
	repository := registry + "/library/"
	for _, args := range [][]string{
		{"registry", "set", registry, "--tls", "disabled", "--skip-check"},
		{"image", "mod", repository + "tiny:latest", "--to-oci", "--create", repository + "oci:1"},
		{"image", "mod", repository + "oci:1", "--layer-compress", "zstd", "--create", repository + "zstd:1"},
	} {
		if _, err := regctl.output(args...); err != nil {
			return err
		}
	}
	return nil
}

// entry is a file of a tar archive: a folder if its name ends in a slash, a link
// if link is set.
type entry struct {
	name    string
	mode    int64
	content []byte
	link    string
}

// writeRootFS writes busybox with the applets that the images use.
func writeRootFS(path string) error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	entries := []entry{{name: "bin/", mode: 0o755}, {name: "bin/busybox", mode: 0o755, content: busybox}}
	for _, applet := range []string{"cat", "cp", "echo", "ls", "sh", "sha256sum"} {
		entries = append(entries, entry{name: "bin/" + applet, link: "busybox"})
	}
	for _, dir := range []string{"dev/", "proc/", "sys/", "tmp/"} {
		entries = append(entries, entry{name: dir, mode: 0o755})
	}
	return writeTar(path, entries)
}

// writeTar writes a compressed archive that depends on nothing but its entries.
func writeTar(path string, entries []entry) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	zipped := gzip.NewWriter(file)
	archive := tar.NewWriter(zipped)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		switch {
		case e.link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
		case strings.HasSuffix(e.name, "/"):
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(e.content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := zipped.Close(); err != nil {
		return err
	}
	return file.Close()
}

// makeArtifacts packages a Helm chart in three versions and attaches a bill of
// materials to an image, once by the fallback tag and once by the referrers API.
func makeArtifacts() error {
	dir, err := newDir("artifacts")
	if err != nil {
		return err
	}
	helm := command{path: tool("helm"), env: cleanEnv(dir), dir: dir}
	chart := filepath.Join(dir, "hello")
	if err := os.MkdirAll(filepath.Join(chart, "templates"), 0o755); err != nil {
		return err
	}
	config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hello}\ndata: {version: {{ .Chart.Version | quote }}}\n"
	if err := os.WriteFile(filepath.Join(chart, "templates", "config.yaml"), []byte(config), 0o644); err != nil {
		return err
	}
	for _, version := range chartVersions {
		description := fmt.Sprintf("apiVersion: v2\nname: hello\nversion: %s\n", version)
		if err := os.WriteFile(filepath.Join(chart, "Chart.yaml"), []byte(description), 0o644); err != nil {
			return err
		}
		if _, err := helm.output("package", "hello"); err != nil {
			return err
		}
		if _, err := helm.output("push", "hello-"+version+".tgz", "oci://"+bed.registries["ghcr.io"]+"/charts", "--plain-http"); err != nil {
			return err
		}
	}
	bed.chart = dir

	oras := command{path: tool("oras"), env: cleanEnv(dir), dir: dir}
	if err := os.WriteFile(filepath.Join(dir, "sbom.json"), []byte(billOfMaterials), 0o644); err != nil {
		return err
	}
	for _, upstream := range []string{"ghcr.io", "native.test"} {
		registry := bed.registries[upstream]
		for _, args := range [][]string{
			{"push", "--plain-http", "--artifact-type", "application/vnd.sampan.test", registry + "/artifacts/file:1", "sbom.json:application/spdx+json"},
			{"attach", "--plain-http", "--artifact-type", "application/spdx+json", registry + "/me/app:1", "sbom.json:application/spdx+json"},
		} {
			if _, err := oras.output(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// chartVersions are in ascending order; "~0.1.0" means the second.
var chartVersions = []string{"0.1.0", "0.1.7", "0.2.0"}

const billOfMaterials = `{"spdxVersion":"SPDX-2.3","name":"app"}`
