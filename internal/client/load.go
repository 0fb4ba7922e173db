package client

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// Settings are what a person may say of the mirror, in the file and by flags. An
// empty one was not said.
type Settings struct {
	Mirror       string   `yaml:"mirror"`        // its address, or a URL of that
	Style        string   `yaml:"style"`         // "path" (default) or "host"
	Registries   []string `yaml:"registries"`    // served beside the built-in ones; "*" is every public one
	CA           string   `yaml:"ca"`            // file with certificates, PEM
	Username     string   `yaml:"username"`      // together with PasswordFile
	PasswordFile string   `yaml:"password_file"` // its first line
	CodeFile     string   `yaml:"code_file"`     // its first line
}

// A Source is where a mirror comes from.
type Source struct {
	// Flags win over the environment, and that over the file.
	Flags Settings
	// File is the person's file and must exist. Empty means SAMPAN_CLIENT_CONFIG, and
	// then sampan/client.yaml in $XDG_CONFIG_HOME or ~/.config, which may be missing.
	File string
	// Environ is the environment, "KEY=value" each; an empty value counts as not set.
	//
	//	SAMPAN_CLIENT_CONFIG   the file
	//	SAMPAN_MIRROR          mirror
	//	SAMPAN_STYLE           style
	//	SAMPAN_CA              ca
	//	SAMPAN_USERNAME        username
	//	SAMPAN_PASSWORD_FILE   password_file
	//	SAMPAN_CODE_FILE       code_file
	Environ []string
	// Upstreams and Aliases are those that every mirror has.
	Upstreams []mirror.Upstream
	Aliases   map[string]string
	// Text chooses the language of errors; nil means English.
	Text func(english, chinese string) string
}

const (
	maxFile   = 64 << 10 // of the person's file and of secrets, in bytes
	maxCAFile = 1 << 20  // in bytes
)

// Load finds the mirror. Errors are a person's mistakes, and say where.
func Load(s Source) (*Mirror, error) {
	if s.Text == nil {
		s.Text = func(english, _ string) string { return english }
	}
	file, err := s.file()
	if err != nil {
		return nil, err
	}
	set := s.merged(file)
	m := &Mirror{Assumed: set.Mirror == ""}
	if m.Address, m.PlainHTTP, err = parseAddress(cmp.Or(set.Mirror, DefaultAddress)); err != nil {
		return nil, fmt.Errorf(s.Text(
			"%q is no address of a mirror: write mirror.example.com, localhost:5000, or https://mirror.example.com (--mirror, SAMPAN_MIRROR, or mirror: in %s)",
			"%q 不是镜像站地址：应形如 mirror.example.com、localhost:5000 或 https://mirror.example.com（--mirror、SAMPAN_MIRROR，或 %s 中的 mirror:）"),
			set.Mirror, s.path())
	}
	switch set.Style {
	case "", "path":
	case "host":
		m.Style = mirror.HostStyle
	default:
		return nil, fmt.Errorf(s.Text("the style is path or host, not %q", "style 应为 path 或 host，而不是 %q"), set.Style)
	}
	if m.names, err = s.names(m.Address, set.Registries); err != nil {
		return nil, err
	}
	return m, s.secrets(m, set)
}

// names makes the translation. The mirror itself may know more registries; what it is
// not known to serve is not named.
func (s Source) names(address string, more []string) (*mirror.Names, error) {
	o := mirror.Options{Aliases: s.Aliases, Upstreams: s.Upstreams[:len(s.Upstreams):len(s.Upstreams)]}
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
		o.Domain = host
	}
	for _, name := range more {
		if name == "*" {
			o.Open = true
			continue
		}
		r, err := oci.ParseRegistry(name)
		if err != nil {
			return nil, fmt.Errorf(s.Text("registries: %q is not the name of a registry", "registries：%q 不是仓库域名"), name)
		}
		if !served(o.Upstreams, r) {
			o.Upstreams = append(o.Upstreams, mirror.Upstream{Registry: r})
		}
	}
	return mirror.New(o)
}

func served(list []mirror.Upstream, r oci.Registry) bool {
	for _, u := range list {
		if u.Registry == r {
			return true
		}
	}
	return false
}

