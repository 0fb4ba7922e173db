package config

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// localFiles makes what endpoints on the disk may be, and returns their directory.
func localFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"layout", "half"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var begin bytes.Buffer
	if err := tar.NewWriter(&begin).WriteHeader(&tar.Header{Name: "oci-layout", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"images.tar": begin.String(), "split.tar.001": begin.String(), "$x.tar": "\x28\xb5\x2f\xfd", "old.tgz": "\x1f\x8b", "text": "images", "empty.tar": "",
		"layout/oci-layout": "{}", "layout/index.json": "{}", "half/oci-layout": "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEndpointsMayBeOnTheDisk(t *testing.T) {
	dir := localFiles(t)
	c := mustLoad(t, fmt.Sprintf(`
upstreams:
  docker.io:
    endpoints:
      - https://registry-1.docker.io
      - {url: 'oci:%[1]s/layout', repository: nginx}
      - url: archive:%[1]s/images.tar
        serves: blobs
  quay.io: {endpoints: ['archive:%[1]s/split.tar', 'archive:%[1]s/$x.tar', 'archive:%[1]s/old.tgz']}
`, dir), nil)
	for range 2 { // as it is written, and as it is shown
		hub, quay := upstream(t, c, "docker.io"), upstream(t, c, "quay.io")
		if urls := hub.Network(); len(urls) != 1 || urls[0].URL.Host != "registry-1.docker.io" {
			t.Errorf("the addresses are %+v", urls)
		}
		files := hub.Locals()
		if len(files) != 2 || files[0].Local.String() != "oci:"+dir+"/layout" || files[1].Local.String() != "archive:"+dir+"/images.tar" {
			t.Fatalf("the files are %+v", files)
		}
		if repo := files[0].Local.Repository.String(); repo != "docker.io/library/nginx" || files[0].BlobsOnly || !files[1].BlobsOnly {
			t.Errorf("%s, %+v", repo, files)
		}
		if files := quay.Locals(); len(quay.Network()) != 0 || len(files) != 3 || files[1].Local.Path != dir+"/$x.tar" {
			t.Errorf("%+v", files)
		}
		var shown strings.Builder
		if err := c.Show(&shown); err != nil {
			t.Fatal(err)
		}
		c = mustLoad(t, shown.String(), nil)
	}
}

// A relative path is one of the working directory, as those of other files are.
// Who asks a mirror why an archive gives no answer can read its configuration although the
// archive is gone.
func TestABystanderNeedsNoArchive(t *testing.T) {
	dir := localFiles(t)
	file := filepath.Join(dir, "sampan.yaml")
	for _, url := range []string{"archive:" + dir + "/gone.tar", "archive:" + dir + "/text", "oci:" + dir + "/half"} {
		if err := os.WriteFile(file, []byte("upstreams: {docker.io: {endpoints: ['"+url+"']}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, s := range []Source{{File: file}, {Flags: Flags{Config: file, Upstreams: []string{"quay.io=" + url}}}} {
			if _, err := Load(s); err == nil {
				t.Errorf("%s: a mirror takes it", url)
			}
			s.Bystander = true
			c, err := Load(s)
			if err != nil {
				t.Errorf("%s: %v", url, err)
				continue
			}
			if locals := upstream(t, c, "docker.io").Locals(); len(locals) != 1 || locals[0].Local.String() != url {
				t.Errorf("%s: got %+v", url, locals)
			}
		}
	}
	if _, err := Load(Source{Flags: Flags{Upstreams: []string{"quay.io=archive:"}}, Bystander: true}); err == nil {
		t.Error("an archive without a name is taken")
	}
}

func TestARelativeArchiveIsMadeAbsolute(t *testing.T) {
	dir := localFiles(t)
	t.Chdir(dir)
	c := mustLoad(t, "upstreams: {quay.io: {endpoints: ['oci:layout']}}", func(s *Source) {
		s.Flags.Upstreams = []string{"docker.io=archive:images.tar", "docker.io=https://a.example"}
	})
	want, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"quay.io": "layout", "docker.io": "images.tar"} {
		got, err := filepath.EvalSymlinks(upstream(t, c, name).Locals()[0].Local.Path)
		if err != nil || got != filepath.Join(want, path) || !filepath.IsAbs(upstream(t, c, name).Locals()[0].Local.Path) {
			t.Errorf("%s is at %s, %v", name, got, err)
		}
	}
	if n := len(upstream(t, c, "docker.io").Network()); n != 1 {
		t.Errorf("%d addresses beside the archive", n)
	}
}

func TestProblemsOfEndpointsOnTheDisk(t *testing.T) {
	dir := localFiles(t)
	for _, c := range []struct{ fact, endpoints, more, want string }{
		{"an archive that is not there", "[{url: 'archive:%s/nope.tar'}]", "", "1:41 upstreams.quay.io.endpoints[0].url: cannot be read: stat " + dir + "/nope.tar: no such file"},
		{"a layout that is not there", "['oci:%s/nope']", "", "1:35 upstreams.quay.io.endpoints[0]: cannot be read: stat " + dir + "/nope: no such file"},
		{"no path", "[{url: 'archive:'}]", "", `1:41 upstreams.quay.io.endpoints[0].url: "archive:" is not oci:DIR or archive:FILE`},
		{"a layout without index", "['oci:%s/half']", "", "1:35 upstreams.quay.io.endpoints[0]: " + dir + "/half is not the directory of an OCI layout"},
		{"an archive as a layout", "['oci:%s/images.tar']", "", "1:35 upstreams.quay.io.endpoints[0]: " + dir + "/images.tar is not the directory of an OCI layout"},
		{"a layout as an archive", "['archive:%s/layout']", "", "1:35 upstreams.quay.io.endpoints[0]: " + dir + "/layout is a directory; that of an OCI layout is written oci:DIR"},
		{"a file that is no archive", "['archive:%s/text']", "", "1:35 upstreams.quay.io.endpoints[0]: " + dir + "/text is no tar archive"},
		{"an empty file", "['archive:%s/empty.tar']", "", "1:35 upstreams.quay.io.endpoints[0]: " + dir + "/empty.tar is no tar archive"},
		{"a pipe, which would wait", "['archive:%s/pipe']", "", "1:35 upstreams.quay.io.endpoints[0]: cannot be read: " + dir + "/pipe: not a regular file"},
		{"credentials for a file", "[{url: 'archive:%s/images.tar', credentials: true}]", "", fmt.Sprintf("1:%d upstreams.quay.io.endpoints[0].credentials: is for addresses only", 77+len(dir))},
		{"a repository for an address", "[{url: 'https://a', repository: b}]", "", "1:66 upstreams.quay.io.endpoints[0].repository: is for oci:DIR and archive:FILE only"},
		{"a repository that is none", "[{url: 'archive:%s/images.tar', repository: A/B}]", "", fmt.Sprintf("1:%d upstreams.quay.io.endpoints[0].repository: \"A/B\" is not the path of a repository", 76+len(dir))},
		{"a misspelt kind", "[{url: 'tar:/x.tar'}]", "", `1:41 upstreams.quay.io.endpoints[0].url: "tar:/x.tar" is not a URL`},
		{"only blobs of a file", "[{url: 'archive:%s/images.tar', serves: blobs}]", "", "1:34 upstreams.quay.io.endpoints: needs at least one endpoint that serves all"},
		{"an address for blobs alone behind a file", "['archive:%s/images.tar', {url: 'https://a', serves: blobs}]", "", "1:34 upstreams.quay.io.endpoints: needs at least one address that serves all"},
		{"accounts without an address", "['archive:%s/images.tar']", ", username: a, password: b, public: true", "1:13 upstreams.quay.io: accounts and pass_through need an address of the registry"},
		{"clients' credentials without an address", "['archive:%s/images.tar']", ", pass_through: true", "1:13 upstreams.quay.io: accounts and pass_through need"},
		{"rules with clients' credentials without an address", "['archive:%s/images.tar']", ", repositories: {a: {pass_through: true}}", "1:13 upstreams.quay.io: accounts and pass_through need"},
		{"an archive for the bytes, and the registry for the rest", "[{url: 'archive:%s/images.tar', serves: blobs}, 'https://a']", ", username: a, password: b, public: true", ""},
		{"an empty entry", "['']", "", `1:35 upstreams.quay.io.endpoints[0]: "" is not a URL`},
	} {
		t.Run(c.fact, func(t *testing.T) {
			endpoints := strings.ReplaceAll(c.endpoints, "%s", dir)
			_, err := load(t, "upstreams: {quay.io: {endpoints: "+endpoints+c.more+"}}\n", nil)
			got := problems(t, err)
			if len(got) > 1 || (len(got) == 0) != (c.want == "") || len(got) == 1 && !strings.HasPrefix(got[0], c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), c.want)
			}
		})
	}
}

func TestAFlagThatNamesNoArchiveSaysSo(t *testing.T) {
	_, err := load(t, "", func(s *Source) { s.Flags.Upstreams = []string{"quay.io=archive:/nope.tar"} })
	if got := problems(t, err); len(got) != 1 || !strings.Contains(got[0], "--upstream: cannot be read: stat /nope.tar") {
		t.Errorf("got %v", got)
	}
}
