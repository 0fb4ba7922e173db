package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const actions = "../../deploy/github-actions"

// A workflow is what GitHub reads of copy-image.yml. A key that is missing here is refused,
// so that nothing stands in the file that no test looks at.
type workflow struct {
	Name string `yaml:"name"`
	On   struct {
		Issues struct {
			Types []string `yaml:"types"`
		} `yaml:"issues"`
		WorkflowDispatch struct {
			Inputs map[string]struct {
				Description string   `yaml:"description"`
				Type        string   `yaml:"type"`
				Required    bool     `yaml:"required"`
				Default     string   `yaml:"default"`
				Options     []string `yaml:"options"`
			} `yaml:"inputs"`
		} `yaml:"workflow_dispatch"`
	} `yaml:"on"`
	Permissions map[string]string `yaml:"permissions"`
	Concurrency struct {
		Group  string `yaml:"group"`
		Cancel bool   `yaml:"cancel-in-progress"`
	} `yaml:"concurrency"`
	Jobs map[string]job `yaml:"jobs"`
}

type job struct {
	Needs       string            `yaml:"needs"`
	If          string            `yaml:"if"`
	RunsOn      string            `yaml:"runs-on"`
	Timeout     int               `yaml:"timeout-minutes"` // minutes; zero would be six hours
	Environment string            `yaml:"environment"`
	Permissions map[string]string `yaml:"permissions"`
	Outputs     map[string]string `yaml:"outputs"`
	Steps       []struct {
		Name string            `yaml:"name"`
		ID   string            `yaml:"id"`
		Uses string            `yaml:"uses"`
		With map[string]any    `yaml:"with"`
		Env  map[string]string `yaml:"env"`
		Run  string            `yaml:"run"`
	} `yaml:"steps"`
}

// An issueForm is what GitHub reads of copy-image.form.yml.
type issueForm struct {
	Name        string   `yaml:"name"`
	Description string   `yaml:"description"`
	Title       string   `yaml:"title"`
	Labels      []string `yaml:"labels"`
	Body        []struct {
		Type       string `yaml:"type"`
		ID         string `yaml:"id"`
		Attributes struct {
			Label       string   `yaml:"label"`
			Description string   `yaml:"description"`
			Placeholder string   `yaml:"placeholder"`
			Render      string   `yaml:"render"`
			Multiple    bool     `yaml:"multiple"`
			Options     []string `yaml:"options"`
			Default     int      `yaml:"default"`
		} `yaml:"attributes"`
		Validations struct {
			Required bool `yaml:"required"`
		} `yaml:"validations"`
	} `yaml:"body"`
}