// merged are the settings in effect.
func (s Source) merged(file Settings) Settings {
	f := s.Flags
	return Settings{
		Mirror:       cmp.Or(f.Mirror, s.getenv("SAMPAN_MIRROR"), file.Mirror),
		Style:        cmp.Or(f.Style, s.getenv("SAMPAN_STYLE"), file.Style),
		Registries:   append(file.Registries, f.Registries...),
		CA:           cmp.Or(f.CA, s.getenv("SAMPAN_CA"), file.CA),
		Username:     cmp.Or(f.Username, s.getenv("SAMPAN_USERNAME"), file.Username),
		PasswordFile: cmp.Or(f.PasswordFile, s.getenv("SAMPAN_PASSWORD_FILE"), file.PasswordFile),
		CodeFile:     cmp.Or(f.CodeFile, s.getenv("SAMPAN_CODE_FILE"), file.CodeFile),
	}
}

// path is where the person's file is, or would be.
func (s Source) path() string {
	if p := cmp.Or(s.File, s.getenv("SAMPAN_CLIENT_CONFIG")); p != "" {
		return p
	}
	dir := s.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home := s.getenv("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "sampan", "client.yaml")
}

// file reads the person's file. Paths in it are relative to where it is.
func (s Source) file() (Settings, error) {
	var set Settings
	path := s.path()
	if path == "" {
		return set, nil
	}
	raw, err := read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) && s.File == "" && s.getenv("SAMPAN_CLIENT_CONFIG") == "" {
		return set, nil
	}
	if err != nil {
		return set, err
	}
	err = yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&set)
	if err != nil && !errors.Is(err, io.EOF) { // an empty file says nothing
		return set, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, true))
	}
	for _, p := range []*string{&set.CA, &set.PasswordFile, &set.CodeFile} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return set, nil
}

// secrets reads the files that are named.
func (s Source) secrets(m *Mirror, set Settings) error {
	if (set.Username == "") != (set.PasswordFile == "") {
		return errors.New(s.Text("username and password_file (--username, --password-file) belong together", "username 与 password_file（--username、--password-file）须同时给出"))
	}
	var err error
	if m.Username = set.Username; set.PasswordFile != "" {
		if m.Password, err = secret(set.PasswordFile); err != nil {
			return err
		}
	}
	if set.CodeFile != "" {
		if m.Code, err = secret(set.CodeFile); err != nil {
			return err
		}
		if m.Code = strings.ToLower(m.Code); !validCode(m.Code) {
			return fmt.Errorf(s.Text("%s does not hold an access code", "%s 中不是访问码"), set.CodeFile)
		}
	}
	if set.CA != "" {
		if m.CA, err = read(set.CA, maxCAFile); err != nil {
			return err
		}
		if block, _ := pem.Decode(m.CA); block == nil || block.Type != "CERTIFICATE" {
			return fmt.Errorf(s.Text("%s does not hold a certificate in PEM", "%s 中没有 PEM 格式的证书"), set.CA)
		}
	}
	return nil
}

// validCode tells whether a word can be an access code: one label of a host name, of
// a length that nobody guesses.
func validCode(code string) bool {
	const shortest, longest = 16, 63
	if len(code) < shortest || len(code) > longest || code[0] == '-' || code[len(code)-1] == '-' {
		return false
	}
	return strings.Trim(code, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// secret is the first line of a file.
func secret(path string) (string, error) {
	raw, err := read(path, maxFile)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// read reads a file of at most so many bytes.
func read(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > most:
		return nil, fmt.Errorf("%s: %w", path, ErrTooLarge)
	}
	return raw, nil
}

// ErrTooLarge is the error of a file that is larger than what it is for can be.
var ErrTooLarge = errors.New("the file is too large")

func (s Source) getenv(name string) string {
	for i := len(s.Environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(s.Environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// Variables are the names of the environment that Load reads.
func Variables() []string {
	return []string{
		"SAMPAN_CLIENT_CONFIG", "SAMPAN_MIRROR", "SAMPAN_STYLE", "SAMPAN_CA",
		"SAMPAN_USERNAME", "SAMPAN_PASSWORD_FILE", "SAMPAN_CODE_FILE",
	}
}
