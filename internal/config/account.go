package config

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// An Account is one of those that the mirror may be to a registry: a user name
// with a password, a token, what Docker's configuration says, or what a
// credential helper says.
type Account struct {
	// Username and Password are sent to the registry's token service, or to the
	// registry itself where it wants Basic authentication.
	Username string
	Password Secret
	// PasswordFile is where Password was read from, when it was.
	PasswordFile string
	// Token is sent as a bearer token.
	Token Secret
	// TokenFile is where Token was read from, when it was.
	TokenFile string
	// DockerConfig is a config.json of Docker.
	DockerConfig string
	// Helper is a program that speaks the protocol of Docker's credential helpers:
	// an absolute path, or a name on the PATH.
	Helper string
}

// IsZero tells whether a is nobody.
func (a Account) IsZero() bool { return a == Account{} }

// Name tells accounts apart without telling a secret.
func (a Account) Name() string {
	switch {
	case a.Username != "":
		return a.Username
	case a.DockerConfig != "":
		return a.DockerConfig
	case a.Helper != "":
		return a.Helper
	case a.TokenFile != "":
		return a.TokenFile
	default:
		return "token"
	}
}

// readAccounts reads a list of accounts, which is not nil.
func (d *decoder) readAccounts(n node) []Account {
	list := []Account{}
	for _, item := range d.list(n) {
		if a, ok := d.readAccount(item); ok {
			list = append(list, a)
		}
	}
	return list
}

func (d *decoder) readAccount(n node) (a Account, ok bool) {
	before := len(d.problems)
	written := make(map[string]place)
	note := func(key string, read func(node)) func(node) {
		return func(n node) { written[key] = n.at; read(n) }
	}
	d.fields(n, map[string]func(node){
		"username":      note("username", d.readText(&a.Username)),
		"password":      note("password", func(n node) { a.Password = d.readSecret(n) }),
		"password_file": note("password_file", func(n node) { a.PasswordFile, a.Password = d.readSecretFile(n, a.Password) }),
		"token":         note("token", func(n node) { a.Token = d.readSecret(n) }),
		"token_file":    note("token_file", func(n node) { a.TokenFile, a.Token = d.readSecretFile(n, a.Token) }),
		"docker_config": note("docker_config", func(n node) { a.DockerConfig = d.readDockerConfig(n) }),
		"helper":        note("helper", func(n node) { a.Helper = d.readHelper(n) }),
	})
	has := func(key string) bool { _, ok := written[key]; return ok }
	for _, pair := range [][2]string{{"password", "password_file"}, {"token", "token_file"}} {
		if has(pair[0]) && has(pair[1]) {
			d.complain(written[pair[1]], complainf(msgTwoSecrets, pair[0], pair[1]))
		}
	}
	password, token := has("password") || has("password_file"), has("token") || has("token_file")
	kinds := 0
	for _, is := range []bool{has("username") || password, token, has("docker_config"), has("helper")} {
		if is {
			kinds++
		}
	}
	switch {
	case len(d.problems) > before: // one thing at a time
	case has("username") != password || has("username") && a.Username == "":
		d.complain(n.at, complainf(msgHalfLogin))
	case kinds != 1:
		d.complain(n.at, complainf(msgOneAccount))
	}
	return a, len(d.problems) == before
}

func (d *decoder) readText(to *string) func(node) {
	return func(n node) {
		if s, _, ok := d.scalar(n); ok {
			*to = s
		}
	}
}

// readDockerConfig checks that there is one; what is in it is read when it is
// needed.
func (d *decoder) readDockerConfig(n node) string {
	name, _, ok := d.scalar(n)
	if !ok {
		return ""
	}
	text, err := readBounded(name, MaxFileSize)
	var doc map[string]any
	switch {
	case err != nil:
		d.complain(n.at, complainf(msgUnreadable, err))
	case json.Unmarshal(text, &doc) != nil:
		d.complain(n.at, complainf(msgBadDockerConfig, name))
	}
	return name
}

func (d *decoder) readHelper(n node) string {
	name, _, ok := d.scalar(n)
	if !ok {
		return ""
	}
	_, err := exec.LookPath(name)
	if err != nil || strings.ContainsRune(name, '/') && !filepath.IsAbs(name) {
		d.complain(n.at, complainf(msgBadHelper, name))
	}
	return name
}

// show is the account as the file has it.
func (a Account) show() yaml.MapSlice {
	m := yaml.MapSlice{}
	add := func(key, value string) {
		if value != "" {
			m = append(m, yaml.MapItem{Key: key, Value: value})
		}
	}
	secret := func(key, file string, s Secret) {
		switch {
		case file != "":
			add(key+"_file", escape(file))
		case s.source != "":
			add(key, s.source)
		default:
			add(key, s.String())
		}
	}
	add("username", escape(a.Username))
	secret("password", a.PasswordFile, a.Password)
	secret("token", a.TokenFile, a.Token)
	add("docker_config", escape(a.DockerConfig))
	add("helper", escape(a.Helper))
	return m
}

func showAccounts(list []Account) []yaml.MapSlice {
	shown := make([]yaml.MapSlice, len(list))
	for i, a := range list {
		shown[i] = a.show()
	}
	return shown
}
