package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProblemsAreToldWithTheirPlace(t *testing.T) {
	for _, c := range []struct {
		fact string
		text string
		want string // the problems, each "line:column field: start of the message", one a line
	}{
		{"a misspelt key", "data:\n  max_sise: 1GiB\n", `2:3 data.max_sise: unknown key "max_sise"; did you mean max_size?`},
		{"an unknown key that is like nothing", "zzzzzzzz: 1\n", `1:1 zzzzzzzz: unknown key "zzzzzzzz"`},
		{"a key given twice", "listen: :1\nlisten: :2\n", `2:1 listen: "listen" is written twice`},
		{"a bad duration", "tags: {fresh_for: soon}\n", `1:19 tags.fresh_for: "soon" is not a duration`},
		{"a number without unit", "tags: {fresh_for: 60}\n", `1:19 tags.fresh_for: "60" is not a duration`},
		{"a negative duration", "shutdown:\n  grace: -5s\n", `2:10 shutdown.grace: "-5s" is not a duration`},
		{"no lines", "fetch: {lines: 0}\n", `1:16 fetch.lines: "0" is not a whole number from 1 to 10000`},
		{"lines without end", "fetch: {lines_total: many}\n", `1:22 fetch.lines_total: "many" is not a whole number`},
		{"a stall too short", "fetch: {stall: 20ms}\n", `1:16 fetch.stall: 20ms is too short; at least 1s is needed`},
		{"a bad size", "data: {max_size: 20 gigs}\n", `1:18 data.max_size: "20 gigs" is not a size`},
		{"a size too small", "data: {max_size: 20MB, dir: /x}\ntags: {}\n", ""},
		{"a size much too small", "data: {max_size: 20kB}\n", `1:18 data.max_size: 20kB is too small; at least 16MiB`},
		{"a bad boolean", "log: {access: yes}\n", `1:15 log.access: "yes" is not true or false`},
		{"a bad choice", "log: {format: jsn}\n", `1:15 log.format: "jsn" is not one of text, json; did you mean json?`},
		{"a bad address", "listen: 5000\n", `1:9 listen: "5000" is not an address`},
		{"a port out of range", "listen: :70000\n", `1:9 listen: ":70000" is not an address`},
		{"one address for two", "listen: :1\nadmin: {listen: ':1'}\n", `2:17 admin.listen: :1 is the address of listen already`},
		{"a domain with scheme", "domain: https://m.example\n", `1:9 domain: "https://m.example" is not a host name`},
		{"a domain with port", "domain: m.example:80\n", `1:9 domain: "m.example:80" is not a host name`},
		{"a domain that is an address", "domain: 10.0.0.1\n", `1:9 domain: "10.0.0.1" is not a host name`},
		{"a default that is no upstream", "default: a.example\n", `1:10 default: a.example is not an upstream`},
		{"an empty data directory", "data: {dir: ''}\n", `1:13 data.dir: must not be empty`},
		{"a list for a mapping", "upstreams: [quay.io]\n", `1:12 upstreams: must be a mapping`},
		{"a mapping for a list", "upstreams: {quay.io: {hosts: {a: b}}}\n", `1:30 upstreams.quay.io.hosts: must be a list`},
		{"a list for a value", "domain: [a]\n", `1:9 domain: must be a single value`},
		{"a bad address in a list", "listen: [':1', a]\n", `1:16 listen[1]: "a" is not an address`},
		{"no address", "listen: []\n", `1:9 listen: must not be empty`},
		{"a mapping for addresses", "listen: {a: b}\n", `1:9 listen: must be a single value`},
		{"the same address twice", "listen: [':1', ':1']\n", `1:9 listen: :1 is the address of listen already`},
		{"a relative socket", "listen: 'unix:run/x'\n", `1:9 listen: "unix:run/x" is not an address`},
		{"a socket with a comma in its path", "listen: ['unix:/run/a,b']\n", `1:10 listen[0]: "unix:/run/a,b" has a comma or a character that cannot be seen`},
		{"two addresses in one entry", "listen: [':1,:2']\n", `1:10 listen[0]: ":1,:2" has a comma`},
		{"a socket with a line break in its path", "listen: \"unix:/run/a\\nb\"\n", `1:9 listen: "unix:/run/a\nb" has a comma or a character`},
		{"a socket that hides a character", "listen: [\"unix:/run/a\\u200Bb\"]\n", `1:10 listen[0]: "unix:/run/a\u200bb" has a comma or a character`},
		{"a name of systemd with a tab", "listen: \"systemd:a\\tb\"\n", `1:9 listen: "systemd:a\tb" has a comma or a character`},
		{"a host with a control character", "admin: {listen: \"a\\x01:1\"}\n", `1:17 admin.listen: "a\x01:1" has a comma or a character`},
		{"a redirect at all sockets", "tls: {redirect: systemd}\n", `1:17 tls.redirect: "systemd" is not an address`},
		{"a certificate without key", "tls: {certificates: [{cert: /etc/hostname}]}\n", `1:22 tls.certificates[0]: needs both cert and key`},
		{"a certificate that is not there", "tls: {certificates: [{cert: /nope/c, key: /nope/k}]}\n", "1:29 tls.certificates[0].cert: cannot be read\n1:43 tls.certificates[0].key: cannot be read"},
		{"a redirect to nothing", "tls: {redirect: ':80'}\n", `1:17 tls.redirect: leads to https, and there are neither tls.certificates nor tls.acme`},
		{"a wildcard without DNS", "tls: {acme: {domains: ['*.a.example']}}\n", `1:23 tls.acme.domains: a wildcard needs challenge: dns`},
		{"DNS without a hook", "tls: {acme: {domains: [a.example], challenge: dns}}\n", `1:47 tls.acme.challenge: needs a hook`},
		{"a hook without DNS", "tls: {acme: {domains: [a.example], hook: /bin/true}}\n", `1:42 tls.acme.hook: is used with challenge: dns only`},
		{"a hook on the path", "tls: {acme: {domains: [a.example], challenge: dns, hook: x}}\n", `1:58 tls.acme.hook: "x" is not the absolute path`},
		{"an authority without names", "tls: {acme: {email: a@a.example}}\n", `1:13 tls.acme: needs at least one name`},
		{"an authority over http", "tls: {acme: {domains: [a.example], directory: 'http://a.example'}}\n", `1:47 tls.acme.directory: "http://a.example" is not an https URL`},
		{"a name that is none", "tls: {acme: {domains: ['a b']}}\n", `1:24 tls.acme.domains[0]: "a b" is not a host name`},

		{"a network that is none", "trusted_proxies: [10.0.0.0/8, x]\n", `1:31 trusted_proxies[1]: "x" is not an address or network`},
		{"an origin with a path", "cors_origins: ['*', 'https://a.example/x']\n", `1:21 cors_origins[1]: "https://a.example/x" is not an origin`},
		{"a negative count", "limits: {connections: -1}\n", `1:23 limits.connections: "-1" is not a whole number from 0`},
		{"a bad registry name", "upstreams:\n  'quay.io/a': {}\n", `2:3 upstreams.quay.io/a: "quay.io/a" is not the name of a registry`},
		{"one registry by two names", "upstreams:\n  docker.io: {}\n  index.docker.io: {}\n", `3:3 upstreams.index.docker.io: index.docker.io is the same registry`},
		{"a URL without host", "upstreams: {quay.io: {endpoints: [{url: 'https://'}]}}\n", `1:41 upstreams.quay.io.endpoints[0].url: "https://" is not a URL`},
		{"a URL without scheme", "upstreams: {quay.io: {endpoints: [{url: quay.io}]}}\n", `1:41 upstreams.quay.io.endpoints[0].url: "quay.io" is not a URL`},
		{"a URL with a password is not repeated", "upstreams: {quay.io: {endpoints: [{url: 'https://me:pw@quay.io'}]}}\n", `1:41 upstreams.quay.io.endpoints[0].url: "https://********@quay.io" is not a URL`},
		{"an endpoint without url", "upstreams: {quay.io: {endpoints: [{}]}}\n", `1:35 upstreams.quay.io.endpoints[0]: needs at least one entry with a url`},
		{"no endpoints", "upstreams: {quay.io: {endpoints: []}}\n", `1:34 upstreams.quay.io.endpoints: needs at least one`},
		{
			"endpoints for blobs alone", "upstreams:\n  quay.io:\n    endpoints: [{url: 'https://a', serves: blobs}, {url: 'https://b', serves: blobs}]\n",
			`3:16 upstreams.quay.io.endpoints: needs at least one endpoint that serves all`,
		},
		{"what an endpoint does not serve", "upstreams: {quay.io: {endpoints: [{url: 'https://a', serves: blob}]}}\n", `1:62 upstreams.quay.io.endpoints[0].serves: "blob" is not one of all, blobs; did you mean blobs?`},
		{"a hedge too short", "upstreams: {quay.io: {hedge: 1ms}}\n", `1:30 upstreams.quay.io.hedge: 1ms is too short; at least 10ms is needed, 0 turns it off`},
		{"a bad hedge", "upstreams: {quay.io: {hedge: quick}}\n", `1:30 upstreams.quay.io.hedge: "quick" is not a duration`},
		{"a bad wait", "upstreams: {quay.io: {rate_limit_wait: 3}}\n", `1:40 upstreams.quay.io.rate_limit_wait: "3" is not a duration`},
		{"a bad label", "upstreams: {quay.io: {hosts: [a.b]}}\n", `1:31 upstreams.quay.io.hosts[0]: "a.b" is not one label`},
		{"a label claimed twice", "upstreams:\n  quay.io: {hosts: [a]}\n  gcr.io: {hosts: [a]}\n", `3:20 upstreams.gcr.io.hosts[0]: the label "a" belongs to quay.io already`},
		{"settings of the star", "upstreams: {'*': {hosts: [a]}}\n", `1:18 upstreams.*: takes no settings`},
		{"a user without password", "upstreams:\n  quay.io: {username: me}\n", `2:3 upstreams.quay.io: username and password belong together`},
		{
			"credentials that everybody would use", "upstreams:\n  quay.io: {username: me, password: a}\n",
			"2:3 upstreams.quay.io: these credentials would serve everybody who reaches this mirror; add public: true if that is wanted",
		},
		{
			"a password twice", "upstreams:\n  quay.io: {username: me, password: a, public: true, password_file: /dev/null/x}\n",
			"2:69 upstreams.quay.io.password_file: cannot be read\n2:69 upstreams.quay.io.password_file: password and password_file",
		},
		{"an unset variable", "data: {dir: '${NOPE}'}\n", `1:13 data.dir: the variable NOPE is not set; give it a default with ${NOPE:-value}`},
		{"an unclosed variable", "data: {dir: '${NOPE'}\n", `1:13 data.dir: a variable is written ${NAME}`},
		{"an alias of a bad name", "aliases:\n  'a b': quay.io\n", `2:3 aliases.a b: "a b" is not a registry`},
		{"an alias to a bad name", "aliases: {a.example: quay.io/A}\n", `1:22 aliases.a.example: "quay.io/A" is not a registry`},
		{"an alias to nowhere", "aliases: {a.example: b.example}\n", `1:22 aliases.a.example: leads to b.example, which is not an upstream`},
		{"an alias of an upstream", "aliases: {quay.io: docker.io}\n", `1:20 aliases.quay.io: quay.io is an upstream`},
		{
			"aliases in a circle", "aliases: {gcr.io/a: gcr.io/b, gcr.io/b: gcr.io/a}\n",
			"1:21 aliases.gcr.io/a: leads to gcr.io/b, which is an alias\n1:41 aliases.gcr.io/b: leads to gcr.io/a, which is an alias",
		},
		{"an unknown anchor", "data: *x\n", `1:7 data: refers to an anchor`},
		{"an anchor in itself", "data: &x *x\n", `1:10 : not valid YAML`},
		{"a syntax error", "listen: [\n", `1:9 : not valid YAML`},
		{"two documents", "listen: :1\n---\nlisten: :2\n", `0:0 : holds more than one`},
		{"no text", "listen: \xff\n", `0:0 : not UTF-8`},
		{"a column after wide characters", "aliases: {'仓库': a}\n", `1:11 aliases.仓库: "仓库" is not a registry`},
		{
			"everything at once", "lissten: a\ndata: {max_size: x}\ntags: {fresh_for: y}\n",
			"1:1 lissten: unknown key \"lissten\"; did you mean listen?\n2:18 data.max_size: \"x\"\n3:19 tags.fresh_for: \"y\"",
		},
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

func TestProblemsOfFlagsAndEnvironmentNameThem(t *testing.T) {
	_, err := load(t, "", func(s *Source) {
		s.Environ = append(s.Environ, "SAMPAN_LISEN=:1", "SAMPAN_TAGS_FRESH_FOR=x", "SAMPAN_UPSTREAMS=quay.io")
		s.Flags = Flags{Listen: "x", AdminListen: "y", Upstreams: []string{"quay.io=quay.io", "a b=https://x", "quay.io=http://"}}
	})
	got := strings.Join(problems(t, err), "\n")
	for _, want := range []string{
		"SAMPAN_LISEN: no such setting; did you mean SAMPAN_LISTEN?",
		`SAMPAN_TAGS_FRESH_FOR: "x" is not a duration`,
		`SAMPAN_UPSTREAMS: "quay.io" is not NAME=URL`,
		`--listen: "x" is not an address`,
		`--admin-listen: "y" is not an address`,
		`--upstream: "quay.io" is not a URL`,
		`--upstream: "a b" is not the name of a registry`,
		`--upstream: "http://" is not a URL`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s\nin\n%s", want, got)
		}
	}
}

func TestAFlagWinsOverAnAliasOfTheFile(t *testing.T) {
	c := mustLoad(t, "aliases: {a.example: quay.io}", func(s *Source) { s.Flags.Upstreams = []string{"a.example=https://b.example"} })
	if len(c.Aliases["a.example"]) != 0 || urls(upstream(t, c, "a.example")) != "https://b.example" {
		t.Errorf("got %+v", c)
	}
}

func TestMessagesAreChineseForChineseUsers(t *testing.T) {
	for env, want := range map[string]string{"LANG=zh_CN.UTF-8": "未知的键", "LC_ALL=zh_TW": "未知的键", "LANG=de_DE.UTF-8": "unknown key"} {
		_, err := load(t, "x: 1\n", func(s *Source) { s.Environ = append(s.Environ, env) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", env, err)
		}
	}
}

// TestEveryMessageHasBothLanguages also holds that the two take the same
// operands.
func TestEveryMessageHasBothLanguages(t *testing.T) {
	var all []sentence
	for m := range messages {
		all = append(all, m)
	}
	for m := range egressMessages {
		all = append(all, m)
	}
	for _, m := range all {
		en, zh := m.format(false), m.format(true)
		if en == "" || zh == "" {
			t.Errorf("message %d: %q, %q", m, en, zh)
		}
		for _, verb := range []string{"%q", "%s", "%v", "%d", "%[1]s"} {
			if strings.Count(en, verb) != strings.Count(zh, verb) {
				t.Errorf("%q and %q differ in %s", en, zh, verb)
			}
		}
	}
}

func TestAFileTooLargeIsRefused(t *testing.T) {
	_, err := load(t, strings.Repeat("#", MaxFileSize+1), nil)
	if err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("got %v", err)
	}
}

// cpu is the CPU time of this process so far, whatever else the machine does.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestHostileFilesAreRefusedSoon has files of at most a MiB at which a parser
// may work for hours or exhaust its stack.
func TestHostileFilesAreRefusedSoon(t *testing.T) {
	const size = MaxFileSize - 100
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	labels := "[" + strings.Repeat("a,", 6000) + "]"
	for fact, text := range map[string]string{
		"many keys":            fill("a: b\n"),
		"deep flow lists":      fill("["),
		"deep flow mappings":   fill("{a: "),
		"deep block lists":     fill("- "),
		"deep complex keys":    fill("? "),
		"many tags":            fill("!a "),
		"many anchors":         fill("a: &x [*x,*x]\n"),
		"aliases of long list": "upstreams:\n  a.example: &u {hosts: " + labels + "}\n" + strings.Repeat("  b.example: *u\n", 1000),
	} {
		t.Run(fact, func(t *testing.T) {
			before := cpu(t)
			if _, err := load(t, text, nil); err == nil {
				t.Error("accepted")
			}
			if d := cpu(t) - before; d > 20*time.Second {
				t.Errorf("took %v of CPU time", d)
			}
		})
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	s := NewSecret("s3cret")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s)
	text, err := json.Marshal(struct{ S Secret }{s})
	if err != nil {
		t.Fatal(err)
	}
	u := Upstream{Password: s}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%#v %+v", s, s), fmt.Sprintf("%v %+v %#v", u, u, u), log.String(), string(text)} {
		if strings.Contains(out, "s3cret") {
			t.Errorf("printed: %s", out)
		}
	}
	if s.Reveal() != "s3cret" || !(Secret{}).IsZero() || (Secret{}).String() != "" {
		t.Error("Reveal or IsZero is wrong")
	}
}

