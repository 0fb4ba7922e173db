package config

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"sampan/internal/oci"
)

// Default returns the configuration of a process that was told nothing but its
// environment, "KEY=value" each, from which the data directory follows. It is
// empty where neither XDG_DATA_HOME nor HOME is set and the user is not root.
func Default(environ []string) *Config {
	return &Config{
		Listen:  []string{"127.0.0.1:5000"},
		TLS:     TLS{HSTS: Duration(180 * 24 * time.Hour), HTTP2: true},
		Limits:  Limits{Connections: 20_000, ConnectionsPerClient: 5_000, MinRate: 8 << 10},
		Admin:   Admin{Listen: "127.0.0.1:5001"},
		Data:    Data{Dir: dataDir(environment(environ), os.Geteuid()), SoftSize: Bound{Percent: 95}, Scrub: Scrub{Rate: 20 << 20}},
		Default: oci.DockerHub,
		Page:    true,
		Tags:    defaultTags(),
		Fetch: Fetch{
			Lines: 16, LinesPerUpstream: 64, LinesTotal: 256,
			Stall: Duration(30 * time.Second), Prefetch: true,
		},
		Shutdown:  Shutdown{Grace: Duration(30 * time.Second)},
		Tracing:   Tracing{Sample: 1},
		Log:       Log{Level: "info", Format: "text", Access: true},
		Upstreams: builtinUpstreams(),
		Aliases:   builtinAliases(),
	}
}

func dataDir(env map[string]string, uid int) string {
	switch {
	case filepath.IsAbs(env["XDG_DATA_HOME"]):
		return filepath.Join(env["XDG_DATA_HOME"], "sampan")
	case uid == 0:
		return "/var/lib/sampan"
	case env["HOME"] != "":
		return filepath.Join(env["HOME"], ".local", "share", "sampan")
	default:
		return ""
	}
}

// builtinUpstreams are the public registries, by name.
func builtinUpstreams() []Upstream {
	var list []Upstream
	for _, b := range []struct{ name, label, endpoint string }{
		{"docker.elastic.co", "elastic", ""},
		{"docker.io", "docker", "https://registry-1.docker.io"},
		{"gcr.io", "gcr", ""},
		{"ghcr.io", "ghcr", ""},
		{"mcr.microsoft.com", "mcr", ""},
		{"nvcr.io", "nvcr", ""},
		{"public.ecr.aws", "ecr", ""},
		{"quay.io", "quay", ""},
		{"registry.gitlab.com", "gitlab", ""},
		{"registry.k8s.io", "k8s", ""},
	} {
		r, err := oci.ParseRegistry(b.name)
		if err != nil {
			panic(fmt.Sprintf("config: built-in upstream: %v", err))
		}
		u := newUpstream(r)
		u.Hosts = []string{b.label}
		if b.endpoint != "" {
			u.Endpoints[0].URL, _ = url.Parse(b.endpoint)
		}
		list = append(list, u)
	}
	return list
}

// newUpstream is a registry of which nothing is known but the name.
func newUpstream(r oci.Registry) Upstream {
	return Upstream{Registry: r, Endpoints: []Endpoint{ownEndpoint(r)}, RateLimitWait: DefaultRateLimitWait}
}

// ownEndpoint is https at the registry's own name.
func ownEndpoint(r oci.Registry) Endpoint {
	return Endpoint{URL: &url.URL{Scheme: "https", Host: r.String()}}
}

// builtinAliases are the other names of public registries.
func builtinAliases() map[string]string {
	return map[string]string{
		"k8s.gcr.io":               "registry.k8s.io",
		"gcr.io/google_containers": "gcr.io/google-containers",
		"index.docker.io":          "docker.io",
		"registry-1.docker.io":     "docker.io",
	}
}
