package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files makes a password, a config.json of Docker and a helper.
func files(t *testing.T) (password, docker, helper string) {
	t.Helper()
	dir := t.TempDir()
	password, docker, helper = filepath.Join(dir, "pw"), filepath.Join(dir, "config.json"), filepath.Join(dir, "docker-credential-x")
	for name, text := range map[string]string{password: "pass word\n", docker: `{"auths": {}}`, helper: "#!/bin/sh\n"} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return password, docker, helper
}

func TestAccountsAreReadAndShown(t *testing.T) {
	password, docker, helper := files(t)
	text := fmt.Sprintf(`
upstreams:
  docker.io:
    endpoints: [{url: https://a.example, credentials: false}, {url: https://b.example, credentials: true}, {url: https://c.example}]
    accounts:
      - {username: a, password_file: %[1]s}
      - {username: b, password: "${SECRET}"}
      - {token_file: %[1]s}
      - {docker_config: %[2]s}
      - {helper: %[3]s}
    public: true
    repositories:
      "mycompany/**": {accounts: [{username: c, password: s3cret}], public: true}
      "open/**": {accounts: []}
      "team/**": {pass_through: true, public: false}
`, password, docker, helper)
	c := mustLoad(t, text, nil)
	u := upstream(t, c, "docker.io")
	var names []string
	for _, a := range u.AllAccounts() {
		names = append(names, a.Name())
	}
	if got, want := strings.Join(names, " "), strings.Join([]string{"a", "b", password, docker, helper}, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if u.Accounts[0].Password.Reveal() != "pass word" || u.Accounts[1].Password.Reveal() != "s3cret" || u.Accounts[2].Token.Reveal() != "pass word" {
		t.Error("a secret is not what it was")
	}
	if e := u.Endpoints; *e[0].Credentials || !*e[1].Credentials || e[2].Credentials != nil {
		t.Error("the endpoints that get credentials are lost")
	}
	var shown strings.Builder
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown.String(), "s3cret") || strings.Contains(shown.String(), "pass word") {
		t.Errorf("a secret is shown:\n%s", shown.String())
	}
	var again strings.Builder
	if err := mustLoad(t, shown.String(), nil).Show(&again); err != nil || again.String() != shown.String() {
		t.Errorf("%v\n%s\nbecame\n%s", err, shown.String(), again.String())
	}
}