func readAction(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(actions, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func readWorkflow(t *testing.T) workflow {
	t.Helper()
	var w workflow
	if err := yaml.UnmarshalWithOptions(readAction(t, "copy-image.yml"), &w, yaml.Strict()); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	return w
}

func readForm(t *testing.T) issueForm {
	t.Helper()
	var f issueForm
	if err := yaml.UnmarshalWithOptions(readAction(t, "copy-image.form.yml"), &f, yaml.Strict()); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	return f
}

// What is requested reaches the scripts as values of the environment and nothing else, and
// each value is one expression alone.
func TestNoExpressionReachesAShell(t *testing.T) {
	w := readWorkflow(t)
	alone := regexp.MustCompile(`^\$\{\{ [a-z0-9_.]+ \}\}$`) // ids such as github.event.issue.body
	runs, requests := 0, 0
	for name, j := range w.Jobs {
		for _, step := range j.Steps {
			if step.Run != "" {
				runs++
			}
			if strings.Contains(step.Run, "${{") || strings.Contains(step.Name, "${{") || step.Uses != "" && len(step.Env) > 0 {
				t.Errorf("%s: an expression is part of step %q", name, step.Name)
			}
			for key, value := range step.With {
				if s, _ := value.(string); strings.Contains(s, "${{") {
					t.Errorf("%s: an expression is part of the setting %s of %s", name, key, step.Uses)
				}
			}
			for key, value := range step.Env {
				hostile := strings.Contains(value, "github.event.issue.body") || strings.Contains(value, "inputs.") || strings.Contains(value, "issue.title")
				if hostile {
					requests++
				}
				if hostile != strings.HasPrefix(key, "REQUEST_") || hostile && !alone.MatchString(strings.ToLower(value)) {
					t.Errorf("%s: %s is %q", name, key, value)
				}
			}
		}
	}
	if runs != 3 || requests != 4 {
		t.Errorf("%d steps run scripts, with %d values of requests", runs, requests)
	}
	raw := string(readAction(t, "copy-image.yml"))
	// A value that is looked at by other keys is none that a person wrote freely.
	for _, found := range regexp.MustCompile(`github\.event\.[a-z_.*]+`).FindAllString(raw, -1) {
		if !slices.Contains([]string{"github.event.issue.body", "github.event.issue.number", "github.event.issue.labels.*.name", "github.event.issue.author_association"}, found) {
			t.Errorf("it reads %s", found)
		}
	}
}

// The job that has the password may write nothing, and the one that may write has no
// password and runs nothing of the repository.
func TestTheWorkflowHasTheLeastRights(t *testing.T) {
	w := readWorkflow(t)
	if w.Permissions == nil || len(w.Permissions) != 0 {
		t.Errorf("the workflow as a whole may %v", w.Permissions)
	}
	for name, want := range map[string]map[string]string{"copy": {"contents": "read"}, "answer": {"issues": "write"}} {
		if got := w.Jobs[name].Permissions; len(got) != 1 || !equalMaps(got, want) {
			t.Errorf("%s may %v, want %v", name, got, want)
		}
	}
	for name, j := range w.Jobs {
		if j.Timeout == 0 || j.Timeout > 60 {
			t.Errorf("%s may take %d minutes", name, j.Timeout)
		}
		secrets := 0
		for _, step := range j.Steps {
			for key, value := range step.Env {
				if strings.Contains(value, "secrets.") {
					secrets++
					if name != "copy" || step.ID != "copy" || key != "COPY_PASSWORD" {
						t.Errorf("%s: %s is %s", name, key, value)
					}
				}
			}
			if step.Uses != "" && (name != "copy" || step.With["persist-credentials"] != false) {
				t.Errorf("%s: %s keeps its token, or is not needed", name, step.Uses)
			}
		}
		if want := map[string]int{"copy": 1}[name]; secrets != want {
			t.Errorf("%s has %d secrets", name, secrets)
		}
	}
	if len(w.Jobs) != 2 || w.Jobs["copy"].Environment == "" || w.Jobs["answer"].Needs != "copy" {
		t.Errorf("the jobs are %v", w.Jobs)
	}
	if got := w.Jobs["copy"].If; !strings.Contains(got, "github.event.issue.author_association") || !strings.Contains(got, `'["OWNER", "MEMBER", "COLLABORATOR"]'`) {
		t.Errorf("anybody may ask: %s", got)
	}
	if strings.Count(string(readAction(t, "copy-image.yml")), "secrets") != 1 {
		t.Error("secrets are read elsewhere than in the environment of one step")
	}
}

func equalMaps(a, b map[string]string) bool {
	for key, value := range a {
		if b[key] != value {
			return false
		}
	}
	return len(a) == len(b)
}

// Code of others is pinned by commit, with the version for people.
func TestActionsArePinned(t *testing.T) {
	pinned := regexp.MustCompile(`^ *-? *uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$`)
	uses := 0
	for line := range strings.Lines(string(readAction(t, "copy-image.yml"))) {
		line = strings.TrimRight(line, "\n")
		if strings.Contains(line, "uses:") {
			uses++
			if !pinned.MatchString(line) {
				t.Errorf("not pinned: %s", line)
			}
		}
		if strings.Contains(line, "pull_request") || strings.Contains(line, "workflow_run") || strings.Contains(line, "self-hosted") {
			t.Errorf("it holds %s", line)
		}
	}
	if uses != 1 {
		t.Errorf("%d actions of others", uses)
	}
}

// The form, the workflow and the script know the same label, fields and choices.
func TestTheFormFitsTheWorkflow(t *testing.T) {
	w, f := readWorkflow(t), readForm(t)
	if len(f.Labels) != 1 || !strings.Contains(w.Jobs["copy"].If, "'"+f.Labels[0]+"'") {
		t.Errorf("the label of the form is %v, the workflow waits for %s", f.Labels, w.Jobs["copy"].If)
	}
	script := string(readAction(t, "request.sh"))
	var ids []string
	for _, field := range f.Body {
		ids = append(ids, field.ID)
		if !strings.Contains(script, "'### "+field.Attributes.Label+"') field="+field.ID) {
			t.Errorf("request.sh does not know the field %q", field.Attributes.Label)
		}
	}
	inputs := w.On.WorkflowDispatch.Inputs
	if !slices.Equal(ids, []string{"images", "platforms", "names"}) || len(inputs) != len(ids) {
		t.Fatalf("the fields are %v, the inputs %v", ids, inputs)
	}
	for _, id := range ids {
		if inputs[id].Description == "" {
			t.Errorf("the workflow has no input %s", id)
		}
	}
	names := f.Body[2].Attributes
	if !slices.Equal(names.Options, inputs["names"].Options) || inputs["names"].Default != names.Options[names.Default] {
		t.Errorf("the rules of names are %v and %v", names, inputs["names"])
	}
	for _, choice := range names.Options {
		r := newRequest(t)
		r.images("k8s.gcr.io/pause:3.1").env["REQUEST_NAMES"] = choice
		r.wantCopied(t, map[string][]string{
			"flat": {"--flatten"}, "flat-registry": {"--flatten", "--with-registry"}, "path": nil, "path-registry": {"--with-registry"},
		}[strings.Split(choice, ":")[0]], "k8s.gcr.io/pause:3.1")
	}
	for _, platform := range f.Body[1].Attributes.Options {
		r := newRequest(t)
		r.images("k8s.gcr.io/pause:3.1").env["REQUEST_PLATFORMS"] = platform
		r.wantCopied(t, []string{"--flatten", "--platform=" + platform}, "k8s.gcr.io/pause:3.1")
		if _, err := parsePlatforms([]string{platform}); err != nil {
			t.Error(err)
		}
	}
}

// Without a release there are two ways to the program, and one of them builds it as the
// Makefile does.
func TestInstallBuildsAsTheMakefileDoes(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	build := regexp.MustCompile(`(?m)^\s*(CGO_ENABLED=0 go build .*) -o \S+ (\./cmd/sampan)$`)
	made := build.FindStringSubmatch(string(makefile))
	installed := build.FindStringSubmatch(string(readAction(t, "install.sh")))
	if made == nil || installed == nil || !slices.Equal(made[1:], installed[1:]) {
		t.Errorf("the Makefile says %q, install.sh %q", made, installed)
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil || !strings.HasPrefix(string(module), "module sampan\n") {
		t.Errorf("install.sh knows the source by its module, which is not sampan: %v", err)
	}
}
