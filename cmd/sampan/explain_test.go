package main

import (
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/app"
)

// update writes what is printed into the golden files: go test ./cmd/sampan -update
var update = flag.Bool("update", false, "write the golden files")

// Each answer of the API below testdata/explain has a golden file in each
// language.
func TestExplanationsReadAsTheirGoldenFiles(t *testing.T) {
	answers, err := filepath.Glob("testdata/explain/*.json")
	if err != nil || len(answers) < 4 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	for _, file := range answers {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var e app.Explanation
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for suffix, language := range map[string]string{".txt": "C", ".zh.txt": "zh_CN.UTF-8"} {
			t.Setenv("LC_ALL", language)
			golden := strings.TrimSuffix(file, ".json") + suffix
			got := explanation(e)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("%s: %v\ngot\n%s\nwant\n%s", golden, err, got, want)
			}
		}
	}
}

// adminWith answers with a file of testdata, or with a status.
func adminWith(t *testing.T, status int, body string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/explain" || r.URL.Query().Get("image") == "" {
			status = http.StatusTeapot
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s
}

func answer(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata/explain", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestExplainTellsByItsExitWhetherThePullWouldDo(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		check  func(error) bool
	}{
		{"a hit", http.StatusOK, answer(t, "hit.json"), func(err error) bool { return err == nil }},
		{"a stale answer", http.StatusOK, answer(t, "stale.json"), func(err error) bool { return err == nil }},
		{"denied", http.StatusOK, answer(t, "denied.json"), isFailedPull},
		{"offline", http.StatusOK, answer(t, "offline.json"), isFailedPull},
		{"no name", http.StatusBadRequest, "not an image name", isUsage},
		{"broken", http.StatusInternalServerError, "the disk is broken", isPlain},
		{"no mirror", http.StatusOK, "<html>", isPlain},
		{"an older mirror", http.StatusNotFound, "404 page not found", isPlain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := runRoot(t, "C", "explain", "nginx", "--admin", adminWith(t, tc.status, tc.body).URL)
			if !tc.check(err) {
				t.Errorf("got %v, printed %s", err, out)
			}
		})
	}
}

func isFailedPull(err error) bool { return errors.As(err, new(*failedPull)) }
func isUsage(err error) bool      { return errors.As(err, new(*usageError)) }
func isPlain(err error) bool      { return err != nil && !isFailedPull(err) && !isUsage(err) }

func TestExplainAsJSONIsTheAnswerOfTheMirror(t *testing.T) {
	body := answer(t, "hit.json")
	out, err := runRoot(t, "C", "explain", "nginx", "-o", "json", "--admin", adminWith(t, http.StatusOK, body).URL+"/")
	if err != nil || out != body {
		t.Errorf("%v: %s", err, out)
	}
}

func TestExplainFindsTheMirrorInTheConfiguration(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := adminWith(t, http.StatusOK, answer(t, "stale.json"))
	t.Setenv("SAMPAN_ADMIN_LISTEN", strings.TrimPrefix(s.URL, "http://"))
	out, err := runRoot(t, "C", "explain", "nginx")
	if err != nil || !strings.HasPrefix(out, "image       nginx\n") {
		t.Errorf("%v: %s", err, out)
	}
	for listen, want := range map[string]string{":5001": "http://127.0.0.1:5001", "0.0.0.0:1": "http://127.0.0.1:1", "[::]:1": "http://127.0.0.1:1", "10.0.0.1:7": "http://10.0.0.1:7"} {
		t.Setenv("SAMPAN_ADMIN_LISTEN", listen)
		if got, err := baseOf(mirrorOptions{}); got != want {
			t.Errorf("%s: %s, %v", listen, got, err)
		}
	}
}

func TestExplainSaysWhatIsWrongWithItsCommandLine(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, tc := range []struct{ line, says string }{
		{"explain", "explain takes one image name, not 0"},
		{"explain a b", "explain takes one image name, not 2"},
		{"explain a -o yaml", `--output is text or json, not "yaml"`},
		{"explain a --admin localhost:5001", `--admin is a URL such as http://127.0.0.1:5001, not "localhost:5001"`},
	} {
		_, err := runRoot(t, "C", strings.Fields(tc.line)...)
		if !isUsage(err) || err.Error() != tc.says {
			t.Errorf("%s: %v", tc.line, err)
		}
	}
	t.Setenv("SAMPAN_ADMIN_LISTEN", "off")
	if _, err := runRoot(t, "C", "explain", "a"); !isUsage(err) || !strings.Contains(err.Error(), "--admin") {
		t.Errorf("without an admin listener: %v", err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	if _, err := runRoot(t, "C", "explain", "a", "--admin", gone.URL); !isPlain(err) || !strings.Contains(err.Error(), "Is the mirror running") {
		t.Errorf("without a mirror: %v", err)
	}
}

// baseOf is where the mirror is that is meant.
func baseOf(o mirrorOptions) (string, error) {
	m, err := o.open()
	if err != nil {
		return "", err
	}
	return m.base, nil
}