func TestSizesAndDurations(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "1024": 1024, "20GiB": 20 << 30, "500MB": 500_000_000, "1.5 GiB": 3 << 29, "2tib": 2 << 40, "1kB": 1000} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s: got %d, %v", in, got, err)
		}
		if got, err := ParseSize(want.String()); err != nil || got != want {
			t.Errorf("%s does not read back: %d, %v", want, got, err)
		}
	}
	for _, in := range []string{"", "GiB", "-1", "1e9", "1XB", "1G", "0x10", "1 2", "99999999TiB", "+1", "."} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q is %d", in, got)
		}
	}
	for in, want := range map[string]time.Duration{"0": 0, "0s": 0, "90s": 90 * time.Second, "7d": 7 * 24 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := ParseDuration(in); err != nil || time.Duration(got) != want {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "5", "-1s", "d", "1.5d", "99999999d", "soon"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

// FuzzLoad holds that no file makes the loader panic, that every refusal is a
// list of problems, and that what is accepted is shown in a form that is
// accepted and means the same.
func FuzzLoad(f *testing.F) {
	f.Add(everything)
	f.Add("a: &a [*a]\nb: {<<: *a}\n")
	f.Add(egressText)
	f.Add("upstreams: {'*': , quay.io: {password: '${SECRET}', username: $${}}}")
	f.Add("? a\n: - b\n  - |\n    c\n")
	f.Add("data: {dir: \"\\x00\", max_size: 0x10}\n--- !!map\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "_file") || strings.Contains(text, "docker_config") || strings.Contains(text, "client_") {
			return // would read any file of this machine
		}
		s := Source{File: filepath.Join(dir, "sampan.yaml"), Environ: []string{"HOME=/h", "SECRET=s3cret"}}
		if err := os.WriteFile(s.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(s)
		if err != nil {
			problems(t, err)
			return
		}
		var shown strings.Builder
		if err := c.Show(&shown); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.File, []byte(shown.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Load(s)
		if err != nil {
			t.Fatalf("%v\n%s", err, shown.String())
		}
		var twice strings.Builder
		if err := again.Show(&twice); err != nil || twice.String() != shown.String() {
			t.Fatalf("%v\n%s\nbecame\n%s", err, shown.String(), twice.String())
		}
	})
}
