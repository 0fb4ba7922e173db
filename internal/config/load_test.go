package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sampan/internal/oci"
)

// load writes text to a file and loads it with a small environment.
func load(t testing.TB, text string, change func(*Source)) (*Config, error) {
	t.Helper()
	s := Source{File: filepath.Join(t.TempDir(), "sampan.yaml"), Environ: []string{"HOME=/home/x", "SECRET=s3cret", "EMPTY="}}
	if err := os.WriteFile(s.File, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&s)
	}
	return Load(s)
}

func mustLoad(t testing.TB, text string, change func(*Source)) *Config {
	t.Helper()
	c, err := load(t, text, change)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems returns what is wrong as "line:column field: message" lines.
func problems(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("not joined: %v", err)
	}
	var list []string
	for _, e := range joined.Unwrap() {
		p, ok := errors.AsType[*Problem](e)
		if !ok {
			t.Fatalf("not a Problem: %v", e)
		}
		list = append(list, fmt.Sprintf("%d:%d %s: %s", p.Line, p.Column, p.Field, p.Message))
	}
	return list
}

func upstream(t testing.TB, c *Config, name string) Upstream {
	t.Helper()
	r, err := oci.ParseRegistry(name)
	if err != nil {
		t.Fatal(err)
	}
	u, ok := c.Upstream(r)
	if !ok {
		t.Fatalf("no upstream %s", name)
	}
	return u
}

func TestAMaskedSecretLoadsAgain(t *testing.T) {
	for _, value := range []string{"s3cret", "'*x'", "'${SECRET}'", "'a$${b'", "12345"} {
		c := mustLoad(t, "upstreams: {quay.io: {token: "+value+", public: true}}", nil)
		var shown strings.Builder
		if err := c.Show(&shown); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(shown.String(), "s3cret") || strings.Contains(shown.String(), "12345") {
			t.Errorf("%s is shown", value)
		}
		if again := mustLoad(t, shown.String(), nil); upstream(t, again, "quay.io").Token.IsZero() {
			t.Errorf("%s: the token is lost in\n%s", value, shown.String())
		}
	}
}

// urls joins the endpoints of an upstream.
func urls(u Upstream) string {
	var list []string
	for _, e := range u.Endpoints {
		list = append(list, e.URL.String())
	}
	return strings.Join(list, " ")
}

func TestNothingHasToBeWritten(t *testing.T) {
	c := mustLoad(t, "", func(s *Source) { s.Environ = []string{"XDG_DATA_HOME=/data"} })
	if strings.Join(c.Listen, " ") != "127.0.0.1:5000" || c.Admin.Listen != "127.0.0.1:5001" || c.Data.Dir != "/data/sampan" || !c.Data.MaxSize.IsZero() {
		t.Errorf("got %+v", c)
	}
	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Registry.String()+"="+strings.Join(u.Hosts, "+"))
	}
	const want = "docker.elastic.co=elastic docker.io=docker gcr.io=gcr ghcr.io=ghcr mcr.microsoft.com=mcr nvcr.io=nvcr " +
		"public.ecr.aws=ecr quay.io=quay registry.gitlab.com=gitlab registry.k8s.io=k8s"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := urls(upstream(t, c, "docker.io")); got != "https://registry-1.docker.io" {
		t.Errorf("docker.io at %s", got)
	}
	if got := urls(upstream(t, c, "quay.io")); got != "https://quay.io" {
		t.Errorf("quay.io at %s", got)
	}
}

func TestTheDataDirectoryFollowsTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		fact string
		env  map[string]string
		uid  int
		want string
	}{
		{"XDG_DATA_HOME comes first", map[string]string{"XDG_DATA_HOME": "/d", "HOME": "/h"}, 0, "/d/sampan"},
		{"a relative XDG_DATA_HOME is ignored, as its specification says", map[string]string{"XDG_DATA_HOME": "d", "HOME": "/h"}, 1, "/h/.local/share/sampan"},
		{"root has /var/lib", map[string]string{"HOME": "/root"}, 0, "/var/lib/sampan"},
		{"everybody else has their home", map[string]string{"HOME": "/h"}, 1, "/h/.local/share/sampan"},
		{"without home there is none", nil, 1, ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			if got := dataDir(c.env, c.uid); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

const everything = `
listen: 0.0.0.0:80
admin: {listen: "off"}
data: {dir: /data, max_size: 20GiB}
domain: Mirror.example.com
default: quay.io
tags: {fresh_for: 5m}
fetch: {lines: 1, lines_per_upstream: 2, lines_total: 3, stall: 1m, prefetch: false}
shutdown: {grace: 0s}
log: {level: debug, format: json, access: false}
upstreams:
  docker.io:
    hosts: [hub, docker]
    endpoints: [{url: https://a.example/}, {url: http://b.example:8080/v2/docker.io, serves: blobs}]
    hedge: 300ms
    rate_limit_wait: 5s
    username: me
    password: "${SECRET}"
    public: true
  registry.corp:5000: {hosts: [corp]}
  quay.io:
  "*": {}
aliases: {old.example/team: quay.io/team}
`

func TestEverySettingIsRead(t *testing.T) {
	c := mustLoad(t, everything, nil)
	if strings.Join(c.Listen, " ") != "0.0.0.0:80" || c.Admin.Listen != "" || c.Data.Dir != "/data" || c.Data.MaxSize != (Bound{Bytes: 20 << 30}) || c.Domain != "mirror.example.com" ||
		c.Default.String() != "quay.io" || c.Tags.FreshFor != Duration(5*time.Minute) || c.Shutdown.Grace != 0 ||
		c.Fetch != (Fetch{1, 2, 3, Duration(time.Minute), false}) ||
		c.Log != (Log{Level: "debug", Format: "json"}) || !c.Open || c.Aliases["old.example/team"] != "quay.io/team" {
		t.Errorf("got %+v", c)
	}
	u := upstream(t, c, "docker.io")
	if strings.Join(u.Hosts, " ") != "hub docker" || urls(u) != "https://a.example http://b.example:8080/v2/docker.io" ||
		u.Endpoints[0].BlobsOnly || !u.Endpoints[1].BlobsOnly || u.Hedge != Duration(300*time.Millisecond) || u.RateLimitWait != Duration(5*time.Second) ||
		u.Username != "me" || u.Password.Reveal() != "s3cret" || !u.Public || !u.HasCredentials() {
		t.Errorf("got %+v at %s", u, urls(u))
	}
	if got := urls(upstream(t, c, "registry.corp:5000")); got != "https://registry.corp:5000" {
		t.Errorf("an upstream without endpoints is at %s", got)
	}
	if u := upstream(t, c, "quay.io"); urls(u) != "https://quay.io" || len(u.Hosts) != 1 {
		t.Errorf("an empty upstream keeps what is built in: %+v", u)
	}
}

func TestLaterSourcesOverrideEarlierOnes(t *testing.T) {
	const text = "listen: 127.0.0.1:1\ndata: {dir: /file}\nupstreams: {quay.io: {endpoints: [{url: https://file.example}]}}\n"
	env := func(s *Source) {
		s.Environ = append(s.Environ, "SAMPAN_LISTEN=127.0.0.1:2", "SAMPAN_DATA_MAX_SIZE=1GiB", "SAMPAN_LOG_ACCESS=false",
			"SAMPAN_UPSTREAMS=quay.io=https://env.example, foo.example=http://foo:5000")
	}
	c := mustLoad(t, text, env)
	if strings.Join(c.Listen, " ") != "127.0.0.1:2" || c.Data.Dir != "/file" || c.Data.MaxSize != (Bound{Bytes: 1 << 30}) || c.Log.Access || urls(upstream(t, c, "quay.io")) != "https://env.example" ||
		urls(upstream(t, c, "foo.example")) != "http://foo:5000" {
		t.Errorf("the environment does not override the file: %+v", c)
	}
	c = mustLoad(t, text, func(s *Source) {
		env(s)
		s.Flags = Flags{Listen: "127.0.0.1:3", AdminListen: "off", DataDir: "/flag", Upstreams: []string{"quay.io=https://one.example", "quay.io=https://two.example/"}}
	})
	if strings.Join(c.Listen, " ") != "127.0.0.1:3" || c.Admin.Listen != "" || c.Data.Dir != "/flag" || urls(upstream(t, c, "quay.io")) != "https://one.example https://two.example" {
		t.Errorf("flags do not override the environment: %+v", c)
	}
}

func TestTheFileIsFound(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"sampan.yaml", "env.yaml", "flag.yaml"} {
		if err := os.WriteFile(name, []byte("listen: "+name+":1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"HOME=/h"}
	for _, c := range []struct {
		fact string
		s    Source
		want string
	}{
		{"in the working directory", Source{Environ: environ}, "sampan.yaml"},
		{"by SAMPAN_CONFIG", Source{Environ: append(environ, "SAMPAN_CONFIG=env.yaml")}, "env.yaml"},
		{"by the flag before all", Source{Environ: append(environ, "SAMPAN_CONFIG=env.yaml"), Flags: Flags{Config: "flag.yaml"}}, "flag.yaml"},
	} {
		t.Run(c.fact, func(t *testing.T) {
			got, err := Load(c.s)
			if err != nil || got.File != c.want || strings.Join(got.Listen, " ") != c.want+":1" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if _, err := Load(Source{Environ: environ, Flags: Flags{Config: "none.yaml"}}); err == nil {
		t.Error("a file that was named must exist")
	}
}

func TestUpstreamsOfTheFileMergeOverBuiltInOnes(t *testing.T) {
	c := mustLoad(t, "upstreams: {docker.io: {hosts: [hub]}, mine.example: {hosts: [quay]}, k8s.gcr.io: {}}", nil)
	if u := upstream(t, c, "docker.io"); urls(u) != "https://registry-1.docker.io" || strings.Join(u.Hosts, " ") != "hub" {
		t.Errorf("got %+v", u)
	}
	if u := upstream(t, c, "quay.io"); len(u.Hosts) != 0 {
		t.Errorf("a label of the file is taken from the built-in upstream: %+v", u)
	}
	if _, ok := c.Aliases["k8s.gcr.io"]; ok {
		t.Error("an upstream replaces the built-in alias of its name")
	}
}

func TestVariables(t *testing.T) {
	for _, c := range []struct{ fact, in, want string }{
		{"a set variable", `"/a/${SECRET}/b"`, "/a/s3cret/b"},
		{"a default for an unset one", `"${NOPE:-/d}"`, "/d"},
		{"a default for an empty one", `"${EMPTY:-/d}"`, "/d"},
		{"an empty default", `"/x${NOPE:-}"`, "/x"},
		{"an escaped one", `"/x$${SECRET}"`, "/x${SECRET}"},
		{"a dollar alone", `/x$SECRET$`, "/x$SECRET$"},
		{"its value is not expanded again", `"${NOPE:-$}{SECRET}"`, "${SECRET}"},
	} {
		t.Run(c.fact, func(t *testing.T) {
			if got := mustLoad(t, "data: {dir: "+c.in+"}", nil).Data.Dir; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSecretsComeFromFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hub")
	if err := os.WriteFile(name, []byte("pass word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, fmt.Sprintf("upstreams: {docker.io: {username: me, password_file: %[1]s, public: true}, quay.io: {token_file: %[1]s, public: true}}", name), nil)
	if u := upstream(t, c, "docker.io"); u.Password.Reveal() != "pass word" || u.PasswordFile != name {
		t.Errorf("got %q from %q", u.Password.Reveal(), u.PasswordFile)
	}
	if u := upstream(t, c, "quay.io"); u.Token.Reveal() != "pass word" || u.TokenFile != name {
		t.Errorf("got %q from %q", u.Token.Reveal(), u.TokenFile)
	}
}

func TestAnchorsAreFollowed(t *testing.T) {
	c := mustLoad(t, "upstreams:\n  a.example: &u\n    endpoints: [{url: https://one.example}]\n  b.example: *u\n", nil)
	if got := urls(upstream(t, c, "b.example")); got != "https://one.example" {
		t.Errorf("got %s", got)
	}
}

func TestKubernetesServiceVariablesAreNotSettings(t *testing.T) {
	mustLoad(t, "", func(s *Source) {
		s.Environ = append(s.Environ, "SAMPAN_SERVICE_HOST=10.0.0.1", "SAMPAN_SERVICE_PORT_HTTP=80", "SAMPAN_PORT=tcp://10.0.0.1:80", "SAMPAN_PORT_80_TCP_ADDR=10.0.0.1")
	})
	mustLoad(t, `data: {dir: "${SAMPAN_MINE}"}`, func(s *Source) { s.Environ = append(s.Environ, "SAMPAN_MINE=/x") })
}

func TestShowLoadsAgain(t *testing.T) {
	for fact, text := range map[string]string{
		"everything": everything, "nothing": "", "egress": egressText, "a literal ${": `data: {dir: "/x$${A}"}`,
		"a label taken over": "upstreams: {a.example: {hosts: [docker]}, k8s.gcr.io: {}}",
	} {
		t.Run(fact, func(t *testing.T) {
			want := mustLoad(t, text, nil)
			var shown strings.Builder
			if err := want.Show(&shown); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(shown.String(), "s3cret") {
				t.Errorf("a secret is shown:\n%s", shown.String())
			}
			got, err := load(t, shown.String(), nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, shown.String())
			}
			got.File, got.FileSum = want.File, want.FileSum
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(Secret{}), cmpopts.EquateEmpty(), cmp.Comparer(func(a, b oci.Registry) bool { return a == b }),
				cmpopts.EquateComparable(netip.Addr{}, oci.Repository{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
