package edit

import (
	"errors"
	"reflect"
	"testing"
)

func TestTOMLChangesOneValueAndNothingElse(t *testing.T) {
	path := []string{"plugins", "io.containerd.grpc.v1.cri", "registry", "config_path"}
	const header = "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n"
	for name, c := range map[string]struct {
		src  string
		set  Set
		want string
	}{
		"no file":              {"", Set{path, "/c"}, header + "  config_path = \"/c\"\n"},
		"comments and order":   {"# ours\nversion = 2 # two\r\n", Set{path, "/c"}, "# ours\nversion = 2 # two\r\n\r\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\r\n  config_path = \"/c\"\r\n"},
		"a value":              {header + "\tconfig_path = '' # none\n[x]\n", Set{path, "/c"}, header + "\tconfig_path = \"/c\" # none\n[x]\n"},
		"a table":              {"[plugins]\n  [plugins.'io.containerd.grpc.v1.cri'.registry] # here\n    # first\n    a = 1\n[x]\n", Set{path, "/c"}, "[plugins]\n  [plugins.'io.containerd.grpc.v1.cri'.registry] # here\n    config_path = \"/c\"\n    # first\n    a = 1\n[x]\n"},
		"a table without end":  {"[plugins.\"io.containerd.grpc.v1.cri\".registry]", Set{path, "/c"}, header + "  config_path = \"/c\"\n"},
		"dotted keys":          {"[plugins.\"io.containerd.grpc.v1.cri\"]\n  registry.a = 1\n[x]\n", Set{path, "/c"}, "[plugins.\"io.containerd.grpc.v1.cri\"]\n  registry.a = 1\n  registry.config_path = \"/c\"\n[x]\n"},
		"a table below":        {"[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\nA = [\"b\"]\n", Set{path, "/c"}, "[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\nA = [\"b\"]\n\n" + header + "  config_path = \"/c\"\n"},
		"the root":             {"a = 1\n\n[b]\nversion = 1\n", Set{[]string{"version"}, 2}, "a = 1\nversion = 2\n\n[b]\nversion = 1\n"},
		"the root of a header": {"[b]\n", Set{[]string{"version"}, 2}, "version = 2\n[b]\n"},
		"a list":               {"a = [\n 1, # one\n]\n", Set{[]string{"a"}, Strings("x", "y\"")}, "a = [\"x\", \"y\\\"\"]\n"},
		"a longer list keeps":  {"a = [\n    'x', # one\n  # two\n  \"y\",\n]\n", Set{[]string{"a"}, Strings("m", "n", "x", "y")}, "a = [\n    \"m\",\n    \"n\",\n    'x', # one\n  # two\n  \"y\",\n]\n"},
		"and what it begins":   {"a = [ # all\r\n\t# one\r\n\t'x' ]\r\n", Set{[]string{"a"}, Strings("m", "x")}, "a = [ # all\r\n\t\"m\",\r\n\t# one\r\n\t'x' ]\r\n"},
		"and on one line":      {"[b]\na = [ 'x' ] # one\n", Set{[]string{"b", "a"}, Strings("m", "x")}, "[b]\na = [ \"m\", 'x' ] # one\n"},
		"and on a few":         {"a = ['x', # one\n 'y']\n", Set{[]string{"a"}, Strings("m", "x", "y")}, "a = [\"m\", 'x', # one\n 'y']\n"},
		"an empty list":        {"a = []\n", Set{[]string{"a"}, Strings("m")}, "a = [\"m\"]\n"},
		"the same value":       {"a  =  'x'\n", Set{[]string{"a"}, "x"}, "a  =  'x'\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := TOML([]byte(c.src), c.set)
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestTOMLRefusesWhatItCannotEdit(t *testing.T) {
	for name, src := range map[string]string{
		"not TOML":         "a = ",
		"an inline table":  "a = {b = 1}",
		"a list of tables": "[[a]]\nb = 1",
		"a text instead":   "a = 'x'",
	} {
		if got, err := TOML([]byte(src), Set{[]string{"a", "c"}, 1}); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	var unsafe *UnsafeError
	if _, err := TOML([]byte("a = {b = 1}"), Set{[]string{"a", "c"}, 1}); !errors.As(err, &unsafe) {
		t.Error(err)
	}
}

func TestWithoutTOMLCutsATableAndWhatIsBelowIt(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"in the middle":   {"[a]\nx = 1\n\n[r.mirrors]\n  [r.mirrors.\"d\"]\n    e = [\"u\"]\n# of b\n[b]\n", "[a]\nx = 1\n\n# of b\n[b]\n"},
		"at the end":      {"[r]\nk = 1\n[r.mirrors.x]\ne = []\n", "[r]\nk = 1\n"},
		"in two places":   {"[r.mirrors.x]\n[a]\n[r.mirrors.y]\n[b]\n", "[a]\n[b]\n"},
		"none":            {"[r]\nk = 1\n", "[r]\nk = 1\n"},
		"a similar name":  {"[r.mirrors2]\n[r.mirrors]\n", "[r.mirrors2]\n"},
		"a key of r too":  {"[r]\nmirrors2 = 1\n[r.mirrors]\nx = 1\n", "[r]\nmirrors2 = 1\n"},
		"arrays of those": {"[[r.mirrors]]\nx = 1\n[[r.mirrors]]\n[z]\n", "[z]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := WithoutTOML([]byte(c.src), "r", "mirrors")
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	if got, err := WithoutTOML([]byte("r = {mirrors = {}, a = 1}"), "r", "mirrors"); err == nil {
		t.Errorf("an inline table: %q", got)
	}
}

func FuzzTOML(f *testing.F) {
	for _, src := range []string{"", "a.b = 1", "[a]\nb = [1,\n2]", "[a.c]\n[a]", "[[a]]", "a = {b = 1}", "\"a\".'b' = '''x\n'''\n", "x = 1\r\n[ a ]\r\n"} {
		f.Add([]byte(src), "m")
	}
	f.Fuzz(func(t *testing.T, src []byte, value string) {
		out, err := TOML(src, Set{[]string{"a", "b"}, value})
		if err != nil {
			return
		}
		v, err := decodeTOML(out)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if got := look(v, []string{"a", "b"}); got != value {
			t.Fatalf("%q of %q: %v", out, src, got)
		}
		if again, err := TOML(out, Set{[]string{"a", "b"}, value}); err != nil || !reflect.DeepEqual(again, out) {
			t.Fatalf("a second edit changes %q to %q, %v", out, again, err)
		}
		if less, err := WithoutTOML(out, "a"); err == nil {
			if v, err := decodeTOML(less); err != nil || look(v, []string{"a"}) != nil {
				t.Fatalf("%q of %q still has it, %v", less, out, err)
			}
		}
	})
}
