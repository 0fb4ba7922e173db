// Package sampan_test holds what must be true of the whole tree: every package
// says what it is, imports run downward only, and the documents agree with each
// other and with the code.
package sampan_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows lists, for each package outside of its tests, what it may import from
// this module besides internal/oci. "x/..." stands for x and what is below it.
// The linter holds the same arrows with the reason of each (.golangci.yml).
var arrows = map[string][]string{
	"internal/oci":                 {},
	"internal/mirror":              {},
	"internal/config":              {"internal/access/htpasswd", "internal/schedule/timetable"},
	"internal/schedule":            {},
	"internal/schedule/timetable":  {},
	"internal/store":               {},
	"internal/store/disk":          {"internal/store"},
	"internal/store/s3":            {"internal/store"},
	"internal/store/storetest":     {"internal/store"},
	"internal/store/scrub":         {"internal/store"},
	"internal/refs":                {},
	"internal/refs/bolt":           {"internal/refs"},
	"internal/refs/refstest":       {"internal/refs"},
	"internal/upstream":            {"internal/upstream/failure"},
	"internal/upstream/failure":    {},
	"internal/upstream/credential": {"internal/follow", "internal/upstream"},
	"internal/upstream/local":      {"internal/transfer/archive", "internal/transfer/layout", "internal/upstream"},
	"internal/follow":              {},
	"internal/fill":                {"internal/store"},
	"internal/cache":               {"internal/fill", "internal/refs", "internal/store"},
	"internal/prefetch":            {},
	"internal/inventory":           {"internal/refs", "internal/store"},
	"internal/intake":              {"internal/cache", "internal/store", "internal/transfer"},
	"internal/access":              {"internal/access/htpasswd", "internal/follow"},
	"internal/access/htpasswd":     {},
	"internal/access/issuer":       {"internal/access", "internal/follow"},
	"internal/access/rate":         {"internal/access"},
	"internal/server":              {"internal/mirror", "internal/access", "internal/access/rate"},
	"internal/audit":               {},
	"internal/tracing":             {},
	"internal/edge":                {},
	"internal/web":                 {},
	"internal/welcome":             {"internal/mirror", "internal/web"},
	"internal/client":              {"internal/mirror"},
	"internal/proof":               {},
	"internal/history":             {},
	"internal/admin":               {"internal/cache", "internal/access", "internal/history", "internal/intake", "internal/inventory", "internal/prefetch", "internal/store"},
	"internal/admin/dashboard": {
		"internal/access", "internal/admin", "internal/history", "internal/inventory", "internal/prefetch", "internal/store", "internal/web",
	},
	"internal/cluster":            {"internal/refs"},
	"internal/demo":               {"internal/registrytest"},
	"internal/doctor":             {"internal/proof", "internal/runtimes"},
	"internal/progress":           {},
	"internal/registrytest":       {},
	"internal/terminaltest":       {},
	"internal/rewrite":            {"internal/mirror", "internal/rewrite/dockerfile"},
	"internal/rewrite/dockerfile": {},
	"internal/runtimes":           {"internal/runtimes/edit"},
	"internal/runtimes/edit":      {},
	"internal/transfer":           {"internal/progress"},
	"internal/transfer/archive":   {"internal/progress", "internal/transfer", "internal/transfer/layout"},
	"internal/transfer/layout":    {"internal/transfer"},
	"internal/transfer/remote":    {"internal/transfer", "internal/upstream", "internal/upstream/credential"},
	"internal/transfer/running":   {"internal/transfer"},
	"internal/transfer/syncing":   {"internal/schedule/timetable", "internal/transfer"},
	"internal/webhook":            {"internal/rewrite"},
	"internal/app": {
		"internal/access", "internal/access/issuer", "internal/access/rate", "internal/admin", "internal/admin/dashboard", "internal/audit", "internal/cache", "internal/cluster", "internal/config", "internal/edge",
		"internal/fill", "internal/history", "internal/intake", "internal/inventory", "internal/prefetch", "internal/mirror", "internal/refs", "internal/refs/bolt", "internal/schedule", "internal/schedule/timetable", "internal/proof", "internal/server", "internal/store",
		"internal/store/disk", "internal/store/s3", "internal/store/scrub", "internal/upstream", "internal/upstream/credential", "internal/upstream/local",
		"internal/tracing", "internal/webhook", "internal/welcome",
	},
	"internal/runtimes/engine": {},
	"cmd/sampan": {
		"internal/app", "internal/config", "internal/demo", "internal/transfer", "internal/runtimes", "internal/rewrite", "internal/client", "internal/mirror", "internal/proof", "internal/progress", "internal/transfer/remote", "internal/transfer/syncing", "internal/doctor", "internal/runtimes/engine",
		"internal/transfer/archive", "internal/transfer/layout", "internal/transfer/running", "internal/upstream/failure",
	},
	// Programs around the product: free to import anything, imported by nobody.
	"e2e/...":   {"..."},
	"bench/...": {"..."},
	// Tests of the process alone.
	"soak": {},
}

