// Command parsers reads files that sampan setup writes with the types and the parsers
// of the programs that they are for, and prints what these understood, as JSON.
//
//	parsers PROGRAM FILE
//
// It is a module of its own, so that none of these programs becomes part of sampan. It
// checks nothing but what the programs' own parsers refuse.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	hosts "github.com/containerd/containerd/v2/core/remotes/docker/config"
	buildkit "github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/pelletier/go-toml/v2"
	"github.com/rancher/wharfie/pkg/registries"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"go.yaml.in/yaml/v3"
	kind "sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "parsers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: parsers PROGRAM FILE")
	}
	understood, err := parse(args[0], args[1])
	if err != nil {
		return err
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(understood)
}

// understood is what a program made of a file.
type understood struct {
	// Mirrors are where a registry's images come from, in order.
	Mirrors map[string][]string `json:"mirrors,omitempty"`
	// Closed are the registries that are not asked themselves.
	Closed []string `json:"closed,omitempty"`
	// Logins are "user:password" by host, and CAs certificates or their file.
	Logins map[string]string `json:"logins,omitempty"`
	CAs    map[string]string `json:"cas,omitempty"`
	// Plain are hosts that are spoken to without TLS.
	Plain []string `json:"plain,omitempty"`
	// Mounts are directories of the machine, by where a node has them.
	Mounts map[string]string `json:"mounts,omitempty"`
}

func parse(program, file string) (*understood, error) {
	u := &understood{Mirrors: map[string][]string{}, Logins: map[string]string{}, CAs: map[string]string{}, Mounts: map[string]string{}}
	switch program {
	case "k3s", "rke2":
		return u, u.k3s(file)
	case "buildkit", "buildx":
		return u, u.buildkit(file)
	case "kind":
		return u, u.kind(file)
	case "talos":
		return u, u.talos(file)
	case "containerd":
		return u, u.containerd(file)
	default:
		return nil, fmt.Errorf("%s: no parser", program)
	}
}

// k3s is what k3s and rke2 read.
func (u *understood) k3s(file string) error {
	r, err := registries.GetPrivateRegistries(file)
	if err != nil {
		return err
	}
	for name, m := range r.Registry.Mirrors {
		u.Mirrors[name] = m.Endpoints
	}
	for host, c := range r.Registry.Configs {
		if c.Auth != nil {
			u.Logins[host] = c.Auth.Username + ":" + c.Auth.Password
		}
		if c.TLS != nil {
			u.CAs[host] = c.TLS.CAFile
		}
	}
	return nil
}

func (u *understood) buildkit(file string) error {
	c, err := buildkit.LoadFile(file)
	if err != nil {
		return err
	}
	for name, r := range c.Registries {
		if len(r.Mirrors) > 0 {
			u.Mirrors[name] = r.Mirrors
		}
		if len(r.RootCAs) > 0 {
			u.CAs[name] = r.RootCAs[0]
		}
		if r.PlainHTTP != nil && *r.PlainHTTP {
			u.Plain = append(u.Plain, name)
		}
	}
	return nil
}

// kind is what kind reads: strictly, as it does.
func (u *understood) kind(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var c kind.Cluster
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		for _, m := range n.ExtraMounts {
			u.Mounts[m.ContainerPath] = m.HostPath
		}
	}
	for _, patch := range c.ContainerdConfigPatches {
		var content map[string]any
		if err := toml.Unmarshal([]byte(patch), &content); err != nil {
			return err
		}
	}
	return nil
}

// talos is a patch, which is a machine's configuration with most of it left out.
func (u *understood) talos(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c, err := configloader.NewFromBytes(raw)
	if err != nil {
		return err
	}
	for name, m := range c.RegistryMirrorConfigs() {
		for _, e := range m.Endpoints() {
			u.Mirrors[name] = append(u.Mirrors[name], e.Endpoint())
		}
		if m.SkipFallback() {
			u.Closed = append(u.Closed, name)
		}
	}
	for host, a := range c.RegistryAuthConfigs() {
		u.Logins[host] = a.Username() + ":" + a.Password()
	}
	for host, t := range c.RegistryTLSConfigs() {
		u.CAs[host] = string(t.CA())
	}
	slices.Sort(u.Closed)
	return nil
}

// containerd is a directory of hosts, DIR/REGISTRY/hosts.toml.
func (u *understood) containerd(file string) error {
	registry := filepath.Base(filepath.Dir(file))
	root := filepath.Dir(filepath.Dir(file))
	found, err := hosts.ConfigureHosts(context.Background(), hosts.HostOptions{HostDir: hosts.HostDirFromRoot(root)})(registry)
	if err != nil {
		return err
	}
	for _, h := range found {
		u.Mirrors[registry] = append(u.Mirrors[registry], h.Scheme+"://"+h.Host)
		if a := h.Header.Get("Authorization"); a != "" {
			u.Logins[h.Host] = a
		}
	}
	return nil
}
