package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
)

// A request runs request.sh with a program in the place of sampan that takes note of its
// arguments.
type request struct {
	dir string
	env map[string]string
}

// The stand-in for sampan keeps what it was given, and says what the test wants.
const fakeSampan = `#!/bin/bash
printf '%s\0' "$@" >"$FAKE/argv"
env -0 >"$FAKE/environ"
if [[ -e $DOCKER_CONFIG/config.json ]]; then
	cp "$DOCKER_CONFIG/config.json" "$FAKE/login"
	stat -c %a "$DOCKER_CONFIG" "$DOCKER_CONFIG/config.json" >"$FAKE/modes"
fi
cat "$FAKE/stdout"
cat "$FAKE/stderr" >&2
exit "$(<"$FAKE/status")"
`

func newRequest(t *testing.T) *request {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the script is for GitHub's Linux runners")
	}
	r := &request{dir: t.TempDir()}
	for name, content := range map[string]string{"stdout": "docker pull x\n", "stderr": "", "status": "0", "sampan": fakeSampan} {
		r.write(t, name, content)
	}
	if err := os.Chmod(filepath.Join(r.dir, "sampan"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.env = map[string]string{
		"PATH": os.Getenv("PATH"), "TMPDIR": filepath.Join(r.dir, "tmp"), "FAKE": r.dir,
		"SAMPAN": filepath.Join(r.dir, "sampan"), "COPY_TARGET": "registry.example.com/team/",
		"GITHUB_OUTPUT": filepath.Join(r.dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(r.dir, "summary"),
	}
	return r
}

// images puts names into the field of a manual run.
func (r *request) images(s string) *request {
	r.env["REQUEST_IMAGES"] = s
	return r
}

// form puts them into the text of an issue, as GitHub makes it of the form.
func (r *request) form(images string) *request {
	r.env["REQUEST_BODY"] = "### Images / 镜像\n\n```text\n" + images + "\n```\n\n### Platforms / 平台\n\n_No response_\n\n### Names / 名字\n\nflat: a/b becomes a.b"
	return r
}

func (r *request) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read is the content of a file, empty for none.
func (r *request) read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(raw)
}

// run gives the answer and the log of the run.
func (r *request) run(t *testing.T) (answer, log string, ok bool) {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(actions, "request.sh"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", script)
	cmd.Dir = r.dir
	for name, value := range r.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if left, _ := os.ReadDir(filepath.Join(r.dir, "tmp")); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
	answer = r.answer(t)
	if summary := r.read(t, "summary"); summary != answer+"\n" {
		t.Errorf("the summary is %q, the answer %q", summary, answer)
	}
	return answer, string(out), err == nil
}

// answer reads GITHUB_OUTPUT as the runner does: there is one value.
func (r *request) answer(t *testing.T) string {
	t.Helper()
	output := r.read(t, "output")
	first, rest, _ := strings.Cut(output, "\n")
	end, found := strings.CutPrefix(first, "answer<<")
	value, after, closed := strings.Cut(rest, "\n"+end+"\n")
	if !found || len(end) != 32 || !closed || after != "" {
		t.Fatalf("the output is not one value: %q", output)
	}
	return value
}

func (r *request) argv(t *testing.T) []string {
	t.Helper()
	all := r.read(t, "argv")
	if all == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(all, "\x00"), "\x00")
}

// wantCopied fails unless sampan was started once with these flags and exactly these images.
func (r *request) wantCopied(t *testing.T, flags []string, images ...string) {
	t.Helper()
	answer, log, ok := r.run(t)
	want := append(append([]string{"copy", "--keep-going"}, flags...), "--")
	want = append(append(want, images...), r.env["COPY_TARGET"])
	if got := r.argv(t); !slices.Equal(got, want) || !ok {
		t.Errorf("it ran %q, want %q; %s\n%s", got, want, answer, log)
		return
	}
	cmd := newCopyCommand()
	if err := cmd.ParseFlags(want[1:]); err != nil || !slices.Equal(cmd.Flags().Args(), append(slices.Clone(images), r.env["COPY_TARGET"])) {
		t.Errorf("sampan copy reads %q of it: %v", cmd.Flags().Args(), err)
	}
	for _, image := range images {
		if _, err := oci.ParseReference(image); err != nil {
			t.Error(err)
		}
	}
}

// wantRefused fails if sampan was started at all, or the answer repeats what was asked.
func (r *request) wantRefused(t *testing.T, reason string) {
	t.Helper()
	answer, log, ok := r.run(t)
	if ok || r.argv(t) != nil {
		t.Errorf("it ran %q", r.argv(t))
	}
	if !strings.Contains(answer, reason) {
		t.Errorf("the answer is %q, want %q", answer, reason)
	}
	if !regexp.MustCompile("^[A-Za-z0-9 .,:/`_-]+\n\nNothing was copied[A-Za-z ,.]+$").MatchString(answer) || !strings.HasPrefix(log, "request: ") || strings.Count(log, "\n") != 1 {
		t.Errorf("there is more in the answer %q or in the log %q than the reason", answer, log)
	}
}

func TestNamesReachSampanAsTheyAre(t *testing.T) {
	digest := "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	flat := []string{"--flatten"}
	for name, c := range map[string]struct {
		body   string
		images []string
	}{
		"one":                       {"nginx", []string{"nginx"}},
		"several":                   {"nginx:1.27-alpine\ngcr.io/google_containers/pause:3.1", []string{"nginx:1.27-alpine", "gcr.io/google_containers/pause:3.1"}},
		"digests":                   {"quay.io/a/b" + digest + "\nquay.io/a/b:v1" + digest, []string{"quay.io/a/b" + digest, "quay.io/a/b:v1" + digest}},
		"blanks and empty lines":    {"\n  nginx\t\n\n\tredis:7 \n\n", []string{"nginx", "redis:7"}},
		"lines of Windows":          {"nginx\r\nredis:7\r", []string{"nginx", "redis:7"}},
		"the same twice":            {"nginx\nnginx", []string{"nginx"}},
		"separators of names":       {"quay.io/a.b/c_d/e__f/g--h:T_a.g-1", []string{"quay.io/a.b/c_d/e__f/g--h:T_a.g-1"}},
		"thirty":                    {numbered(30), strings.Split(numbered(30), "\n")},
		"dashes, which take no age": {"a" + strings.Repeat("-", 100) + "b", []string{"a" + strings.Repeat("-", 100) + "b"}},
	} {
		t.Run(name, func(t *testing.T) { newRequest(t).form(c.body).wantCopied(t, flat, c.images...) })
	}
	t.Run("by hand", func(t *testing.T) {
		r := newRequest(t).images("nginx redis:7, k8s.gcr.io/pause:3.1\r\nbusybox\r")
		r.env["REQUEST_PLATFORMS"] = "linux/amd64, linux/arm/v7"
		r.wantCopied(t, []string{"--flatten", "--platform=linux/amd64", "--platform=linux/arm/v7"}, "nginx", "redis:7", "k8s.gcr.io/pause:3.1", "busybox")
	})
	t.Run("the whole form, with lines of Windows", func(t *testing.T) {
		r := newRequest(t)
		r.env["REQUEST_BODY"] = "### Images / 镜像\r\n\r\n```text\r\nnginx\r\n```\r\n\r\n### Platforms / 平台\r\n\r\nlinux/amd64, linux/arm64\r\n\r\n### Names / 名字\r\n\r\npath: a/b stays a/b\r\n"
		r.wantCopied(t, []string{"--platform=linux/amd64", "--platform=linux/arm64"}, "nginx")
	})
}

// numbered are n different names.
func numbered(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("quay.io/team/image:%d", i))
	}
	return strings.Join(names, "\n")
}

