package app_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/registrytest"
)

// Whatever is asked and whatever goes wrong, no secret of the configuration and none
// of a client is told: not in the log at its most talkative, not in answers, metrics,
// the configuration that is shown, or what has changed of it.
func TestNoSecretIsToldAnywhere(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.DockerHub()})
	layer := up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{1 << 10}}).Layers[0][0].Digest
	dir := t.TempDir()
	var secrets []string
	secret := func(name string) string {
		s := "s3cret-" + name + "-0123456789abcdef"
		secrets = append(secrets, s)
		return s
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := func(i int) string {
		return fmt.Sprintf(`listen: 127.0.0.1:0
domain: mirror.test
admin: {listen: "127.0.0.1:0"}
data: {dir: %s}
log: {audit: %s}
token_key_file: %s
users: [{name: ann, password: %q}, {name: ci, password_file: %s}]
codes: [{name: team, code: %q}, {name: filed, code_file: %s}]
access: [{action: allow, users: ["*"], codes: ["*"]}]
upstreams:
  up.test: {endpoints: [{url: %q}], accounts: [{username: robot, password: %q}, {username: filed, password_file: %s}], egress: {proxy: direct}}
  down.test: {endpoints: [{url: "http://127.0.0.1:1"}], token: %q, public: true, egress: {proxy: "http://somebody:%s@127.0.0.1:1"}}
  pass.test: {endpoints: [{url: %q}], pass_through: true, hosts: [pass]}
`, filepath.Join(dir, "data"), filepath.Join(dir, "audit.log"), file("key", strings.Repeat(secret("key"), 2)),
			secret(fmt.Sprint("user", i)), file(fmt.Sprint("ci", i), secret(fmt.Sprint("ci", i))),
			secret(fmt.Sprint("code", i)), file(fmt.Sprint("code", i), secret(fmt.Sprint("codefile", i))),
			up.URL(), secret(fmt.Sprint("account", i)), file(fmt.Sprint("account", i), secret(fmt.Sprint("accountfile", i))),
			secret(fmt.Sprint("token", i)), secret(fmt.Sprint("proxy", i)), up.URL())
	}
	var log lockedBuffer
	path := file("sampan.yaml", text(0))
	load := func() (*config.Config, error) {
		return config.Load(config.Source{File: path, Environ: []string{"HOME=" + dir}})
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(app.Options{
		Config: c, Load: load, Log: slog.New(app.LogHandler("text", &log, slog.LevelDebug)), Access: slog.New(app.AccessHandler("text", &log)), Stderr: &log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	m := &mirror{app: a, stop: stop, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{}}}
	go func() { m.ended <- a.Run(ctx) }()
	t.Cleanup(func() { m.end(t) })

	var told strings.Builder
	ask := func(base, host, path, auth string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		resp, err := m.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)        // what comes is looked at
		if !strings.HasPrefix(path, "/token") { // a token is for who asked for it
			told.Write(body)
		}
		return resp.StatusCode
	}
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	clientSecret := secret("client")
	codeHost := secrets[3] + ".mirror.test" // of code 0
	statuses := make(map[int]bool)
	for round := range 2 {
		for _, auth := range []string{"", basic("ann", secrets[1]), basic("ann", clientSecret), basic("stranger", clientSecret), "Bearer " + clientSecret, "Basic " + clientSecret} {
			for _, host := range []string{"mirror.test", codeHost, "pass.mirror.test", clientSecret + ".mirror.test", clientSecret + "." + codeHost} {
				for _, p := range []string{
					"/v2/", "/token", "/v2/up.test/team/app/manifests/1", "/v2/up.test/team/none/manifests/1", "/v2/down.test/x/y/manifests/1",
					"/v2/pass.test/team/app/manifests/1", "/v2/team/app/manifests/1", "/v2/nope.test/x/y/manifests/1", "/x",
					"/v2/up.test/team/app/blobs/" + layer.String(), "/v2/pass.test/team/app/blobs/" + layer.String(), // where the registry redirects to is signed
				} {
					statuses[ask(a.Addr(), host, p, auth)] = true
				}
			}
		}
		for _, p := range []string{"/metrics", "/api/v1/upstreams", "/api/v1/fills", "/api/v1/explain?image=up.test/team/app:1", "/api/v1/explain?image=down.test/x:1"} {
			if status := ask(a.AdminAddr(), "", p, ""); status != http.StatusOK {
				t.Errorf("%s: %d", p, status)
			}
		}
		file("sampan.yaml", text(round+1))
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		c, err := load()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Show(&told); err != nil {
			t.Fatal(err)
		}
	}
	file("sampan.yaml", text(9)+"nonsense: true\nusers: {a: "+secret("wrong")+"}\ncodes: "+secret("wrongcode")+"\n")
	if err := a.Reload(); err == nil {
		t.Error("nonsense is accepted")
	} else {
		told.WriteString(err.Error())
	}
	for _, want := range []int{200, 401, 403, 404, 429, 503} {
		if !statuses[want] {
			t.Errorf("nothing was answered with %d: %v", want, statuses)
		}
	}
	if n := up.BytesSentOf(layer); n == 0 {
		t.Error("no redirect was followed")
	}
	m.end(t)
	audit, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	if err != nil || len(audit) == 0 {
		t.Errorf("audit log: %v", err)
	}
	for where, all := range map[string]string{"an answer": told.String(), "the log": log.take(), "the audit log": string(audit)} {
		for _, s := range secrets {
			for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte("ann:" + s))} {
				if i := strings.Index(all, form); i >= 0 {
					t.Errorf("%s tells %s: …%s…", where, s, all[max(0, i-150):min(len(all), i+60)])
					break
				}
			}
		}
		for _, mark := range []string{"verify=", "sig=", "X-Amz-Signature", "Bearer ey"} {
			if i := strings.Index(all, mark); i >= 0 {
				t.Errorf("%s has %s: …%s…", where, mark, all[max(0, i-150):min(len(all), i+60)])
			}
		}
	}
}
