package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

const code = "abcdefghij0123456789"

// source is a person's without a file, with two registries.
func source(t *testing.T) Source {
	t.Helper()
	quay, err := oci.ParseRegistry("quay.io")
	if err != nil {
		t.Fatal(err)
	}
	return Source{
		Environ:   []string{"HOME=" + t.TempDir()},
		Upstreams: []mirror.Upstream{{Registry: oci.DockerHub, Hosts: []string{"docker"}}, {Registry: quay, Hosts: []string{"quay"}}},
		Aliases:   map[string]string{"old.quay.io": "quay.io"},
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func reference(t *testing.T, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"mirror.example.com":              "https://mirror.example.com",
		"https://mirror.example.com/":     "https://mirror.example.com",
		"HTTPS://Mirror.Example.com:8443": "https://mirror.example.com:8443",
		"http://10.0.0.1:5000":            "http://10.0.0.1:5000",
		"10.0.0.1:5000":                   "https://10.0.0.1:5000",
		"localhost:5000":                  "http://localhost:5000",
		"https://localhost:5000":          "https://localhost:5000",
		"mirror.localhost:5000":           "http://mirror.localhost:5000",
		"127.0.0.9:5000":                  "http://127.0.0.9:5000",
		"[::1]:5000":                      "http://[::1]:5000",
		"":                                "http://localhost:5000",
		"mirror":                          "",
		"mirror.example.com/docker.io":    "",
		"https://mirror.example.com/p":    "",
		"https://u:p@mirror.example.com":  "",
		"ftp://mirror.example.com":        "",
		"https://":                        "",
		"mirror example":                  "",
	} {
		s := source(t)
		s.Flags.Mirror = in
		m, err := Load(s)
		switch {
		case err != nil && want != "":
			t.Errorf("%q: %v", in, err)
		case err == nil && m.URL() != want:
			t.Errorf("%q: got %s, want %q", in, m.URL(), want)
		case err == nil && m.Assumed != (in == ""):
			t.Errorf("%q: assumed is %v", in, m.Assumed)
		}
	}
}

func TestAnAccessCodeIsPartOfNamesAndGone(t *testing.T) {
	s := source(t)
	s.Flags = Settings{Mirror: "mirror.example.com", CodeFile: write(t, "code", strings.ToUpper(code)+"\n")}
	m, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	name, err := m.Name(reference(t, "nginx:1"))
	if want := code + ".mirror.example.com/docker.io/library/nginx:1"; err != nil || name != want {
		t.Errorf("got %q, %v, want %q", name, err, want)
	}
	if m.URL() != "https://"+code+".mirror.example.com" {
		t.Errorf("the URL is %s", m.URL())
	}
	for _, name := range []string{name, "mirror.example.com/nginx:1", code + ".docker.mirror.example.com/library/nginx:1"} {
		back, err := m.Original(name)
		if err != nil || back.String() != "docker.io/library/nginx:1" {
			t.Errorf("%s is %v, %v", name, back, err)
		}
		if again, err := m.Name(reference(t, name)); err != nil || again != name {
			t.Errorf("%s was named %s, %v", name, again, err)
		}
	}
}

func TestRegistriesAreThoseThatImagesAreWrittenWith(t *testing.T) {
	s := source(t)
	s.Aliases["registry-1.docker.io"] = "docker.io"
	s.Aliases["quay.io/old"] = "quay.io/new"
	s.Aliases["gone.example"] = "nowhere.example"
	s.Flags.Registries = []string{"foo.example"}
	m, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.Registries()); got != "[docker.io foo.example old.quay.io quay.io]" {
		t.Errorf("got %s", got)
	}
}

