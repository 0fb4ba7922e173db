package runtimes

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// A tree is what is on a machine: paths of files with mode and content, and of
// directories.
type tree map[string]string

func machine(t *testing.T, files tree) (*Machine, *Store) {
	t.Helper()
	m := &Machine{Root: t.TempDir(), Home: "/home/ann", UID: os.Geteuid(), Environ: []string{"XDG_STATE_HOME=/state"}}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.Path(path), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return m, NewStore(m)
}

// look is all of the machine but the store.
func look(t *testing.T, m *Machine, s *Store) tree {
	t.Helper()
	found := tree{}
	err := filepath.WalkDir(m.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == m.Root {
			return err
		}
		if path == s.dir {
			return fs.SkipDir
		}
		if rel, err := filepath.Rel(path, s.dir); err == nil && filepath.IsLocal(rel) {
			return nil // on the way to the store
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(m.Root, path)
		if d.IsDir() {
			found[rel+"/"] = info.Mode().String()
			return nil
		}
		raw, err := os.ReadFile(path)
		found[rel] = info.Mode().String() + " " + string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func plan(t *testing.T, m *Machine, files tree) *Plan {
	t.Helper()
	p := &Plan{}
	for path, after := range files {
		before, err := m.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		p.Files = append(p.Files, File{Path: path, Before: before, After: []byte(after), Mode: 0o644})
	}
	return p
}

func apply(t *testing.T, m *Machine, s *Store, files tree) {
	t.Helper()
	if err := Apply(m, s, "docker", plan(t, m, files)); err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		if got, err := m.Read(path); err != nil || string(got) != want {
			t.Fatalf("%s is %q, %v", path, got, err)
		}
	}
}

func undo(t *testing.T, m *Machine, s *Store, wantLeft int) {
	t.Helper()
	if _, _, left, err := Undo(m, s, "docker", false); err != nil || left != wantLeft {
		t.Fatalf("%d left, %v", left, err)
	}
}

func TestUndoRestoresEveryByteModeAndDirectory(t *testing.T) {
	m, s := machine(t, tree{"/etc/docker/daemon.json": "{ }\r\n", "/etc/other": "x"})
	before := look(t, m, s)
	apply(t, m, s, tree{"/etc/docker/daemon.json": "{1}", "/etc/docker/certs.d/m:1/ca.crt": "PEM", "/opt/a/b/c": ""})
	if info, err := os.Stat(m.Path("/etc/docker/daemon.json")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	undo(t, m, s, 0)
	if after := look(t, m, s); !maps.Equal(before, after) {
		t.Errorf("before\n%v\nafter\n%v", before, after)
	}
	if _, _, _, err := Undo(m, s, "docker", false); !errors.Is(err, ErrNothing) {
		t.Errorf("undone once more: %v", err)
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("the store keeps %v", left)
	}
}

// What was made to keep what was there goes too; what others can look into stays so.
func TestUndoLeavesNoTraceOfTheStore(t *testing.T) {
	for fact, there := range map[string]string{"nothing": "", "a part of the way": "sampan"} {
		m, s := machine(t, tree{"/etc/a": "1"})
		way := filepath.Dir(filepath.Dir(s.dir))
		if there != "" {
			if err := os.MkdirAll(filepath.Join(way, there), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		nowhere := &Store{}
		before := look(t, m, nowhere)
		if err := Apply(m, s, "docker", plan(t, m, tree{"/etc/a": "2", "/etc/b/c": "3"})); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(way); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", fact, info.Mode(), err)
		}
		if info, err := os.Stat(s.dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", fact, info.Mode(), err)
		}
		if _, _, _, err := Undo(m, s, "docker", false); err != nil {
			t.Fatal(err)
		}
		if after := look(t, m, nowhere); !maps.Equal(before, after) {
			t.Errorf("%s: got %v, want %v", fact, after, before)
		}
	}
}

// The order in which several are undone does not matter: the last one leaves nothing.
func TestTheLastOfSeveralUndoneLeavesNoTraceOfTheStore(t *testing.T) {
	for _, order := range [][]string{{"docker", "k3s", "rke2"}, {"rke2", "k3s", "docker"}, {"k3s", "docker", "rke2"}} {
		m, s := machine(t, tree{"/etc/docker": "1", "/etc/k3s": "1", "/etc/rke2": "1"})
		nowhere := &Store{}
		before := look(t, m, nowhere)
		for _, target := range []string{"docker", "k3s", "rke2"} {
			if err := Apply(m, s, target, plan(t, m, tree{"/etc/" + target: "2"})); err != nil {
				t.Fatal(err)
			}
		}
		for _, target := range order {
			if _, err := os.Stat(s.dir); err != nil {
				t.Errorf("%s: before the last one is undone: %v", order, err)
			}
			if _, _, left, err := Undo(m, s, target, false); err != nil || left != 0 {
				t.Errorf("%s: %s: %d left, %v", order, target, left, err)
			}
		}
		if after := look(t, m, nowhere); !maps.Equal(before, after) {
			t.Errorf("%s: got %v, want %v", order, after, before)
		}
	}
}

func TestTwoSetupsInARowAreUndoneAsOne(t *testing.T) {
	m, s := machine(t, tree{"/a": "0"})
	before := look(t, m, s)
	apply(t, m, s, tree{"/a": "1", "/b": "1"})
	apply(t, m, s, tree{"/a": "2", "/d/c": "2"})
	undo(t, m, s, 0)
	if after := look(t, m, s); !maps.Equal(before, after) {
		t.Errorf("before\n%v\nafter\n%v", before, after)
	}
}

func TestASetupAfterAChangeByHandIsUndoneToThatChange(t *testing.T) {
	m, s := machine(t, tree{"/a": "0"})
	apply(t, m, s, tree{"/a": "1"})
	if err := os.WriteFile(m.Path("/a"), []byte("by hand"), 0o640); err != nil {
		t.Fatal(err)
	}
	changed := look(t, m, s)
	apply(t, m, s, tree{"/a": "2"})
	undo(t, m, s, 1)
	if after := look(t, m, s); !maps.Equal(changed, after) {
		t.Errorf("before\n%v\nafter\n%v", changed, after)
	}
	_, _, _, err := Undo(m, s, "docker", false)
	var c *Conflict
	if !errors.As(err, &c) || len(c.Paths) != 1 || c.Paths[0] != "/a" {
		t.Fatalf("a change by hand would be lost: %v", err)
	}
	if after := look(t, m, s); !maps.Equal(changed, after) {
		t.Errorf("a refused undo changed something: %v", after)
	}
	if _, _, _, err := Undo(m, s, "docker", true); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Read("/a"); err != nil || string(got) != "0" {
		t.Errorf("forced: %q, %v", got, err)
	}
}

func TestAFileThatMovedSinceThePlanIsNotTouched(t *testing.T) {
	m, s := machine(t, tree{"/a": "0"})
	p := plan(t, m, tree{"/a": "1", "/b": "1"})
	if err := os.WriteFile(m.Path("/b"), []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	before := look(t, m, s)
	if err := Apply(m, s, "docker", p); !errors.Is(err, ErrMoved) {
		t.Fatalf("got %v", err)
	}
	if after := look(t, m, s); !maps.Equal(before, after) {
		t.Errorf("before\n%v\nafter\n%v", before, after)
	}
}

func TestNothingToChangeLeavesNothing(t *testing.T) {
	m, s := machine(t, tree{"/a": "0"})
	apply(t, m, s, tree{"/a": "0"})
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the store is there: %v", err)
	}
}

// A crash is a setup that stops at any file; the next setup or the undoing goes on.
func TestACrashLosesNothing(t *testing.T) {
	files := tree{"/a": "1", "/etc/b": "1", "/new/c": "1"}
	for stop := 0; stop <= len(files); stop++ {
		for _, again := range []bool{false, true} {
			m, s := machine(t, tree{"/a": "0", "/etc/b": "0"})
			before := look(t, m, s)
			p := plan(t, m, files)
			crash(t, m, s, p, stop)
			if again {
				apply(t, m, s, files)
			}
			undo(t, m, s, 0)
			if after := look(t, m, s); !maps.Equal(before, after) {
				t.Errorf("stopped after %d files, again %v: before\n%v\nafter\n%v", stop, again, before, after)
			}
		}
	}
}

// crash is Apply that ends after so many files.
func crash(t *testing.T, m *Machine, s *Store, p *Plan, stop int) {
	t.Helper()
	r, n, err := begin(m, s, "docker")
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Files {
		if err := save(m, s, r, n, &p.Files[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.save(r, n); err != nil {
		t.Fatal(err)
	}
	for i := range p.Files[:stop] {
		if err := put(m, &p.Files[i], r.find(p.Files[i].Path)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALinkStaysALink(t *testing.T) {
	m, s := machine(t, tree{"/real/daemon.json": "0"})
	if err := os.Symlink("real/daemon.json", m.Path("/daemon.json")); err != nil {
		t.Fatal(err)
	}
	apply(t, m, s, tree{"/daemon.json": "1"})
	if got, err := m.Read("/real/daemon.json"); err != nil || string(got) != "1" {
		t.Errorf("what the link leads to is %q, %v", got, err)
	}
	undo(t, m, s, 0)
	if got, err := os.Readlink(m.Path("/daemon.json")); err != nil || got != "real/daemon.json" {
		t.Errorf("the link is %q, %v", got, err)
	}
	if got, err := m.Read("/real/daemon.json"); err != nil || string(got) != "0" {
		t.Errorf("what the link leads to is %q, %v", got, err)
	}
}

func TestASecretIsForItsOwnerAlone(t *testing.T) {
	m, s := machine(t, tree{"/hosts.toml": "0"})
	p := plan(t, m, tree{"/hosts.toml": "Basic x"})
	p.Files[0].Secret, p.Files[0].Mode = true, 0o600
	if err := Apply(m, s, "docker", p); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(m.Path("/hosts.toml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	undo(t, m, s, 0)
	if info, err := os.Stat(m.Path("/hosts.toml")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}