func TestTheFirstRuleThatSaysSomethingCounts(t *testing.T) {
	const text = `
upstreams:
  docker.io:
    username: me
    password: s3cret
    public: true
    repositories:
      "team/open/*": {public: true, accounts: []}
      "team/**": {pass_through: true}
      "team/x": {pass_through: false, accounts: [{token: t}]}
      "**": {accounts: [{token: t}, {username: two, password: x}]}
`
	u := upstream(t, mustLoad(t, text, nil), "docker.io")
	for path, want := range map[string]string{
		"library/nginx":  "everybody, 2 accounts of rule 3",
		"team/x":         "pass through, 1 accounts of rule 2",
		"team/y":         "pass through, 2 accounts of rule 3",
		"team/open/a":    "pass through, 0 accounts of rule 0",
		"team/open/a/b":  "pass through, 2 accounts of rule 3",
		"mycompany/tool": "everybody, 2 accounts of rule 3",
	} {
		a := u.AccessTo(path)
		who := "nobody"
		switch {
		case a.PassThrough:
			who = "pass through"
		case a.Everybody():
			who = "everybody"
		}
		if got := fmt.Sprintf("%s, %d accounts of rule %d", who, len(a.Accounts), a.From); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	plain := upstream(t, mustLoad(t, "", nil), "docker.io")
	if a := plain.AccessTo("library/nginx"); !a.Everybody() || a.From != -1 || plain.RulesAccess() || plain.PassesThrough() {
		t.Errorf("got %+v", a)
	}
	if !u.RulesAccess() || !u.PassesThrough() {
		t.Error("rules are overlooked")
	}
}

func TestAccountsThatNobodyMayUseAreRefused(t *testing.T) {
	password, docker, _ := files(t)
	const private = "these credentials would serve everybody"
	at := func(rules string) string { return "upstreams:\n  quay.io:\n    repositories:\n" + rules }
	for _, c := range []struct {
		fact, text string
		want       string // "line:column field: start of message", one a line
	}{
		{"a list without public", "upstreams:\n  quay.io: {accounts: [{token: t}]}\n", "2:3 upstreams.quay.io: " + private},
		{"a list with public", "upstreams:\n  quay.io: {accounts: [{token: t}], public: true}\n", ""},
		{"a list with pass_through", "upstreams:\n  quay.io: {accounts: [{token: t}], pass_through: true}\n", ""},
		{"a rule without public", at("      team/**: {accounts: [{token: t}]}\n"), "4:7 upstreams.quay.io.repositories.team/**: " + private},
		{"a rule with public", at("      team/**: {accounts: [{token: t}], public: true}\n"), ""},
		{"a rule with pass_through", at("      team/**: {accounts: [{token: t}], pass_through: true}\n"), ""},
		{"a rule that inherits public", "upstreams:\n  quay.io:\n    public: true\n    repositories:\n      team/**: {accounts: [{token: t}]}\n", ""},
		{
			"a rule that takes public away", "upstreams:\n  quay.io:\n    public: true\n    token: t\n    repositories:\n      team/**: {public: false}\n",
			"6:7 upstreams.quay.io.repositories.team/**: " + private,
		},
		{
			"a rule that takes public away and passes through",
			"upstreams:\n  quay.io:\n    public: true\n    token: t\n    repositories:\n      team/**: {public: false, pass_through: true}\n", "",
		},
		{
			"a rule before another that takes pass_through away",
			at("      a/b: {pass_through: false}\n      a/**: {accounts: [{token: t}], pass_through: true}\n"),
			"5:7 upstreams.quay.io.repositories.a/**: " + private,
		},
		{"a rule without accounts", at("      team/**: {public: false}\n"), ""},
		{"a rule with nobody", "upstreams:\n  quay.io:\n    token: t\n    public: true\n    repositories:\n      team/**: {accounts: [], public: false}\n", ""},
		{"credentials for no endpoint", "upstreams:\n  quay.io: {endpoints: [{url: https://a.example, credentials: false}]}\n", "2:24 upstreams.quay.io.endpoints: credentials must be sent"},
		{"half a login", "upstreams:\n  quay.io: {accounts: [{username: me}], public: true}\n", "2:24 upstreams.quay.io.accounts[0]: username and password belong together"},
		{"no account", "upstreams:\n  quay.io: {accounts: [{}], public: true}\n", "2:24 upstreams.quay.io.accounts[0]: an account is exactly one of"},
		{"two in one", "upstreams:\n  quay.io: {accounts: [{username: me, password: x, token: t}], public: true}\n", "2:24 upstreams.quay.io.accounts[0]: an account is exactly one of"},
		{"two passwords", "upstreams:\n  quay.io: {accounts: [{username: me, password: x, password_file: " + password + "}], public: true}\n", "2:67 upstreams.quay.io.accounts[0].password_file: password and password_file"},
		{"an unknown key", "upstreams:\n  quay.io: {accounts: [{user: me}], public: true}\n", `2:25 upstreams.quay.io.accounts[0].user: unknown key "user"`},
		{"no config.json", "upstreams:\n  quay.io: {accounts: [{docker_config: /dev/null/x}], public: true}\n", "2:40 upstreams.quay.io.accounts[0].docker_config: cannot be read"},
		{"a config.json that is none", "upstreams:\n  quay.io: {accounts: [{docker_config: " + password + "}], public: true}\n", "2:40 upstreams.quay.io.accounts[0].docker_config: " + password + " is not a config.json"},
		{"a helper that is no program", "upstreams:\n  quay.io: {accounts: [{helper: " + docker + "x}], public: true}\n", "2:33 upstreams.quay.io.accounts[0].helper: "},
		{"a helper by a relative path", "upstreams:\n  quay.io: {accounts: [{helper: ./x}], public: true}\n", "2:33 upstreams.quay.io.accounts[0].helper: "},
		{"a bad boolean in a rule", at("      team/**: {pass_through: yes}\n"), `4:31 upstreams.quay.io.repositories.team/**.pass_through: "yes" is not true or false`},
	} {
		t.Run(c.fact, func(t *testing.T) {
			_, err := load(t, c.text, nil)
			got := problems(t, err)
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, "\n")
			}
			ok := len(got) == len(want)
			for i := range want {
				ok = ok && strings.HasPrefix(got[i], want[i])
			}
			if !ok {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), c.want)
			}
		})
	}
}

// TestWhatIsAcceptedServesNobodyByMistake holds the check against what is decided:
// whatever rules match, accounts come with public or pass_through.
func TestWhatIsAcceptedServesNobodyByMistake(t *testing.T) {
	rules := []string{
		"{accounts: [{token: t}]}", "{accounts: []}", "{public: true}", "{public: false}", "{pass_through: true}", "{pass_through: false}",
		"{accounts: [{token: t}], public: true}", "{accounts: [{token: t}], pass_through: true}", "{accounts: [], public: false}",
	}
	accepted := 0
	for _, own := range []string{"", "public: true, ", "token: t, public: true, ", "token: t, pass_through: true, "} {
		for _, first := range rules {
			for _, second := range rules {
				text := "upstreams: {quay.io: {" + own + `repositories: {"a/*": ` + first + `, "*/b": ` + second + "}}}"
				c, err := load(t, text, nil)
				if err != nil {
					continue
				}
				accepted++
				for _, path := range []string{"a/b", "a/c", "c/b", "c/c"} {
					a := upstream(t, c, "quay.io").AccessTo(path)
					if len(a.Accounts) > 0 && !a.Public && !a.PassThrough {
						t.Errorf("%s: %s is read with accounts of nobody", text, path)
					}
				}
			}
		}
	}
	if accepted < 50 {
		t.Errorf("only %d are accepted", accepted)
	}
}
