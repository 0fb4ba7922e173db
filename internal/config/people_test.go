package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
)

// peopleFiles are an htpasswd, a password, a code and a key of tokens.
func peopleFiles(t *testing.T) (htpasswd, password, code, key string) {
	t.Helper()
	dir := t.TempDir()
	name := func(base, text string) string {
		path := filepath.Join(dir, base)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return name("htpasswd", "ann:$2y$04$101ct2wkhY./8w25tM79v.C22CHpt/ID83i8CPzE7s/I6xZUCZnnK\n"),
		name("password", "pass word\n"), name("code", "abcdefghijklmnop\n"), name("key", strings.Repeat("k", 48))
}

func TestWhoMayHaveWhatIsReadAndShown(t *testing.T) {
	htpasswd, password, code, key := peopleFiles(t)
	text := fmt.Sprintf(`
users:
  - file: %[1]s
    groups: people
  - {name: ci, password_file: %[2]s, groups: [robots, builders]}
  - {name: me, password: "${SECRET}"}
codes:
  - {name: team-a, code_file: %[3]s, expires: 2027-06-30}
  - {name: team-b, code: qrstuvwxyz0123456789}
issuers:
  - {name: corp, url: https://login.example.com/x, audience: mirror, user_claim: email, ca_file: %[2]s}
token_key_file: %[4]s
access:
  - {action: deny, repositories: ["docker.io/evil/**", "*/bad/*:latest"], reason: "not here"}
  - {action: allow, networks: [10.0.0.0/8, "2001:db8::1"], hosts: Mirror.test}
  - {action: allow, users: [ci, "corp:x"], groups: "*", codes: [team-a, team-b], upstreams: [quay.io, docker.io]}
  - action: allow
    repositories: "**"
policy:
  report_only: true
  allow: ["docker.io/library/*"]
  deny:
    - {repositories: ["docker.io/library/alpine:2.*"], reason: old}
`, htpasswd, password, code, key)
	c := mustLoad(t, text, nil)
	if len(c.Users) != 3 || c.Users[0].File != htpasswd || c.Users[0].Groups[0] != "people" || c.Users[1].Password.Reveal() != "pass word" ||
		len(c.Users[1].Groups) != 2 || c.Users[2].Password.Reveal() != "s3cret" {
		t.Errorf("users: %+v", c.Users)
	}
	if len(c.Codes) != 2 || c.Codes[0].Code.Reveal() != "abcdefghijklmnop" || c.Codes[0].Expires != time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC) || !c.Codes[1].Expires.IsZero() {
		t.Errorf("codes: %+v", c.Codes)
	}
	if i := c.Issuers[0]; i.Name != "corp" || i.UserClaim != "email" || i.GroupsClaim != "groups" {
		t.Errorf("issuer: %+v", i)
	}
	if len(c.Access) != 4 || c.Access[0].Allow || !c.Access[1].Allow || len(c.Access[1].Networks) != 2 || c.Access[1].Hosts[0] != "mirror.test" ||
		c.Access[2].Groups[0] != "*" || c.Access[2].Upstreams[1] != oci.DockerHub || c.Access[3].Repositories[0] != (Selector{}) {
		t.Errorf("rules: %+v", c.Access)
	}
	if p := c.Policy; !p.ReportOnly || len(p.Allow) != 1 || p.Deny[0].Reason != "old" || p.Deny[0].Repositories[0].Tag.String() != "2.*" {
		t.Errorf("policy: %+v", p)
	}
	var shown, again strings.Builder
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cret", "pass word", "abcdefghijklmnop", "qrstuvwxyz0123456789", "kkkk"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%s is shown:\n%s", secret, shown.String())
		}
	}
	if err := mustLoad(t, shown.String(), nil).Show(&again); err != nil || again.String() != shown.String() {
		t.Errorf("%v\n%s\nbecame\n%s", err, shown.String(), again.String())
	}
}

