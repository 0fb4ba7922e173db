package rewrite_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/internal/client"
	"sampan/internal/config"
	"sampan/internal/mirror"
	"sampan/internal/rewrite"
)

const (
	corpus  = "testdata/corpus"
	address = "mirror.example.com:5000"
)

// A sample is a file of the corpus, under the name that it has in its project.
type sample struct {
	project, name string
	in            []byte
}

func (s sample) String() string { return s.project + "/" + s.name }

// corpusFiles reads the corpus.
func corpusFiles(t *testing.T) []sample {
	t.Helper()
	var all []sample
	err := filepath.WalkDir(corpus, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(corpus, path)
		if err != nil {
			return err
		}
		project, name, inside := strings.Cut(filepath.ToSlash(rel), "/")
		if !inside || project == "LICENSES" {
			return nil
		}
		in, err := os.ReadFile(path)
		all = append(all, sample{project, name, in})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// person is a person's mirror, as the commands have it.
func person(t *testing.T, style string) *client.Mirror {
	t.Helper()
	builtin := config.Default(nil)
	s := client.Source{
		Flags:   client.Settings{Mirror: address, Style: style},
		Environ: []string{"HOME=" + t.TempDir()}, Aliases: builtin.Aliases,
	}
	for _, u := range builtin.Upstreams {
		s.Upstreams = append(s.Upstreams, mirror.Upstream{Registry: u.Registry, Hosts: slices.Clone(u.Hosts)})
	}
	m, err := client.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rewriters are one to the mirror and one back.
func rewriters(t *testing.T, m *client.Mirror) (there, back *rewrite.Rewriter) {
	t.Helper()
	there, err := rewrite.New(rewrite.Options{Rename: m.Spell, Prefix: m.SpellPrefix})
	if err != nil {
		t.Fatal(err)
	}
	back, err = rewrite.New(rewrite.Options{Rename: m.Unspell, Prefix: m.UnspellPrefix})
	if err != nil {
		t.Fatal(err)
	}
	return there, back
}

func rewritten(t *testing.T, r *rewrite.Rewriter, name string, in []byte) *rewrite.Result {
	t.Helper()
	res, err := r.Bytes(name, in)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return res
}

// changed counts the names that are not what they were.
func changed(res *rewrite.Result) int {
	n := 0
	for _, i := range res.Images {
		if i.New != i.Name {
			n++
		}
	}
	return n
}

// dockerHub are the files that write docker.io/a/b or docker.io/library/a. At the mirror
// that has the name of what others write as a/b, or a, and comes back so: the shortest.
func dockerHub() []string {
	return []string{
		"distribution-distribution/tests/docker-compose-e2e-cloud-storage.yml",
		"distribution-distribution/tests/docker-compose-storage.yml",
		"olareg-olareg/.version-bump.yml",
		"oras-land-oras/Dockerfile",
		"regclient-regclient/.version-bump.yml",
		"sigs-k8s-io-kind/images/local-path-provisioner/Dockerfile",
		"sigstore-sigstore/test/e2e/localstack.Dockerfile",
		"sigstore-sigstore/test/e2e/vault.Dockerfile",
		"stbenjam-no-sprintf-host-port/Dockerfile",
	}
}

// short writes names of Docker Hub in the shortest way.
func short(in []byte) []byte {
	in = bytes.ReplaceAll(in, []byte("docker.io/library/"), nil)
	return bytes.ReplaceAll(in, []byte("docker.io/"), nil)
}

// A file that is rewritten and rewritten back has the bytes it had, in both styles of
// names; its lines end as they did. Without exception if the spelling is kept, which
// path style can.
func TestRealFilesComeBackByteForByte(t *testing.T) {
	for _, style := range []string{"path", "host", "path exactly"} {
		t.Run(style, func(t *testing.T) {
			style, exactly := strings.CutSuffix(style, " exactly")
			m := person(t, style)
			there, back := rewriters(t, m)
			if exactly {
				var err error
				there, err = rewrite.New(rewrite.Options{Rename: m.SpellExactly, Prefix: m.SpellPrefix})
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range corpusFiles(t) {
				res := rewritten(t, there, s.name, s.in)
				for _, end := range []string{"\n", "\r\n", "\r"} {
					if a, b := bytes.Count(s.in, []byte(end)), bytes.Count(res.Out, []byte(end)); a != b {
						t.Errorf("%s has %d of %q, and rewritten %d", s, a, end, b)
					}
				}
				if n := changed(res); n == 0 && !bytes.Equal(res.Out, s.in) || n > 0 && bytes.Equal(res.Out, s.in) {
					t.Errorf("%s: %d names were changed, and that cannot be", s, n)
				}
				again := rewritten(t, there, s.name, res.Out)
				if !bytes.Equal(again.Out, res.Out) {
					t.Errorf("%s is not the same when it is rewritten twice:\n%s", s, firstDifference(res.Out, again.Out))
				}
				own := rewritten(t, back, s.name, res.Out).Out
				switch exact := bytes.Equal(own, s.in); {
				case !exactly && slices.Contains(dockerHub(), s.String()):
					if exact || !bytes.Equal(short(own), short(s.in)) {
						t.Errorf("%s comes back in another way than the list of exceptions says:\n%s", s, firstDifference(s.in, own))
					}
				case !exact:
					t.Errorf("%s does not come back:\n%s", s, firstDifference(s.in, own))
				}
			}
		})
	}
}

// Names whose end is not written come back too, though the mirror could be given less.
func TestBeginningsOfNamesComeBack(t *testing.T) {
	there, back := rewriters(t, person(t, "path"))
	thereByHost, backByHost := rewriters(t, person(t, "host"))
	for name, in := range map[string]string{
		"Dockerfile":   "ARG IMG=a\nARG REGISTRY=docker.io/library/\nARG TEAM=team/\nFROM docker.io/library/${IMG}:1\nFROM team/${IMG}\nFROM docker.io/${IMG}:1\nFROM ${REGISTRY}nginx:1\nFROM ${TEAM}app\nFROM ${MIRROR:-docker.io}/library/redis\n",
		"compose.yaml": "services:\n  a: {image: \"docker.io/library/${IMG}:1\"}\n  b: {image: \"team/${IMG}:1\"}\n  c: {image: \"docker.io/${IMG}:1\"}\n  d: {image: \"${REGISTRY:-docker.io/library}/${IMG}\"}\n  e: {image: \"${REPO:-nginx}:${TAG:-1}\"}\n  f: {image: \"quay.io/${TEAM}/x\"}\n",
	} {
		res := rewritten(t, there, name, []byte(in))
		if got := strings.Count(string(res.Out), address); got != 6 {
			t.Errorf("%d names at the mirror in\n%s", got, res.Out)
		}
		if own := rewritten(t, back, name, res.Out); string(own.Out) != in || len(own.Undecided) > 0 {
			t.Errorf("it comes back as\n%s\nfrom\n%s\nwith %+v", own.Out, res.Out, own.Undecided)
		}
		res = rewritten(t, thereByHost, name, []byte(in))
		if own := rewritten(t, backByHost, name, res.Out); string(own.Out) != in || len(own.Undecided) > 0 {
			t.Errorf("in host style it comes back as\n%s\nfrom\n%s\nwith %+v", own.Out, res.Out, own.Undecided)
		}
	}
}

// The tests of this file would be content with nothing: this is what there is at least.
func TestTheCorpusIsLarge(t *testing.T) {
	there, _ := rewriters(t, person(t, "path"))
	projects := make(map[string]bool)
	files, names := make(map[string]int), make(map[string]int)
	total := 0
	for _, s := range corpusFiles(t) {
		projects[s.project] = true
		total++
		format := formatOf(s)
		files[format]++
		names[format] += changed(rewritten(t, there, s.name, s.in))
	}
	t.Logf("%d files of %d projects; files %v; names changed %v", total, len(projects), files, names)
	if total < 400 || len(projects) < 90 {
		t.Errorf("%d files of %d projects", total, len(projects))
	}
	for format, least := range map[string][2]int{
		inDockerfile: {200, 340}, inKubernetes: {90, 95}, inCompose: {24, 50}, inGitHub: {40, 28}, inGitLab: {1, 4},
		inValues: {10, 10}, inJSON: {9, 2}, inTemplate: {19, 0}, inOther: {50, 15},
	} {
		if files[format] < least[0] || names[format] < least[1] {
			t.Errorf("%s: %d files with %d names changed, want %v at least", format, files[format], names[format], least)
		}
	}
}

func firstDifference(a, b []byte) string {
	before, after := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(before), len(after)) {
		if before[i] != after[i] {
			return "- " + before[i] + "\n+ " + after[i]
		}
	}
	return "one of them is longer"
}
