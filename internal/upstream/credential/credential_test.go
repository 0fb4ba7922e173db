package credential

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/follow"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/upstream"
)

// A journal is a log that a test reads.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// lines returns how many there are and forgets them; none may hold a secret.
func (j *journal) lines(t *testing.T) int {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	text := j.b.String()
	j.b.Reset()
	if strings.Contains(text, "s3cret") {
		t.Errorf("a secret is logged: %s", text)
	}
	return strings.Count(text, "\n")
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func registry(t *testing.T, s string) oci.Registry {
	t.Helper()
	r, err := oci.ParseRegistry(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func endpoint(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func ask(t *testing.T, c upstream.Credentials, ctx context.Context, at string) upstream.Credential { //nolint:revive // context-as-argument: it is what differs
	t.Helper()
	cred, err := c(ctx, endpoint(t, at))
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func TestAFileIsReadAgainWhenItHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		path := filepath.Join(t.TempDir(), "pw")
		write(t, path, "s3cret1\n")
		creds := PasswordFile("me", path, "s3cret1", log.logger())
		want := func(fact, password string, lines int) {
			t.Helper()
			cred := ask(t, creds, t.Context(), "https://a.example")
			if cred.Username != "me" || cred.Password != password {
				t.Errorf("%s: got %q", fact, cred.Password)
			}
			if n := log.lines(t); n != lines {
				t.Errorf("%s: %d lines are logged, want %d", fact, n, lines)
			}
		}
		want("at first", "s3cret1", 0)
		write(t, path, "s3cret2")
		want("it is not looked at each time", "s3cret1", 0)
		time.Sleep(follow.LookAgain)
		want("changed", "s3cret2", 1)
		write(t, path, "\n")
		for range 3 {
			time.Sleep(follow.LookAgain)
			creds(t.Context(), endpoint(t, "https://a.example"))
		}
		want("what is empty does not count, and is told once", "s3cret2", 1)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(follow.LookAgain)
		want("nor does what is gone", "s3cret2", 0)
		write(t, path, "s3cret3")
		time.Sleep(follow.LookAgain)
		want("until it is right again", "s3cret3", 1)
	})
}

func TestATokenFileIsAToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "s3cret\r\n")
	if cred := ask(t, TokenFile(path, "s3cret", slog.New(slog.DiscardHandler)), t.Context(), "https://a.example"); cred != (upstream.Credential{Token: "s3cret"}) {
		t.Errorf("got %#v", cred)
	}
}

func TestDockersConfigurationIsHonoured(t *testing.T) {
	auth := func(s string) string { return `{"auth":"` + base64.StdEncoding.EncodeToString([]byte(s)) + `"}` }
	login := func(user string) upstream.Credential { return upstream.Credential{Username: user, Password: "s3cret"} }
	for _, c := range []struct {
		fact, config, registry, endpoint string
		want                             upstream.Credential
	}{
		{"an auth of Docker Hub by its old name", `{"auths":{"https://index.docker.io/v1/":` + auth("hub:s3cret") + `}}`, "docker.io", "https://registry-1.docker.io", login("hub")},
		{"an auth of Docker Hub by its name", `{"auths":{"docker.io":` + auth("hub:s3cret") + `}}`, "docker.io", "https://registry-1.docker.io", login("hub")},
		{"an auth by host", `{"auths":{"quay.io":` + auth("me:s3cret") + `}}`, "quay.io", "https://quay.io", login("me")},
		{"an auth by address", `{"auths":{"https://Quay.io/v2/":` + auth("me:s3cret") + `}}`, "quay.io", "https://quay.io", login("me")},
		{"an auth by the host of the endpoint", `{"auths":{"10.0.0.1:5000":` + auth("me:s3cret") + `}}`, "registry.corp", "http://10.0.0.1:5000", login("me")},
		{"an auth by the name of the registry", `{"auths":{"registry.corp":` + auth("me:s3cret") + `}}`, "registry.corp", "http://10.0.0.1:5000", login("me")},
		{"a password with a colon, padded", `{"auths":{"quay.io":` + auth("me:s3:cret\x00\x00") + `}}`, "quay.io", "https://quay.io", upstream.Credential{Username: "me", Password: "s3:cret"}},
		{"a user and a password in the clear", `{"auths":{"quay.io":{"username":"me","password":"s3cret"}}}`, "quay.io", "https://quay.io", login("me")},
		{"an identity token", `{"auths":{"quay.io":{"auth":"MDA6","identitytoken":"s3cret"}}}`, "quay.io", "https://quay.io", upstream.Credential{IdentityToken: "s3cret"}},
		{"a registry token", `{"auths":{"quay.io":{"registrytoken":"s3cret"}}}`, "quay.io", "https://quay.io", upstream.Credential{Token: "s3cret"}},
		{"nothing of this registry", `{"auths":{"gcr.io":` + auth("me:s3cret") + `}}`, "quay.io", "https://quay.io", upstream.Credential{}},
		{"nothing", `{}`, "quay.io", "https://quay.io", upstream.Credential{}},
	} {
		t.Run(c.fact, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			write(t, path, c.config)
			creds := DockerConfig(path, registry(t, c.registry), slog.New(slog.DiscardHandler))
			if got := ask(t, creds, t.Context(), c.endpoint); got != c.want {
				t.Errorf("got %s %q %q", got, got.Username, got.Password)
			}
		})
	}
}