// Who has emptied the file of a code, as one is told to, is not shut out of the start.
func TestACodeWithAnEmptyFileIsRevoked(t *testing.T) {
	for _, text := range []string{"", " \n"} {
		file := filepath.Join(t.TempDir(), "code")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		two := fmt.Sprintf("codes: [{name: a, code_file: %[1]s}, {name: %%s, code_file: %[1]s}]\naccess: [{action: allow, codes: a}]\n", file)
		c := mustLoad(t, fmt.Sprintf(two, "b"), nil)
		if len(c.Codes) != 2 || !c.Codes[0].Code.IsZero() || c.Codes[0].CodeFile != file {
			t.Errorf("%q: %+v", text, c.Codes)
		}
		if _, err := load(t, fmt.Sprintf(two, "a"), nil); err == nil || !strings.Contains(err.Error(), `"a" has the name or the code of another`) {
			t.Errorf("%q: one name twice: %v", text, err)
		}
	}
}

func TestSelectorsSayWhichRepositories(t *testing.T) {
	for _, s := range []string{"**", "docker.io/library/*", "quay.io/**", "*/library/nginx", "localhost:5000/a/b", "docker.io/library/alpine:3.*", "*/**:latest"} {
		if sel, ok := ParseSelector(s); !ok || sel.String() != s {
			t.Errorf("%s: %v, %v", s, sel, ok)
		}
	}
	for _, s := range []string{"", "*", "docker.io", "nginx:1", "docker.io/", "docker.io/[", "docker.io/a:", "docker.io/a:b/c", "a b/c"} {
		if sel, ok := ParseSelector(s); ok {
			t.Errorf("%q is taken for %v", s, sel)
		}
	}
}