func TestFamiliar(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io/library/nginx:1":       "nginx:1",
		"docker.io/me/app:1":              "me/app:1",
		"quay.io/library/nginx:1":         "quay.io/library/nginx:1",
		"docker.io/library/localhost/x:1": "docker.io/library/localhost/x:1",
		"docker.io/library/a.b/x:1":       "docker.io/library/a.b/x:1",
	} {
		if got := Familiar(reference(t, in)); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestFlagsWinOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	s := source(t)
	s.File = write(t, "client.yaml", "mirror: file.example.com\nstyle: host\nregistries: [foo.example]\n")
	for _, c := range []struct{ env, flag, want string }{
		{"", "", "docker.file.example.com/library/a:1"},
		{"env.example.com", "", "docker.env.example.com/library/a:1"},
		{"env.example.com", "flag.example.com", "docker.flag.example.com/library/a:1"},
	} {
		s.Environ = []string{"SAMPAN_MIRROR=" + c.env}
		s.Flags.Mirror = c.flag
		m, err := Load(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Name(reference(t, "a:1")); err != nil || got != c.want {
			t.Errorf("%+v: got %s, %v", c, got, err)
		}
		if _, err := m.Name(reference(t, "foo.example/a:1")); err != nil {
			t.Errorf("%+v: a registry of the file: %v", c, err)
		}
		if _, err := m.Name(reference(t, "bar.example/a:1")); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("%+v: a registry nobody knows: %v", c, err)
		}
	}
}

func TestSecretsAreReadFromFilesBesideThePersonsFile(t *testing.T) {
	ca := registrytest.StartTest(t, registrytest.Options{TLS: true}).CertPEM()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"client.yaml": "mirror: m.example.com\nca: ca.pem\nusername: ann\npassword_file: pass\ncode_file: code\n",
		"ca.pem":      string(ca), "pass": "secret \r\nnot this\n", "code": code,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := source(t)
	s.File = filepath.Join(dir, "client.yaml")
	m, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	if m.Username != "ann" || m.Password != "secret " || m.Code != code || string(m.CA) != string(ca) {
		t.Errorf("got %q, %q, %q and %d bytes of certificates", m.Username, m.Password, m.Code, len(m.CA))
	}
}

func TestMistakesAreTold(t *testing.T) {
	for fact, c := range map[string]struct {
		set  Settings
		file string
		says string
	}{
		"a style that is none":           {Settings{Style: "x"}, "", "path or host"},
		"a registry that is none":        {Settings{Registries: []string{"a/b"}}, "", "a/b"},
		"a name without a password":      {Settings{Username: "ann"}, "", "belong together"},
		"a password without a name":      {Settings{PasswordFile: "x"}, "", "belong together"},
		"a password that is not there":   {Settings{Username: "ann", PasswordFile: "/nowhere/x"}, "", "/nowhere/x"},
		"a code that is too short":       {Settings{CodeFile: write(t, "code", "short")}, "", "access code"},
		"a code that is no label":        {Settings{CodeFile: write(t, "code", strings.Repeat("a.", 10))}, "", "access code"},
		"certificates that are none":     {Settings{CA: write(t, "ca", "x")}, "", "certificate"},
		"a file with an unknown setting": {Settings{}, "mirrors: x", "[1:1]"},
		"a file that is no YAML":         {Settings{}, "mirror: [", "client.yaml"},
		"a file that is a list":          {Settings{}, "- mirror", "client.yaml"},
		"a file that is too large":       {Settings{}, strings.Repeat("#", maxFile+1), "too large"},
	} {
		t.Run(fact, func(t *testing.T) {
			s := source(t)
			s.Flags = c.set
			if c.file != "" {
				s.File = write(t, "client.yaml", c.file)
			}
			if m, err := Load(s); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, %v", m, err)
			}
		})
	}
}

func TestAFileOfNothingSaysNothing(t *testing.T) {
	s := source(t)
	s.File = write(t, "client.yaml", "# mirror: x\n")
	if m, err := Load(s); err != nil || !m.Assumed {
		t.Errorf("got %v, %v", m, err)
	}
}

// The person's file is read where it usually is, and may be missing there alone.
func TestTheUsualFile(t *testing.T) {
	home := t.TempDir()
	s := source(t)
	s.Environ = []string{"HOME=" + home}
	if m, err := Load(s); err != nil || !m.Assumed {
		t.Fatalf("got %v, %v", m, err)
	}
	dir := filepath.Join(home, ".config", "sampan")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.yaml"), []byte("mirror: home.example.com"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Load(s); err != nil || m.Address != "home.example.com" {
		t.Errorf("got %v, %v", m, err)
	}
	s.Environ = append(s.Environ, "SAMPAN_CLIENT_CONFIG=/nowhere/client.yaml")
	if m, err := Load(s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, %v", m, err)
	}
}
