package edit

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

func TestJSONChangesOneValueAndNothingElse(t *testing.T) {
	mirrors := []string{"registry-mirrors"}
	for name, c := range map[string]struct {
		src  string
		set  Set
		want string
	}{
		"no file":                      {"", Set{mirrors, Strings("https://m")}, "{\n  \"registry-mirrors\": [\"https://m\"]\n}\n"},
		"an empty object":              {"{}", Set{mirrors, Strings("https://m")}, "{\n  \"registry-mirrors\": [\"https://m\"]\n}"},
		"an object with blanks":        {"{ }\r\n", Set{mirrors, Strings("m")}, "{\r\n  \"registry-mirrors\": [\"m\"]\r\n}\r\n"},
		"order and indentation":        {"{\n\t\"z\": 1,\n\t\"a\": {\"b\": [1, 2]}\n}\n", Set{mirrors, Strings("m")}, "{\n\t\"z\": 1,\n\t\"a\": {\"b\": [1, 2]},\n\t\"registry-mirrors\": [\"m\"]\n}\n"},
		"one line":                     {`{"a":"}{\"","b":1e400}`, Set{mirrors, Strings("m")}, `{"a":"}{\"","b":1e400,"registry-mirrors":["m"]}`},
		"a longer list keeps its text": {"{\n  \"registry-mirrors\": [\n    \"https://old\",\n    \"x\" ]\n}", Set{mirrors, Strings("https://m", "https://old", "x")}, "{\n  \"registry-mirrors\": [\n    \"https://m\",\n    \"https://old\",\n    \"x\" ]\n}"},
		"a list on one line":           {`{"registry-mirrors": ["old"]}`, Set{mirrors, Strings("m", "old")}, `{"registry-mirrors": ["m", "old"]}`},
		"an empty list":                {`{"registry-mirrors": [ ]}`, Set{mirrors, Strings("m")}, `{"registry-mirrors": ["m"]}`},
		"null is a list of none":       {`{"registry-mirrors": null}`, Set{mirrors, Strings("m")}, `{"registry-mirrors": ["m"]}`},
		"the same value":               {"{\"registry-mirrors\" :\n[\"m\"]}", Set{mirrors, Strings("m")}, "{\"registry-mirrors\" :\n[\"m\"]}"},
		"of two equal keys the last":   {`{"a": 1, "a": 2}`, Set{[]string{"a"}, 3}, `{"a": 1, "a": 3}`},
		"an escaped key is the same":   {`{"\u0061": 1}`, Set{[]string{"a"}, 2}, `{"\u0061": 2}`},
		"below an object":              {"{\n  \"docker\": {}\n}", Set{[]string{"docker", "registry-mirrors"}, Strings("m")}, "{\n  \"docker\": {\n    \"registry-mirrors\": [\"m\"]\n  }\n}"},
		"below one that is not there":  {`{}`, Set{[]string{"docker", "x"}, true}, "{\n  \"docker\": {\"x\": true}\n}"},
		"a byte order mark":            {"\ufeff{}", Set{[]string{"a"}, "<&>"}, "\ufeff{\n  \"a\": \"<&>\"\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := JSON([]byte(c.src), c.set)
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestJSONRefusesWhatItCannotEdit(t *testing.T) {
	for name, src := range map[string]string{
		"not JSON":       "{",
		"a comment":      "{ // x\n}",
		"a list":         "[]",
		"two documents":  "{} {}",
		"a text instead": `{"docker": "x"}`,
	} {
		if got, err := JSON([]byte(src), Set{[]string{"docker", "x"}, 1}); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	var unsafe *UnsafeError
	if _, err := JSON([]byte(`[]`), Set{[]string{"a"}, 1}); !errors.As(err, &unsafe) {
		t.Error(err)
	}
}

func FuzzJSON(f *testing.F) {
	for _, src := range []string{"", "{}", `{"a": {"b": [1, {"c": "\\\""}]}, "registry-mirrors": ["x"]}`, "{\r\n\t\"k\" : null }", `{"a": {}}`} {
		f.Add([]byte(src), "m")
	}
	f.Fuzz(func(t *testing.T, src []byte, value string) {
		out, err := JSON(src, Set{[]string{"a", "b"}, Strings(value)})
		if err != nil {
			return
		}
		var got struct{ A struct{ B []string } }
		var keyed map[string]json.RawMessage
		v, err := decodeJSON(out)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		want, _ := json.Marshal([]string{value})
		is, _ := json.Marshal(look(v, []string{"a", "b"}))
		if string(is) != string(want) {
			t.Fatalf("%q of %q: %s is not %s, %v %v", out, src, is, want, got, keyed)
		}
		if again, err := JSON(out, Set{[]string{"a", "b"}, Strings(value)}); err != nil || !reflect.DeepEqual(again, out) {
			t.Fatalf("a second edit changes %q to %q, %v", out, again, err)
		}
	})
}