// One line that is no name, and nothing is run.
func TestHostileRequestsRunNothing(t *testing.T) {
	const noName = "Line 2 of the images is not the name of an image."
	for name, line := range map[string]string{
		"command substitution":      "$(touch pwned)",
		"substitution in a name":    "nginx$(touch${IFS}pwned)",
		"backticks":                 "nginx`touch pwned`",
		"a second command":          "nginx;touch pwned",
		"a pipe":                    "nginx|sh",
		"an expression":             "${{ secrets.COPY_PASSWORD }}",
		"a variable":                "$COPY_PASSWORD",
		"a flag":                    "--all-tags",
		"a short flag":              "-a",
		"a flag behind a name":      "nginx --plain-http=evil.example.com",
		"standard input":            "-",
		"the end of flags":          "--",
		"quotes":                    `nginx"'`,
		"a pattern":                 "nginx*",
		"a home":                    "~root/x",
		"a path":                    "../../etc/passwd",
		"a backslash":               `nginx\n--all-tags`,
		"the end of CDATA":          "]]>",
		"HTML":                      "<img src=x>",
		"a mention":                 "nginx@everyone",
		"a heading":                 "# nginx",
		"a fence in a name":         "```nginx",
		"a command to the runner":   "::set-env name=PATH::/tmp",
		"an old command":            "##[set-env name=PATH]/tmp",
		"an output":                 "answer<<EOF",
		"an end of an output":       "EOF",
		"letters of another script": "nginх",
		"wide letters":              "ｎginx",
		"a space of no width":       "ng\u200binx",
		"a space that is none":      "nginx\u00a0",
		"writing from the right":    "nginx\u202exnign",
		"a return in the middle":    "nginx\rredis",
		"an escape":                 "nginx\x1b[31m",
		"no UTF-8":                  "nginx\xff",
		"upper case":                "NGINX",
		"a digest that is short":    "nginx@sha256:e3b0c442",
		"no tag":                    "nginx:",
		"a tag with a slash":        "nginx:1/../2",
		"a scheme":                  "https://quay.io/a/b",
		"a user":                    "user:password@quay.io/a/b",
		"a long name":               strings.Repeat("a", 451),
		"a long tag":                "nginx:" + strings.Repeat("a", 129),
		"an address of version 6":   "[::1]/a/b",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t).form("quay.io/a/b\n" + line)
			r.wantRefused(t, noName)
			if _, err := os.Stat(filepath.Join(r.dir, "pwned")); err == nil {
				t.Error("it ran a command")
			}
		})
	}
	for name, c := range map[string]struct{ body, reason string }{
		"nothing":         {"", "There is no image"},
		"empty lines":     {strings.Repeat("\n", 10000), "There is no image"},
		"31 names":        {numbered(31), "more than 30 images"},
		"2,000 names":     {"a\n" + numbered(2000), "more than 30 images"},
		"10,000 lines":    {strings.Repeat("x y\n", 10000), "Line 1 of the images"},
		"too many bytes":  {strings.Repeat("nginx\n", 11000), "longer than 65536 bytes"},
		"a field twice":   {"nginx\n### Images / 镜像\nredis", "A heading of the form is there twice"},
		"another's field": {"nginx\n```\n### Names / 名字\nflat", "A heading of the form is there twice"},
	} {
		t.Run(name, func(t *testing.T) { newRequest(t).form(c.body).wantRefused(t, c.reason) })
	}
	for _, c := range []struct{ field, value, reason string }{
		{"REQUEST_PLATFORMS", "linux/amd64 --all-tags", "The platforms are not a list"},
		{"REQUEST_PLATFORMS", "$(id)", "The platforms are not a list"},
		{"REQUEST_PLATFORMS", "linux", "The platforms are not a list"},
		{"REQUEST_PLATFORMS", "linux/amd64,,linux/arm64", "The platforms are not a list"},
		{"REQUEST_PLATFORMS", strings.Repeat("linux/amd64,", 11), "The platforms are not a list"},
		{"REQUEST_NAMES", "--template={name}", "no such rule of names"},
		{"REQUEST_NAMES", "path flat:", "no such rule of names"},
		{"REQUEST_IMAGES", "nginx --all-tags", "Line 2 of the images"},
		{"REQUEST_BODY", "Please copy nginx", "There is no image"},
	} {
		t.Run(c.field+" "+c.value, func(t *testing.T) {
			r := newRequest(t).images("nginx")
			r.env[c.field] = c.value
			r.wantRefused(t, c.reason)
		})
	}
}
