//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	bashPath       = "/bin/bash"
	shellcheckPath = "/usr/bin/shellcheck"
	actionsSource  = "../deploy/github-actions"
)

// A runner is a repository into which the workflow was put as its page says, and what
// GitHub's runner knows when it carries out a step.
type runner struct {
	dir, temp string
	env       []string          // besides that of the steps
	values    map[string]string // of expressions; one that is missing here fails the test
	workflow  struct {
		Jobs map[string]struct {
			Steps []workflowStep `yaml:"steps"`
		} `yaml:"jobs"`
	}
}

type workflowStep struct {
	Name string            `yaml:"name"`
	Env  map[string]string `yaml:"env"`
	Run  string            `yaml:"run"`
}

// newRunner types what README.md says, into an empty repository.
func newRunner(t *testing.T) *runner {
	t.Helper()
	dir := testDir(t, "runner")
	r := &runner{dir: filepath.Join(dir, "repository"), temp: filepath.Join(dir, "temp")}
	for _, path := range []string{r.dir, r.temp} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	source, err := filepath.Abs(actionsSource)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sh\nfrom=[^\n]*\n(.*?)```").FindStringSubmatch(readFile(t, actionsSource+"/README.md"))
	if block == nil {
		t.Fatal("the page does not say how to set it up")
	}
	command{path: bashPath, dir: r.dir, env: cleanEnv(r.dir)}.run(t, "-euc", "from="+source+"\n"+block[1])
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(r.dir, ".github/workflows/copy-image.yml"))), &r.workflow); err != nil {
		t.Fatal(err)
	}
	r.values = map[string]string{
		"runner.temp": r.temp, "github.token": "token", "github.repository": "me/mirror", "github.server_url": "https://github.com", "github.run_id": "77",
		"vars.SAMPAN_URL": "", "vars.SAMPAN_SHA256": "", "vars.COPY_TARGET": "", "vars.COPY_SOURCES": "", "vars.COPY_LANG": "", "vars.COPY_USERNAME": "", "secrets.COPY_PASSWORD": "",
		"github.event.issue.number": "5", "github.event.issue.body": "", "inputs.images": "", "inputs.platforms": "", "inputs.names": "",
		"needs.copy.result": "", "needs.copy.outputs.answer": "",
	}
	return r
}

// step carries out one step of a job as the runner does, and gives its outputs file.
func (r *runner) step(t *testing.T, job, name string) (outputs string, err error) {
	t.Helper()
	for _, s := range r.workflow.Jobs[job].Steps {
		if s.Name != name {
			continue
		}
		output := filepath.Join(testDir(t, "step"), "output")
		env := cleanEnv(r.temp, "GITHUB_OUTPUT="+output, "GITHUB_STEP_SUMMARY="+filepath.Join(r.temp, "summary"))
		for key, value := range s.Env {
			env = append(env, key+"="+r.evaluate(t, value))
		}
		script := writeFile(t, filepath.Join(r.temp, "step.sh"), s.Run)
		_, err := command{path: bashPath, dir: r.dir, env: append(env, r.env...)}.output("-e", script)
		text, _ := os.ReadFile(output)
		return string(text), err
	}
	t.Fatalf("%s has no step %q", job, name)
	return "", nil
}

func (r *runner) evaluate(t *testing.T, value string) string {
	t.Helper()
	return regexp.MustCompile(`\$\{\{ (.*?) \}\}`).ReplaceAllStringFunc(value, func(expression string) string {
		known, ok := r.values[strings.TrimSuffix(strings.TrimPrefix(expression, "${{ "), " }}")]
		if !ok {
			t.Errorf("the test does not know %s", expression)
		}
		return known
	})
}

// ask carries out a request by the form, and gives the comment that it is answered with,
// and whether the issue is closed.
func (r *runner) ask(t *testing.T, images ...string) (comment string, closed bool) {
	t.Helper()
	r.values["github.event.issue.body"] = "### Images / 镜像\n\n```text\n" + strings.Join(images, "\n") + "\n```\n\n### Platforms / 平台\n\n_No response_\n\n### Names / 名字\n\nflat: a/b becomes a.b\n"
	outputs, err := r.step(t, "copy", "Copy")
	r.values["needs.copy.result"] = "success"
	if err != nil {
		t.Logf("the step failed: %v", err)
		r.values["needs.copy.result"] = "failure"
	}
	_, value, _ := strings.Cut(outputs, "\n") // answer<<END, the lines, END
	value = value[:max(0, strings.LastIndexByte(strings.TrimSuffix(value, "\n"), '\n'))]
	r.values["needs.copy.outputs.answer"] = value

	// gh of the runner takes note.
	tools := filepath.Join(r.temp, "tools")
	said, acts := filepath.Join(r.temp, "comment"), filepath.Join(r.temp, "acts")
	writeFile(t, filepath.Join(tools, "gh"), "#!/bin/bash\nset -eu\necho \"$GH_TOKEN $GH_REPO $*\" >>"+acts+"\nif [ \"$2\" = comment ]; then cat >"+said+"; fi\n")
	if err := os.Chmod(filepath.Join(tools, "gh"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, acts, "")
	r.env = append(r.env, "PATH="+tools+":/usr/bin:/bin")
	if _, err := r.step(t, "answer", "Answer"); err != nil {
		t.Error(err)
	}
	done, closing := readFile(t, acts), "token me/mirror issue close 5 --reason completed\n"
	if rest := strings.TrimSuffix(done, closing); rest != "token me/mirror issue comment 5 --body-file -\n" {
		t.Errorf("gh was told %q", done)
	}
	return readFile(t, said), strings.HasSuffix(done, closing)
}

// wantCommands gives the commands of the answer.
func wantCommands(t *testing.T, comment string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(comment)
	if found == nil {
		t.Fatalf("the answer has no commands: %s", comment)
	}
	return found[1]
}

// startPushOnly is a registry which whoever asks may pull from, and alice push to. It
// counts pushed manifests.
func startPushOnly(t *testing.T, registry string) (address string, pushed *atomic.Int32) {
	t.Helper()
	pushed = new(atomic.Int32)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if r.Method != http.MethodGet && r.Method != http.MethodHead && (user != "alice" || password != "won$der") {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			pushed.Add(1)
		}
		r.Header.Del("Authorization")
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), pushed
}

// A request is carried out by the steps of the workflow, and its answer is typed into Docker.
func TestCopyOnRequest(t *testing.T) {
	r := newRunner(t)
	source := newUpstream(t, bed.registries["docker.io"])
	from := strings.TrimPrefix(source.url(), "http://")
	to, pushed := startPushOnly(t, bed.registries["ghcr.io"])
	tiny, multi := original(t, "docker.io", "library/tiny", "latest"), original(t, "docker.io", "library/multi", "1")
	r.values["vars.COPY_TARGET"], r.values["vars.COPY_SOURCES"] = to+"/asked/", from
	r.values["vars.COPY_USERNAME"], r.values["secrets.COPY_PASSWORD"] = "alice", "won$der"
	r.installHere(t)

	comment, closed := r.ask(t, from+"/library/tiny:latest", from+"/library/none:1", from+"/library/multi:1")
	if closed || !strings.Contains(comment, "\nsampan: copy "+from+"/library/none:1: "+from+" does not have it\n") || !strings.HasSuffix(comment, "\nhttps://github.com/me/mirror/actions/runs/77\n") {
		t.Errorf("with an image that is missing, the answer is %s", comment)
	}
	if n := strings.Count(wantCommands(t, comment), "docker pull"); n != 2 {
		t.Errorf("%d of 2 images are there: %s", n, comment)
	}
	source.forget()
	comment, closed = r.ask(t, from+"/library/tiny:latest", from+"/library/multi:1")
	if !closed || strings.Contains(comment, "sampan:") {
		t.Errorf("the request that was put right is answered with %s", comment)
	}
	source.wantAsked(t, "^GET .*/blobs/", 0, 0)
	if pushed.Load() == 0 {
		t.Error("nothing was pushed with the password")
	}

	docker := startDocker(t, "{}")
	tools := filepath.Join(docker.dir, "tools")
	if err := os.Mkdir(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dockerPath, filepath.Join(tools, "docker")); err != nil {
		t.Fatal(err)
	}
	command{path: bashPath, dir: docker.dir, env: append(docker.env, "PATH="+tools+":/usr/bin:/bin")}.run(t, "-euc", wantCommands(t, comment))
	docker.wantImage(t, to+"/asked/library.tiny:latest", tiny)
	docker.wantRun(t, from+"/library/tiny:latest", said("docker.io", "library/tiny"))
	if there, err := fetchManifest(to, "asked/library.multi", "1"); err != nil || there.digest != multi.digest {
		t.Errorf("%v: the index arrived as %s, want %s", err, there.digest, multi.digest)
	}
}

// installHere puts the program where the step of the workflow would.
func (r *runner) installHere(t *testing.T) {
	t.Helper()
	if err := os.Symlink(os.Getenv(binaryVariable), filepath.Join(r.temp, "sampan")); err != nil {
		t.Fatal(err)
	}
}

// Without a login that may push, and with a request that holds no names, the answer says so.
func TestCopyOnRequestSaysWhatIsWrong(t *testing.T) {
	r := newRunner(t)
	from := bed.registries["docker.io"]
	to, pushed := startPushOnly(t, bed.registries["ghcr.io"])
	r.values["vars.COPY_TARGET"], r.values["vars.COPY_SOURCES"] = to+"/refused/", from
	r.installHere(t)
	comment, closed := r.ask(t, from+"/library/tiny:latest")
	if closed || !strings.Contains(comment, "Log in with docker login") || pushed.Load() != 0 {
		t.Errorf("without a login the answer is %s", comment)
	}
	comment, closed = r.ask(t, from+"/library/tiny:latest", "$(touch pwned) @everyone")
	if closed || !strings.HasPrefix(comment, "Line 2 of the images is not the name of an image.\n") || strings.Contains(comment, "everyone") {
		t.Errorf("a hostile request is answered with %s", comment)
	}
	// More than an environment holds: the step does not start.
	comment, closed = r.ask(t, strings.Repeat("x", 200_000))
	if closed || !strings.HasPrefix(comment, "The run ended without an answer / 运行结束，没有给出答复\n") {
		t.Errorf("a step that did not start is answered with %s", comment)
	}
}

// The program is run only if it is the one that the owners meant.
func TestCopyOnRequestInstallsWhatIsMeant(t *testing.T) {
	r := newRunner(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/sampan", func(w http.ResponseWriter, req *http.Request) { http.ServeFile(w, req, os.Getenv(binaryVariable)) })
	plain := httptest.NewServer(mux)
	mux.Handle("/plain", http.RedirectHandler(plain.URL+"/sampan", http.StatusFound))
	mux.Handle("/elsewhere", http.RedirectHandler("/sampan", http.StatusFound))
	server := httptest.NewTLSServer(mux)
	t.Cleanup(func() { plain.Close(); server.Close() })
	ca := writeFile(t, filepath.Join(testDir(t, "ca"), "ca.pem"), encode("CERTIFICATE", server.Certificate().Raw))
	r.env = []string{"CURL_CA_BUNDLE=" + ca}
	sum := strings.TrimPrefix(fileDigest(t, os.Getenv(binaryVariable)), "sha256:")
	program := filepath.Join(r.temp, "sampan")
	for _, c := range []struct{ url, sum, refused string }{
		{"", "", "set the variables SAMPAN_URL and SAMPAN_SHA256"},
		{server.URL + "/sampan", "", "SAMPAN_URL needs SAMPAN_SHA256"},
		{server.URL + "/sampan", strings.ToUpper(sum), "SAMPAN_URL needs SAMPAN_SHA256"},
		{server.URL + "/sampan", strings.Repeat("0", 64), "has another SHA-256"},
		{server.URL + "/missing", sum, "404"},
		{plain.URL + "/sampan", sum, "not supported"},
		{server.URL + "/plain", sum, "not supported"},
		{server.URL + "/elsewhere", sum, ""},
		{server.URL + "/sampan", sum, ""},
	} {
		r.values["vars.SAMPAN_URL"], r.values["vars.SAMPAN_SHA256"] = c.url, c.sum
		_, err := r.step(t, "copy", "Install sampan")
		_, missing := os.Stat(program)
		switch {
		case c.refused == "" && (err != nil || missing != nil):
			t.Errorf("%s: %v, %v", c.url, err, missing)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused) || missing == nil):
			t.Errorf("%s is not refused for %q: %v", c.url, c.refused, err)
		}
		if err := os.RemoveAll(program); err != nil {
			t.Fatal(err)
		}
		if left, err := filepath.Glob(program + "*"); err != nil || len(left) > 0 {
			t.Errorf("%s leaves %v behind: %v", c.url, left, err)
		}
	}
}

// What others know of workflows and of shells has nothing to say against it.
func TestActionsAndScriptsAreSound(t *testing.T) {
	r := newRunner(t)
	command{path: tool("actionlint"), dir: r.dir, env: cleanEnv(r.dir)}.run(t, "-shellcheck", shellcheckPath, ".github/workflows/copy-image.yml")
	command{path: shellcheckPath, dir: r.dir, env: cleanEnv(r.dir)}.run(t, ".github/copy-image/install.sh", ".github/copy-image/request.sh")
}
