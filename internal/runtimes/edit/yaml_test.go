package edit

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func endpoint(urls ...string) Set {
	return Set{[]string{"mirrors", "*", "endpoint"}, Strings(urls...)}
}

func TestYAMLKeepsWhatItDoesNotChange(t *testing.T) {
	for fact, c := range map[string]struct {
		in   string
		set  Set
		want string
	}{
		"an empty file": {"", endpoint("https://m"), "mirrors:\n  \"*\":\n    endpoint:\n      - \"https://m\"\n"},
		"comments alone stay in front": {
			"# ours\n---\n", endpoint("https://m"), "# ours\n---\nmirrors:\n  \"*\":\n    endpoint:\n      - \"https://m\"\n",
		},
		"a key is added after the last of its mapping, in front of the comment of the next": {
			"mirrors:\n    a: # first\n        endpoint: [x]\n\n# second\nconfigs:\n    b: {}\n",
			endpoint("https://m"),
			"mirrors:\n    a: # first\n        endpoint: [x]\n    \"*\":\n        endpoint:\n            - \"https://m\"\n\n# second\nconfigs:\n    b: {}\n",
		},
		"a value is replaced with its lines": {
			"mirrors:\n  \"*\":\n    endpoint:   # where\n    - \"https://old\"\n    rewrite:\n      a: b\n",
			endpoint("https://m"),
			"mirrors:\n  \"*\":\n    endpoint: # where\n      - \"https://m\"\n    rewrite:\n      a: b\n",
		},
		"what comes in front of a list keeps what it has": {
			"mirrors:\n  \"*\":\n    endpoint:   # where\n    # in the house\n    - 'https://old' # slow\n\n    - https://other\n    rewrite:\n      a: b\n",
			endpoint("https://m", "https://n", "https://old", "https://other"),
			"mirrors:\n  \"*\":\n    endpoint:   # where\n    - \"https://m\"\n    - \"https://n\"\n    # in the house\n    - 'https://old' # slow\n\n    - https://other\n    rewrite:\n      a: b\n",
		},
		"and of one in brackets":           {"mirrors:\n  '*':\n    endpoint: [ 'https://old', b ] # two\n", endpoint("c", "https://old", "b"), "mirrors:\n  '*':\n    endpoint: [ \"c\", 'https://old', b ] # two\n"},
		"and of one in brackets and lines": {"mirrors:\r\n  '*':\r\n    endpoint: [ # all\r\n      a, # one\r\n      b]\r\n", endpoint("c", "a", "b"), "mirrors:\r\n  '*':\r\n    endpoint: [ # all\r\n      \"c\",\r\n      a, # one\r\n      b]\r\n"},
		"a list with something else in it": {"mirrors:\n  \"*\":\n    endpoint:\n    - a # one\n    - b\n", endpoint("c", "b"), "mirrors:\n  \"*\":\n    endpoint:\n      - \"c\"\n      - \"b\"\n"},
		"a list in brackets":               {"mirrors:\n  '*':\n    endpoint: [a,\n      b] # two\n", endpoint("c"), "mirrors:\n  '*':\n    endpoint:\n      - \"c\"\n"},
		"null is a mapping to be":          {"mirrors:\nx: 1\n", endpoint("c"), "mirrors:\n  \"*\":\n    endpoint:\n      - \"c\"\nx: 1\n"},
		"empty braces are too":             {"mirrors: {} # none\n", endpoint("c"), "mirrors: # none\n  \"*\":\n    endpoint:\n      - \"c\"\n"},
		"lines of Windows":                 {"x: 1\r\ny: 2\r\n", Set{[]string{"x"}, true}, "x: true\r\ny: 2\r\n"},
		"a last line without end":          {"x: 1", Set{[]string{"z"}, 3}, "x: 1\nz: 3\n"},
		"a byte order mark":                {"\ufeffx: 1\n", Set{[]string{"z"}, 3}, "\ufeffx: 1\nz: 3\n"},
		"an end of the document":           {"x: 1\n...\n", Set{[]string{"b"}, "z"}, "x: 1\nb: \"z\"\n...\n"},
		"a block of text before":           {"x: |\n  a\n  # b\ny: 1\n", Set{[]string{"y"}, 2}, "x: |\n  a\n  # b\ny: 2\n"},
		"several lines are a block":        {"", Set{[]string{"ca"}, "A\nB\n"}, "ca: |\n  A\n  B\n"},
		"nothing to change":                {"x:   [ 1,2 ]", Set{[]string{"x"}, List{1, 2}}, "x:   [ 1,2 ]"},
		"an anchor elsewhere":              {"a: &a {x: 1}\nb: *a\n", Set{[]string{"c"}, 1}, "a: &a {x: 1}\nb: *a\nc: 1\n"},
		"a key in quotes":                  {"\"a\\\"b\": 1\n", Set{[]string{`a"b`}, 2}, "\"a\\\"b\": 2\n"},
		"a list of mappings":               {"", Set{[]string{"a"}, List{Map{{"x", 1}, {"b", Strings("z")}}}}, "a:\n  - x: 1\n    b:\n      - \"z\"\n"},
	} {
		t.Run(fact, func(t *testing.T) {
			got, err := YAML([]byte(c.in), c.set)
			if err != nil || string(got) != c.want {
				t.Errorf("%v, got\n%s\nwant\n%s", err, got, c.want)
			}
			again, err := YAML(got, c.set)
			if err != nil || string(again) != string(got) {
				t.Errorf("a second time: %v\n%s", err, again)
			}
		})
	}
}

