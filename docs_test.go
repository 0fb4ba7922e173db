package sampan_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sampan/internal/client"
	"sampan/internal/config"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/syncing"
)

// twins are the pages that exist in English and in Chinese.
var twins = []string{
	"README.md", "docs/quickstart.md", "docs/recipes.md", "docs/configuration.md", "docs/operations.md",
	"docs/private-images.md", "docs/access.md", "docs/single-sign-on.md", "docs/security.md", "docs/workstation.md", "docs/carrying.md",
	"deploy/github-actions/README.md",
}

// A page is what the tests look at in a Markdown file.
type page struct {
	headings []string   // "#", "##", … in order, without their text
	anchors  []string   // of the headings, as they are linked to
	blocks   [][]string // fenced code: the language and the lines, without comments
	links    []string   // targets of links outside of fenced code
}

func TestREADMEHasTheTwoCommands(t *testing.T) {
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		var lines []string
		for _, block := range readPage(t, name).blocks {
			lines = append(lines, block...)
		}
		for _, command := range []string{"go run ./cmd/sampan serve", "go test ./..."} {
			if !slices.Contains(lines, command) {
				t.Errorf("%s has no code block with the line %q", name, command)
			}
		}
	}
}

func TestChinesePagesAreInStep(t *testing.T) {
	for _, english := range twins {
		chinese := strings.TrimSuffix(english, ".md") + ".zh-CN.md"
		en, zh := readPage(t, english), readPage(t, chinese)
		if !slices.Equal(en.headings, zh.headings) {
			t.Errorf("%s and %s have different headings:\n%v\n%v", english, chinese, en.headings, zh.headings)
		}
		for i := range max(len(en.blocks), len(zh.blocks)) {
			if i >= len(en.blocks) || i >= len(zh.blocks) {
				t.Errorf("%s has %d code blocks, %s has %d", english, len(en.blocks), chinese, len(zh.blocks))
				break
			}
			if !slices.Equal(en.blocks[i], zh.blocks[i]) {
				t.Errorf("code block %d differs besides its comments:\n%s:\n%s\n\n%s:\n%s", i+1,
					english, strings.Join(en.blocks[i], "\n"), chinese, strings.Join(zh.blocks[i], "\n"))
				break
			}
		}
		if !slices.Contains(en.links, path.Base(chinese)) || !slices.Contains(zh.links, path.Base(english)) {
			t.Errorf("%s and %s do not link to each other", english, chinese)
		}
	}
	walk(t, func(file string) {
		if english, found := strings.CutSuffix(file, ".zh-CN.md"); found && !slices.Contains(twins, english+".md") {
			t.Errorf("%s is in no list of twins", file)
		}
	})
}

func TestLinksLeadSomewhere(t *testing.T) {
	walk(t, func(file string) {
		if !strings.HasSuffix(file, ".md") {
			return
		}
		for _, link := range readPage(t, file).links {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if u.Scheme != "" {
				continue
			}
			target := file
			if u.Path != "" {
				target = path.Join(path.Dir(file), u.Path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, link)
				continue
			}
			if u.Fragment != "" && !slices.Contains(readPage(t, target).anchors, u.Fragment) {
				t.Errorf("%s links to %s: there is no such heading", file, link)
			}
		}
	})
}

// What the pages show of the configuration is accepted, and the tables of what
// is built in are complete.
func TestPagesShowTheConfigurationAsItIs(t *testing.T) {
	environ := []string{"HOME=/root", "CORP_TOKEN=x"}
	etc := t.TempDir() // stands for /etc/sampan
	ca := registrytest.StartTest(t, registrytest.Options{TLS: true}).CertPEM()
	for name, content := range map[string][]byte{
		"docker.io.password": []byte("x\n"), "proxy.password": []byte("x\n"), "corp-ca.pem": ca,
		"tls.crt": []byte("x\n"), "tls.key": []byte("x\n"),
		"htpasswd": []byte("ann:$2y$04$101ct2wkhY./8w25tM79v.C22CHpt/ID83i8CPzE7s/I6xZUCZnnK\n"), "ci.password": []byte("x\n"), "team-a.code": []byte("abcdefghijklmnop\n"), "cluster-keys.json": []byte("{}\n"),
	} {
		if err := os.WriteFile(filepath.Join(etc, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := regexp.MustCompile(`^(listen|domain|upstreams|aliases|egress|users|policy|limits|issuers|schedule):`)
	for _, name := range []string{"README.md", "docs/configuration.md", "docs/recipes.md", "docs/private-images.md", "docs/access.md", "docs/single-sign-on.md"} {
		examples := 0
		for _, block := range readPage(t, name).blocks {
			if len(block) < 2 || block[0] != "yaml" || !key.MatchString(block[1]) {
				continue
			}
			examples++
			text := strings.ReplaceAll(strings.Join(block[1:], "\n"), "/etc/sampan", etc)
			file := filepath.Join(t.TempDir(), "sampan.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(config.Source{File: file, Environ: environ}); err != nil {
				t.Errorf("%s shows a configuration that is refused: %v", name, err)
			}
		}
		if examples == 0 {
			t.Errorf("%s shows no configuration", name)
		}
	}
	builtin := config.Default(environ)
	for _, name := range []string{"README.md", "README.zh-CN.md", "docs/configuration.md", "docs/configuration.zh-CN.md"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range builtin.Upstreams {
			if row := "| `" + u.Registry.String() + "` | `" + u.Hosts[0] + "` |"; !strings.Contains(string(raw), row) {
				t.Errorf("%s lacks the row %s", name, row)
			}
		}
		for from, to := range builtin.Aliases {
			if !strings.Contains(string(raw), from) || !strings.Contains(string(raw), to) {
				t.Errorf("%s lacks the alias %s of %s", name, from, to)
			}
		}
	}
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var p page
	var block []string // nil outside of fenced code
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, " \n")
		fence, isFence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case isFence && block == nil:
			block = []string{fence}
		case isFence:
			p.blocks = append(p.blocks, block)
			block = nil
		case block != nil:
			if code, isCode := cutComment(line); isCode {
				block = append(block, code)
			}
		default:
			if level, text, found := strings.Cut(line, " "); found && level != "" && strings.Trim(level, "#") == "" {
				p.headings = append(p.headings, level)
				p.anchors = append(p.anchors, anchor(text))
			}
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				p.links = append(p.links, m[1])
			}
		}
	}
	if block != nil {
		t.Errorf("%s ends inside of a code block", name)
	}
	return p
}