func TestMistakesAboutPeopleAreToldWithTheirPlace(t *testing.T) {
	htpasswd, password, code, _ := peopleFiles(t)
	weak := filepath.Join(t.TempDir(), "weak")
	if err := os.WriteFile(weak, []byte("# x\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ fact, text, want string }{
		{"a user without password", "users: [{name: a}]", "1:9 users[0]: is either a name with password"},
		{"a password without user", "users: [{password: x}]", "1:9 users[0]: is either a name with password"},
		{"a file and a name", "users: [{name: a, file: " + htpasswd + "}]", "1:9 users[0]: is either"},
		{"two passwords", "users: [{name: a, password: b, password_file: " + password + "}]", "1:9 users[0]: password and password_file"},
		{"a name that cannot be sent", "users: [{name: 'a:b', password: x}]", `1:9 users[0]: "a:b" is not a name`},
		{"a user twice", "users: [{name: a, password: x}, {name: a, password: y}]", `1:33 users[1]: the user "a" is there twice`},
		{"a file that is not there", "users: [{file: /nope}]", "1:16 users[0].file: cannot be read"},
		{"a weak hash", "users: [{file: " + weak + "}]", "1:16 users[0].file: " + weak + ", line 2: the hash is no longer safe"},
		{"a file that is none", "users: [{file: " + code + "}]", "1:16 users[0].file: " + code + ", line 1: not name:hash"},
		{"a code without name", "codes: [{code: abcdefghijklmnop}]", "1:9 codes[0]: needs a name"},
		{"a code that can be guessed", "codes: [{name: a, code: abc}]", `1:9 codes[0]: the code of "a" is not 16 to 63`},
		{"a code that is no label", "codes: [{name: a, code: Abcdefghijklmnopqr}]", `1:9 codes[0]: the code of "a" is not`},
		{"a code twice", "codes: [{name: a, code: abcdefghijklmnop}, {name: b, code: abcdefghijklmnop}]", `1:44 codes[1]: "b" has the name or the code of another`},
		{"no code and no file", "codes: [{name: a}]", "1:9 codes[0]: needs a name, and a code or a code_file"},
		{"a day that is none", "codes: [{name: a, code: abcdefghijklmnop, expires: soon}]", `1:52 codes[0].expires: "soon" is not a day`},
		{"half an issuer", "issuers: [{name: a, url: 'https://a.example'}]", "1:11 issuers[0]: needs a name, a url and an audience"},
		{"an issuer over http", "issuers: [{name: a, url: 'http://a.example', audience: b}]", `1:26 issuers[0].url: "http://a.example" is not an https URL`},
		{"an issuer's name", "issuers: [{name: 'a b', url: 'https://a.example', audience: b}]", `1:11 issuers[0]: "a b" is not a name of its own`},
		{"a short key", "token_key_file: " + password, "1:17 token_key_file: " + password + " needs at least 32 bytes"},
		{"a rule without action", "access: [{users: '*'}]", "1:10 access[0]: needs an action"},
		{"an action that is none", "access: [{action: alow}]", `1:19 access[0].action: "alow" is not one of allow, deny; did you mean allow?`},
		{"a misspelt key", "access: [{action: allow, user: '*'}]", `1:26 access[0].user: unknown key "user"; did you mean users?`},
		{"a network that is none", "access: [{action: allow, networks: [10/8]}]", `1:37 access[0].networks[0]: "10/8" is not an address or network`},
		{"a user nobody knows", "access: [{action: allow, users: [ann]}]", `1:33 access[0].users: there is no user "ann"`},
		{"one that a file may know", "users: [{file: " + htpasswd + "}]\naccess: [{action: allow, users: [bob]}]", ""},
		{"a group nobody is in", "access: [{action: allow, groups: [dev]}]", `1:34 access[0].groups: there is no group "dev"`},
		{"a code there is not", "access: [{action: allow, codes: x}]", `1:33 access[0].codes: there is no code of the name "x"`},
		{"a host with a port", "access: [{action: allow, hosts: 'a:5000'}]", `1:33 access[0].hosts: "a:5000" is not a host name`},
		{"a registry that is not served", "access: [{action: allow, upstreams: [a.example]}]", "1:37 access[0].upstreams: a.example is not an upstream"},
		{"repositories of one", "policy: {allow: ['a.example/**']}", "1:18 policy.allow[0]: a.example is not an upstream"},
		{"repositories of an alias", "policy: {allow: ['k8s.gcr.io/**']}", "1:18 policy.allow[0]: k8s.gcr.io is an alias; write registry.k8s.io"},
		{"repositories that are none", "policy: {allow: [nginx]}", `1:18 policy.allow[0]: "nginx" does not say which repositories`},
		{"a denial of nothing", "policy: {deny: [{reason: x}]}", "1:17 policy.deny[0]: needs repositories"},
	} {
		t.Run(c.fact, func(t *testing.T) {
			_, err := load(t, c.text+"\n", nil)
			got := strings.Join(problems(t, err), "\n")
			if c.want == "" && err != nil || !strings.HasPrefix(got, c.want) || strings.Contains(strings.TrimSpace(got), "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Accounts that are for some are for those whom rules name.
func TestRulesThatNameSomebodyMayUseAccounts(t *testing.T) {
	const upstreams = "upstreams: {quay.io: {username: u, password: p}}\nusers: [{name: a, password: b}]\n"
	if _, err := load(t, upstreams+"access: [{action: allow, users: [a]}]\n", nil); err != nil {
		t.Error(err)
	}
	for _, access := range []string{"", "access: [{action: allow}]\n", "access: [{action: deny, users: [a]}]\n"} {
		if _, err := load(t, upstreams+access, nil); err == nil {
			t.Errorf("accepted with %q", access)
		}
	}
}

func TestEverySentenceAboutPeopleIsInTwoLanguages(t *testing.T) {
	for m := range peopleMessages {
		en, zh := m.format(false), m.format(true)
		if en == "" || zh == "" || en == zh || strings.Count(en, "%") != strings.Count(zh, "%") {
			t.Errorf("%d: %q, %q", m, en, zh)
		}
	}
}
