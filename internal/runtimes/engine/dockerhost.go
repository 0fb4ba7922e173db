package engine

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
)

// dockerContext is what `docker context` keeps of an engine.
type dockerContext struct {
	Name      string
	Endpoints map[string]struct {
		Host          string
		SkipTLSVerify bool
	}
}

const dockerDefault = "default"

// An endpoint is where a Docker engine may be.
type endpoint struct {
	host string      // URL
	tls  *tls.Config // nil without
	said bool        // a person named it, so that nothing else is meant
}

// dockerEndpoints are where Docker may be, as the docker command looks: DOCKER_HOST,
// then DOCKER_CONTEXT, then the context in use, then the usual sockets.
func dockerEndpoints(getenv func(string) string) ([]endpoint, error) {
	if host := getenv("DOCKER_HOST"); host != "" {
		e := endpoint{host: host, said: true}
		var err error
		if getenv("DOCKER_TLS_VERIFY") != "" || getenv("DOCKER_TLS") != "" {
			e.tls, err = dockerTLS(dockerCertificates(getenv), getenv("DOCKER_TLS_VERIFY") == "")
		}
		return []endpoint{e}, err
	}
	name, err := dockerContextName(getenv)
	if err != nil {
		return nil, err
	}
	if name != dockerDefault {
		e, err := loadDockerContext(dockerConfigDir(getenv), name)
		return []endpoint{e}, err
	}
	var list []endpoint
	for _, socket := range dockerSockets(getenv) {
		if info, err := os.Stat(socket); err == nil && info.Mode()&fs.ModeSocket != 0 {
			list = append(list, endpoint{host: "unix://" + socket})
		}
	}
	if len(list) == 0 && client.DefaultDockerHost != "unix:///var/run/docker.sock" {
		list = append(list, endpoint{host: client.DefaultDockerHost}) // a named pipe
	}
	return list, nil
}

// dockerSockets are the usual ones: of the machine, without root, of Docker Desktop,
// Colima, OrbStack and Rancher Desktop.
func dockerSockets(getenv func(string) string) []string {
	list := []string{"/var/run/docker.sock"}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, filepath.Join(dir, "docker.sock"))
	}
	if home := getenv("HOME"); home != "" {
		for _, s := range []string{
			".docker/run/docker.sock", ".docker/desktop/docker.sock", ".colima/default/docker.sock",
			".orbstack/run/docker.sock", ".rd/docker.sock",
		} {
			list = append(list, filepath.Join(home, s))
		}
	}
	return list
}

func dockerConfigDir(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".docker")
	}
	return ""
}

func dockerCertificates(getenv func(string) string) string {
	if dir := getenv("DOCKER_CERT_PATH"); dir != "" {
		return dir
	}
	return dockerConfigDir(getenv)
}

// dockerContextName is the name of the context in use.
func dockerContextName(getenv func(string) string) (string, error) {
	if name := getenv("DOCKER_CONTEXT"); name != "" {
		return name, nil
	}
	dir := dockerConfigDir(getenv)
	if dir == "" {
		return dockerDefault, nil
	}
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return dockerDefault, nil
	}
	if err != nil {
		return "", err
	}
	var c struct {
		CurrentContext string `json:"currentContext"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if c.CurrentContext == "" {
		return dockerDefault, nil
	}
	return c.CurrentContext, nil
}

// errNoContext is the error of a context that does not exist.
var errNoContext = errors.New("there is no such Docker context")

// loadDockerContext reads a context as the docker command stores it: below a folder
// that is named by the digest of its name.
func loadDockerContext(dir, name string) (endpoint, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	raw, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{}, fmt.Errorf("%w: %s", errNoContext, name)
	}
	if err != nil {
		return endpoint{}, err
	}
	var c dockerContext
	if err := json.Unmarshal(raw, &c); err != nil {
		return endpoint{}, fmt.Errorf("the Docker context %s: %w", name, err)
	}
	meta, ok := c.Endpoints["docker"]
	if !ok || meta.Host == "" {
		return endpoint{}, fmt.Errorf("the Docker context %s names no engine", name)
	}
	e := endpoint{host: meta.Host, said: true}
	files := filepath.Join(dir, "contexts", "tls", id, "docker")
	if _, err := os.Stat(files); err == nil || meta.SkipTLSVerify {
		if e.tls, err = dockerTLS(files, meta.SkipTLSVerify); err != nil {
			return endpoint{}, fmt.Errorf("the Docker context %s: %w", name, err)
		}
	}
	return e, nil
}

// dockerTLS reads ca.pem, cert.pem and key.pem, each where it is there.
func dockerTLS(dir string, skip bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip} //nolint:gosec // as the person's own settings of Docker say
	if raw, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err == nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate", filepath.Join(dir, "ca.pem"))
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// connect makes a client of the engine at an endpoint, and asks it for its version.
func connect(ctx context.Context, e endpoint) (*dockerEngine, error) {
	failed := func(hint Hint, err error) (*dockerEngine, error) {
		return nil, &Error{Step: StepReach, Kind: Docker, Address: e.host, Hint: hint, Err: err}
	}
	if strings.HasPrefix(e.host, "ssh://") {
		return failed(HintSSH, errors.New("an address of the form ssh:// is not supported"))
	}
	opts := []client.Opt{client.WithUserAgent("sampan")}
	if e.tls != nil {
		opts = append(opts, client.WithHTTPClient(&http.Client{
			Transport:     &http.Transport{TLSClientConfig: e.tls},
			CheckRedirect: client.CheckRedirect,
		}), client.WithScheme("https"))
	}
	api, err := client.New(append(opts, client.WithHost(e.host))...)
	if err != nil {
		return failed("", err)
	}
	v, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		_ = api.Close()
		if errors.Is(err, fs.ErrPermission) {
			return failed(HintPermission, err)
		}
		return failed("", err)
	}
	d := &dockerEngine{api: api, address: e.host, kind: Docker}
	for _, c := range v.Components {
		if strings.HasPrefix(c.Name, "Podman") {
			d.kind = Podman
		}
	}
	return d, nil
}