func TestABrokenConfigurationOfDockerRevealsNothing(t *testing.T) {
	for fact, text := range map[string]string{
		"no JSON":                `{"auths":{"quay.io":{"auth":"s3cret"`,
		"an auth that is none":   `{"auths":{"quay.io":{"auth":"s3cret"}}}`,
		"an auth without a user": `{"auths":{"quay.io":{"auth":"czNjcmV0"}}}`, // "s3cret"
		"a helper with a path":   `{"credsStore":"../s3cret"}`,
	} {
		t.Run(fact, func(t *testing.T) {
			var log journal
			path := filepath.Join(t.TempDir(), "config.json")
			write(t, path, text)
			_, err := DockerConfig(path, registry(t, "quay.io"), log.logger())(t.Context(), endpoint(t, "https://quay.io"))
			if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "czNjcmV0") {
				t.Errorf("got %v", err)
			}
			if log.lines(t) != 1 {
				t.Error("it is not logged")
			}
		})
	}
}

// program makes a credential helper that notes what it was asked and goes on with
// the lines of a shell script.
func program(t *testing.T, name, script string) (path string, asked func() []string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, name)
	write(t, path, "#!/bin/sh\nread server\necho \"$1 $server\" >> "+dir+"/asked\n"+script+"\n")
	return path, func() []string {
		b, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func TestAHelperIsAskedByItsProtocol(t *testing.T) {
	for _, c := range []struct {
		fact, script, registry string
		want                   upstream.Credential
		asked                  string
		fails                  bool
	}{
		{"a user", `echo '{"ServerURL":"x","Username":"AWS","Secret":"s3cret"}'`, "quay.io", upstream.Credential{Username: "AWS", Password: "s3cret"}, "get a.example", false},
		{"Docker Hub by its old name", `echo '{"Username":"me","Secret":"s3cret"}'`, "docker.io", upstream.Credential{Username: "me", Password: "s3cret"}, "get " + dockerHub, false},
		{"an identity token", `echo '{"Username":"<token>","Secret":"s3cret"}'`, "quay.io", upstream.Credential{IdentityToken: "s3cret"}, "get a.example", false},
		{"not found", "echo credentials not found in native keychain; exit 1", "quay.io", upstream.Credential{}, "get a.example", false},
		{"a failure", "echo s3cret; echo s3cret >&2; exit 3", "quay.io", upstream.Credential{}, "get a.example", true},
		{"no JSON", "echo s3cret", "quay.io", upstream.Credential{}, "get a.example", true},
		{"half an answer", `echo '{"Username":"s3cret"}'`, "quay.io", upstream.Credential{}, "get a.example", true},
		{"an answer without end", "head -c 1000000 /dev/zero", "quay.io", upstream.Credential{}, "get a.example", true},
	} {
		t.Run(c.fact, func(t *testing.T) {
			var log journal
			path, asked := program(t, "docker-credential-x", c.script)
			creds := Helper(path, registry(t, c.registry), log.logger())
			for range 3 {
				got, err := creds(t.Context(), endpoint(t, "https://a.example"))
				if got != c.want || (err != nil) != c.fails || err != nil && strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("got %s, %v", got, err)
				}
			}
			if list := asked(); len(list) != 1 || list[0] != c.asked {
				t.Errorf("asked %q", list)
			}
			if n := log.lines(t); (n == 1) != c.fails {
				t.Errorf("%d lines are logged", n)
			}
		})
	}
}