func TestYAMLRefusesWhatIsNotSafe(t *testing.T) {
	for fact, in := range map[string]string{
		"braces with something in them": "mirrors: {a: {endpoint: [x]}}\n",
		"a file in braces":              "{x: 1}\n",
		"an anchor on the way":          "mirrors: &m\n  a: 1\nx: *m\n",
		"an alias on the way":           "x: &m\n  a: 1\nmirrors: *m\n",
		"an anchor in the value":        "mirrors:\n  \"*\":\n    endpoint: &e [x]\ny: *e\n",
		"a merge key":                   "x: &m\n  a: 1\nmirrors:\n  <<: *m\n  b: 1\n",
		"a tag":                         "mirrors: !!map\n  a: 1\n",
		"a second document":             "x: 1\n---\ny: 1\n",
		"a list":                        "- mirrors\n",
		"a text":                        "mirrors\n",
		"a value that is no mapping":    "mirrors: 1\n",
		"a question mark":               "? mirrors\n: a: 1\n",
		"lines of old computers":        "x: 1\ry: 1\r",
	} {
		t.Run(fact, func(t *testing.T) {
			got, err := YAML([]byte(in), endpoint("https://m"))
			if unsafe := (*UnsafeError)(nil); !errors.As(err, &unsafe) {
				t.Errorf("got %v\n%s", err, got)
			}
		})
	}
	for _, in := range []string{"x: [\n", "x: \xff\n", "a: 1\na: 2\n"} {
		if _, err := YAML([]byte(in), endpoint("https://m")); err == nil {
			t.Errorf("%q is no YAML, and was edited", in)
		}
	}
}

// Whatever is in a file: the edit fails, or the file means what it meant and the new
// value, and every line that is not part of the edit is there as it was.
func FuzzYAML(f *testing.F) {
	for _, in := range []string{
		"", "a: 1\n", "mirrors:\n  \"*\":\n    endpoint:\n    - x # y\n\n# z\nb: |\n  q\n", "mirrors: {}\r\nx: 'a\r\n\r\n  b'\r\n",
		"a: &x [1]\nb: *x\n", "mirrors:\n\n  # c\n  '*': # d\n    rewrite: {a: b}\n...\n", "\"mirrors\" : ~ # x\n", "mirrors: !!null\n",
	} {
		f.Add(in, "https://m", "k")
	}
	f.Fuzz(func(t *testing.T, in, value, key string) {
		s := Set{[]string{"mirrors", key, "endpoint"}, Strings(value, "x")}
		out, err := YAML([]byte(in), s)
		if err != nil {
			return
		}
		var got map[string]any
		if err := yaml.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		at := lookUp(lookUp(lookUp(got, "mirrors"), key), "endpoint")
		if !reflect.DeepEqual(at, []any{value, "x"}) {
			t.Fatalf("the value is %v in %q", at, out)
		}
		before, after := keptAround(t, in)
		if !strings.HasPrefix(string(out), before) || !strings.HasSuffix(string(out), after) {
			t.Fatalf("%q became %q: not kept are %q and %q", in, out, before, after)
		}
	})
}

// lookUp is the value of a key, whether or not other keys are texts too.
func lookUp(m any, key string) any {
	switch m := m.(type) {
	case map[string]any:
		return m[key]
	case map[any]any:
		return m[key]
	}
	return nil
}

// keptAround is what must stay of a file when mirrors is changed: all in front of that
// key, and all from the next one. Without such a key nothing may go.
func keptAround(t *testing.T, in string) (before, after string) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(in), &doc); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(in, "\n")
	upTo := func(line int) string { return strings.Join(lines[:line-1], "") }
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return in, ""
	}
	root := doc.Content[0].Content
	for i := 0; i < len(root); i += 2 {
		if root[i].Value != "mirrors" || root[i].Tag != "!!str" {
			continue
		}
		if i+2 < len(root) {
			after = in[len(upTo(root[i+2].Line)):]
		}
		return upTo(root[i].Line), after
	}
	return upTo(root[len(root)-1].Line), "" // and what follows the last value, whose end is not known here
}