// cutComment removes a "#" comment, which may be translated; ok is false for a
// line that is nothing else.
func cutComment(line string) (code string, ok bool) {
	i := strings.Index(line, "# ")
	if i < 0 || i > 0 && line[i-1] != ' ' {
		return line, true
	}
	code = strings.TrimRight(line[:i], " ")
	return code, code != ""
}

// anchor is how hosting sites link to a heading: lower case, spaces to hyphens,
// punctuation dropped.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-', r == '_', r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 0x4e00 && r <= 0x9fff:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// The example for the open network stands for a whole set-up, and has to stay short.
func TestTheExampleForTheOpenNetworkIsShort(t *testing.T) {
	text, err := os.ReadFile("docs/examples/open-network.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 30 {
		t.Errorf("it has %d lines", n)
	}
	etc := t.TempDir()
	if err := os.WriteFile(filepath.Join(etc, "team-a.code"), []byte("abcdefghijklmnop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(etc, "sampan.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/etc/sampan", etc)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.Source{File: file, Environ: []string{"HOME=/root"}}); err != nil {
		t.Errorf("it is refused: %v", err)
	}
}

// The lists and settings of the tools that the pages show are accepted.
func TestPagesShowListsAndSettingsAsTheyAre(t *testing.T) {
	same := func(english, _ string) string { return english }
	srv := t.TempDir()
	for _, layout := range []string{"layout", "pause"} {
		if err := errors.Join(os.Mkdir(filepath.Join(srv, layout), 0o700),
			os.WriteFile(filepath.Join(srv, layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600),
			os.WriteFile(filepath.Join(srv, layout, "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var images bytes.Buffer
	w := tar.NewWriter(&images)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "oci-layout", Mode: 0o644}), w.Close(), os.WriteFile(filepath.Join(srv, "images.tar"), images.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docs/carrying.md", "docs/carrying.zh-CN.md"} {
		lists, files := 0, 0
		for _, block := range readPage(t, name).blocks {
			if len(block) < 2 || block[0] != "yaml" {
				continue
			}
			text := strings.Join(block[1:], "\n")
			if strings.HasPrefix(text, "targets:") {
				lists++
				if _, err := syncing.Read(strings.NewReader(text), name, syncing.More{}, same); err != nil {
					t.Error(err)
				}
				continue
			}
			files++
			file := filepath.Join(srv, "sampan.yaml")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/srv", srv)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(config.Source{File: file, Environ: []string{"HOME=/root"}}); err != nil {
				t.Errorf("%s shows a configuration that is refused: %v", name, err)
			}
		}
		if lists == 0 || files == 0 {
			t.Errorf("%s shows %d lists and %d configurations", name, lists, files)
		}
	}
	dir := t.TempDir()
	for file, content := range map[string][]byte{
		"mirror-ca.pem":   registrytest.StartTest(t, registrytest.Options{TLS: true}).CertPEM(),
		"mirror.password": []byte("x\n"), "mirror.code": []byte("abcdefghijklmnop\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"docs/workstation.md", "docs/workstation.zh-CN.md"} {
		settings := 0
		for _, block := range readPage(t, name).blocks {
			if len(block) < 2 || block[0] != "yaml" || !strings.HasPrefix(block[1], "mirror:") {
				continue
			}
			settings++
			file := filepath.Join(dir, "client.yaml")
			if err := os.WriteFile(file, []byte(strings.Join(block[1:], "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Load(client.Source{File: file}); err != nil {
				t.Errorf("%s shows settings that are refused: %v", name, err)
			}
		}
		if settings == 0 {
			t.Errorf("%s shows no settings", name)
		}
	}
}

// Every change is in the list of its folder, in the order of the numbers.
func TestTheChangelogListsEveryChange(t *testing.T) {
	files, err := filepath.Glob("changelog/unreleased/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	list, err := os.ReadFile("changelog/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^- \[\d{4}\]\((unreleased/[^)]+)\): .`).FindAllSubmatch(list, -1) {
		listed = append(listed, "changelog/"+string(m[1]))
	}
	if !slices.Equal(listed, files) {
		t.Errorf("listed are\n%s\nand there are\n%s", strings.Join(listed, "\n"), strings.Join(files, "\n"))
	}
}