func TestAHelperThatHangsIsEndedWithWhatItStarted(t *testing.T) {
	path, _ := program(t, "docker-credential-x", "sleep 600 & sleep 600")
	h := newHelper(path, "a.example", slog.New(slog.DiscardHandler))
	h.timeout = 50 * time.Millisecond
	if _, err := h.get(t.Context()); err == nil {
		t.Error("it does not fail")
	}
}

func TestAHelperIsRunOnceForAllWhoWait(t *testing.T) {
	path, asked := program(t, "docker-credential-x", `echo '{"Username":"me","Secret":"s3cret"}'`)
	creds := Helper(path, registry(t, "quay.io"), slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if cred, err := creds(t.Context(), endpoint(t, "https://a.example")); err != nil || cred.Username != "me" {
				t.Errorf("got %s, %v", cred, err)
			}
		})
	}
	all.Wait()
	if list := asked(); len(list) != 1 {
		t.Errorf("asked %d times", len(list))
	}
}

func TestWhatAHelperSaidAgesAndIsRefused(t *testing.T) {
	path, asked := program(t, "docker-credential-x", `echo '{"Username":"me","Secret":"s3cret"}'`)
	h := newHelper(path, "a.example", slog.New(slog.DiscardHandler))
	refused := withRefused(t)
	step := func(fact string, ctx context.Context, age time.Duration, runs int) {
		t.Helper()
		h.asked = h.asked.Add(-age)
		if _, err := h.get(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(asked()); n != runs {
			t.Errorf("%s: %d runs, want %d", fact, n, runs)
		}
	}
	step("the first time", t.Context(), 0, 1)
	step("for minutes it is believed", t.Context(), answerFor-time.Minute, 1)
	step("then not", t.Context(), time.Minute, 2)
	step("what is refused at once is what it says now", refused, 0, 2)
	step("what is refused later is asked for anew", refused, leastAnswer, 3)
}

// withRefused returns a context as a registry's refusal makes it: of a registry
// that refuses everything.
func withRefused(t *testing.T) context.Context {
	t.Helper()
	refused := make(chan context.Context, 10)
	up, err := registrytest.Start(registrytest.Options{Behavior: registrytest.Behavior{Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic}}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	r, err := upstream.New(upstream.Options{
		Registry: registry(t, "quay.io"), Endpoints: []*url.URL{endpoint(t, up.URL())}, Transport: up.Transport(),
		Accounts: []upstream.Account{{Credentials: func(ctx context.Context, _ *url.URL) (upstream.Credential, error) {
			if upstream.Refused(ctx) {
				refused <- context.WithoutCancel(ctx)
			}
			return upstream.Credential{Username: "me", Password: "wrong"}, nil
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	repo, err := registry(t, "quay.io").Repository("a/b")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := oci.ParseTag("v1")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.ResolveTag(t.Context(), repo, tag); oci.CodeOf(err) != oci.CodeUnauthorized {
			t.Fatalf("got %v", err)
		}
	}
	if len(refused) == 0 {
		t.Fatal("the credentials were not told that they are refused")
	}
	return <-refused
}

// TestANewPasswordIsUsedAtOnce: for Basic authentication and for tokens, a refusal
// leads to what the file says now.
func TestANewPasswordIsUsedAtOnce(t *testing.T) {
	for _, scheme := range []registrytest.Scheme{registrytest.SchemeBasic, registrytest.SchemeBearer} {
		t.Run(string(scheme), func(t *testing.T) {
			behavior := func(password string) registrytest.Behavior {
				return registrytest.Behavior{
					Challenge: registrytest.Challenge{Scheme: scheme},
					Token:     registrytest.Token{Username: "me", Password: password, Private: []string{"*"}},
				}
			}
			up, err := registrytest.Start(registrytest.Options{Behavior: behavior("s3cret1")})
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			up.AddImage("a/b", "v1", registrytest.ImageSpec{Layers: []int64{100}})
			path := filepath.Join(t.TempDir(), "pw")
			write(t, path, "s3cret1")
			reg := registry(t, "quay.io")
			r, err := upstream.New(upstream.Options{
				Registry: reg, Endpoints: []*url.URL{endpoint(t, up.URL())}, Transport: up.Transport(),
				Accounts: []upstream.Account{{Credentials: PasswordFile("me", path, "s3cret1", slog.New(slog.DiscardHandler))}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			repo, _ := reg.Repository("a/b")
			tag, _ := oci.ParseTag("v1")
			if _, err := r.ResolveTag(t.Context(), repo, tag); err != nil {
				t.Fatal(err)
			}
			write(t, path, "s3cret2")
			up.SetBehavior(behavior("s3cret2"))
			up.ExpireTokens()
			if _, err := r.ResolveTag(t.Context(), repo, tag); err != nil {
				t.Errorf("with the new password: %v", err)
			}
		})
	}
}

func TestAnIdentityTokenIsPosted(t *testing.T) {
	up, err := registrytest.Start(registrytest.Options{Behavior: registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer},
		Token: registrytest.Token{
			Private: []string{"a/b", "a/c"},
			Users:   []registrytest.User{{Name: "me", Password: "x", IdentityToken: "s3cret", Repos: []string{"a/b"}}},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for _, name := range []string{"a/b", "a/c"} {
		up.AddImage(name, "v1", registrytest.ImageSpec{Layers: []int64{100}})
	}
	reg := registry(t, "quay.io")
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, fmt.Sprintf(`{"auths":{%q:{"identitytoken":"s3cret"}}}`, up.Host()))
	r, err := upstream.New(upstream.Options{
		Registry: reg, Endpoints: []*url.URL{endpoint(t, up.URL())}, Transport: up.Transport(),
		Accounts: []upstream.Account{{Credentials: DockerConfig(path, reg, slog.New(slog.DiscardHandler))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tag, _ := oci.ParseTag("v1")
	mine, _ := reg.Repository("a/b")
	other, _ := reg.Repository("a/c")
	if _, err := r.ResolveTag(t.Context(), mine, tag); err != nil {
		t.Errorf("mine: %v", err)
	}
	if _, err := r.ResolveTag(t.Context(), other, tag); !oci.IsUnknown(err) {
		t.Errorf("another's: %v", err)
	}
	if up.Count(registrytest.KindToken, http.MethodPost) != 2 || up.Count(registrytest.KindToken) != 2 || up.CountUser(registrytest.KindManifest, "me") != 2 {
		t.Errorf("asked %+v", up.Requests())
	}
}

func TestCredHelpersAndCredsStoreAreAsked(t *testing.T) {
	own, ownAsked := program(t, "docker-credential-own", `echo '{"Username":"own","Secret":"s3cret"}'`)
	all, allAsked := program(t, "docker-credential-all", "echo credentials not found in native keychain; exit 1")
	t.Setenv("PATH", filepath.Dir(own)+":"+filepath.Dir(all)+":"+os.Getenv("PATH"))
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, `{"credsStore":"all","credHelpers":{"quay.io":"own"},"auths":{"gcr.io":{"username":"file","password":"x"}}}`)
	for name, user := range map[string]string{"quay.io": "own", "gcr.io": "file", "ghcr.io": ""} {
		creds := DockerConfig(path, registry(t, name), slog.New(slog.DiscardHandler))
		if got := ask(t, creds, t.Context(), "https://"+name); got.Username != user {
			t.Errorf("%s: got %s", name, got)
		}
	}
	if len(ownAsked()) != 1 || len(allAsked()) != 2 {
		t.Errorf("asked %q and %q", ownAsked(), allAsked())
	}
}
