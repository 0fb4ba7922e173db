package credential

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"

	"sampan/internal/follow"
	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// The errors of parsing config.json repeat nothing of it: it holds secrets.
var (
	errNotJSON = errors.New("it is not a config.json of Docker")
	errBadAuth = errors.New("an auth in it cannot be decoded")
)

// DockerConfig is what a config.json of Docker says about a registry: auths with
// auth, identitytoken or registrytoken, credHelpers, and credsStore. A registry
// that it does not mention is asked anonymously.
func DockerConfig(path string, registry oci.Registry, log *slog.Logger) upstream.Credentials {
	d := &dockerConfig{
		registry: registry,
		file:     follow.New(path, log, parseConfig),
		log:      log,
		helpers:  make(map[string]*helper),
	}
	return d.get
}

type dockerConfig struct {
	registry oci.Registry
	file     *follow.File[config]
	log      *slog.Logger

	mu      sync.Mutex
	helpers map[string]*helper // by program and server
}

// config is what is read of a config.json.
type config struct {
	auths   map[string]upstream.Credential // by host
	store   string
	helpers map[string]string // by host
}

func (d *dockerConfig) get(ctx context.Context, endpoint *url.URL) (upstream.Credential, error) {
	c, err := d.file.Get(upstream.Refused(ctx))
	if err != nil {
		return upstream.Credential{}, fmt.Errorf("credentials: %w", err)
	}
	hosts := []string{endpoint.Host, d.registry.String()}
	if d.registry == oci.DockerHub {
		hosts = []string{"index.docker.io", "docker.io", "registry-1.docker.io", endpoint.Host}
	}
	program := c.store
	for _, host := range hosts {
		if own := c.helpers[host]; own != "" {
			program = own
			break
		}
	}
	if program != "" {
		cred, err := d.helper("docker-credential-"+program, endpoint).get(ctx)
		if err != nil || !cred.IsZero() {
			return cred, err
		}
	}
	for _, host := range hosts {
		if cred := c.auths[host]; !cred.IsZero() {
			return cred, nil
		}
	}
	return upstream.Credential{}, nil
}

func (d *dockerConfig) helper(program string, endpoint *url.URL) *helper {
	server := serverOf(d.registry, endpoint)
	key := program + " " + server
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.helpers[key]
	if h == nil {
		h = newHelper(program, server, d.log)
		d.helpers[key] = h
	}
	return h
}

func parseConfig(b []byte) (config, error) {
	var doc struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if json.Unmarshal(b, &doc) != nil {
		return config{}, errNotJSON
	}
	c := config{auths: make(map[string]upstream.Credential), store: doc.CredsStore, helpers: make(map[string]string)}
	for server, a := range doc.Auths {
		cred := upstream.Credential{Username: a.Username, Password: a.Password}
		if a.Auth != "" {
			user, password, err := decodeAuth(a.Auth)
			if err != nil {
				return config{}, err
			}
			cred = upstream.Credential{Username: user, Password: password}
		}
		switch {
		case a.RegistryToken != "":
			cred = upstream.Credential{Token: a.RegistryToken}
		case a.IdentityToken != "":
			cred = upstream.Credential{IdentityToken: a.IdentityToken}
		}
		c.auths[hostOf(server)] = cred
	}
	for server, program := range doc.CredHelpers {
		c.helpers[hostOf(server)] = program
	}
	if strings.ContainsRune(c.store, '/') {
		return config{}, errNotJSON
	}
	for _, program := range c.helpers {
		if strings.ContainsRune(program, '/') {
			return config{}, errNotJSON
		}
	}
	return c, nil
}

// decodeAuth reads what "docker login" writes. Some writers end it with zero
// bytes.
func decodeAuth(s string) (user, password string, err error) {
	b, err := base64.StdEncoding.DecodeString(s)
	user, password, found := strings.Cut(string(b), ":")
	if err != nil || !found || user == "" {
		return "", "", errBadAuth
	}
	return user, strings.TrimRight(password, "\x00"), nil
}

// hostOf is the host and port of a key of auths: "quay.io", "https://quay.io",
// "https://index.docker.io/v1/".
func hostOf(server string) string {
	if _, rest, found := strings.Cut(server, "://"); found {
		server = rest
	}
	host, _, _ := strings.Cut(server, "/")
	return strings.ToLower(host)
}