func TestImportsRunDownward(t *testing.T) {
	for _, p := range packages(t) {
		allowed, known := arrowsOf(p.dir)
		if !known {
			if p.dir != "." {
				t.Errorf("%s is not in the table of arrows: say there, and in .golangci.yml, what it may import", p.dir)
			}
			continue
		}
		for imported, file := range p.imports {
			if imported == p.dir || imported == "internal/oci" && p.dir != "internal/oci" {
				continue
			}
			if !slices.ContainsFunc(allowed, func(pattern string) bool { return matches(pattern, imported) }) {
				t.Errorf("%s imports %s: %s may import internal/oci and %v", file, imported, p.dir, allowed)
			}
		}
	}
}

// The table itself must have no circle and no way up.
func TestArrowsHaveNoCircle(t *testing.T) {
	var visit func(dir string, trail []string)
	visit = func(dir string, trail []string) {
		if slices.Contains(trail, dir) {
			t.Fatalf("circle: %s", strings.Join(append(trail, dir), " → "))
		}
		for _, below := range arrows[dir] {
			visit(below, append(slices.Clone(trail), dir))
		}
	}
	for dir := range arrows {
		visit(dir, nil)
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	const fewest = 40 // characters: a name repeated is no description
	for _, p := range packages(t) {
		want := "Package " + p.name + " "
		if p.name == "main" {
			want = "Command " + path.Base(p.dir) + " "
			if p.doc == "" || strings.HasPrefix(p.doc, "Sampan ") || strings.HasPrefix(p.doc, "sampan ") {
				want = ""
			}
		}
		if len(p.doc) < fewest || !strings.HasPrefix(p.doc, want) {
			t.Errorf("%s: package %s needs a comment that begins %q and says what it promises and what it does not do", p.dir, p.name, want)
		}
	}
}

// A test that sleeps to synchronise fails on a slow machine. In a
// testing/synctest bubble sleeping moves the clock and takes no time.
func TestNoTestSleeps(t *testing.T) {
	walk(t, func(file string) {
		if !strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "e2e/") || strings.HasPrefix(file, "bench/") {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return
		}
		for _, spec := range parsed.Imports {
			if spec.Path.Value == `"testing/synctest"` {
				return
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && sel.Sel.Name == "Sleep" {
				t.Errorf("%s sleeps: use testing/synctest or a channel", file)
			}
			return true
		})
	})
}

// A goPackage is one directory with Go files.
type goPackage struct {
	dir, name string
	doc       string            // of its product files; of its tests when there is nothing else
	imports   map[string]string // directories of this module imported outside of tests → file that does it
}

// packages reads every package of the module, whatever its build tags.
func packages(t *testing.T) []*goPackage {
	t.Helper()
	found := map[string]*goPackage{}
	walk(t, func(file string) {
		if !strings.HasSuffix(file, ".go") {
			return
		}
		dir := path.Dir(file)
		p := found[dir]
		if p == nil {
			p = &goPackage{dir: dir, imports: map[string]string{}}
			found[dir] = p
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Error(err)
			return
		}
		p.add(file, parsed)
	})
	if len(found) == 0 {
		t.Fatal("no package found")
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *goPackage) int { return strings.Compare(a.dir, b.dir) })
}

func (p *goPackage) add(file string, parsed *ast.File) {
	test := strings.HasSuffix(file, "_test.go")
	if p.name == "" || !test {
		p.name = parsed.Name.Name
	}
	if parsed.Doc != nil && (!test || p.doc == "") {
		p.doc = parsed.Doc.Text()
	}
	if test {
		return
	}
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if dir, ours := strings.CutPrefix(name, "sampan/"); ours {
			p.imports[dir] = file
		}
	}
}

// arrowsOf finds dir's row in the table.
func arrowsOf(dir string) ([]string, bool) {
	for pattern, allowed := range arrows {
		if matches(pattern, dir) {
			return allowed, true
		}
	}
	return nil, false
}

func matches(pattern, dir string) bool {
	if pattern == "..." {
		return true
	}
	if parent, below := strings.CutSuffix(pattern, "/..."); below {
		return dir == parent || strings.HasPrefix(dir, parent+"/")
	}
	return pattern == dir
}

// walk calls visit with the slash-separated path of every file of this module,
// leaving out hidden folders, testdata, and modules of their own.
func walk(t *testing.T, visit func(file string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			visit(filepath.ToSlash(name))
			return nil
		}
		if name == "." {
			return nil
		}
		if base := entry.Name(); base == "testdata" || base[0] == '.' || base[0] == '_' {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
