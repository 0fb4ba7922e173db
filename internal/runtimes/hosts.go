package runtimes

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"sampan/internal/oci"
	"sampan/internal/runtimes/edit"
)

// addHostsHere writes a hosts.toml for each registry into a directory that a runtime of
// this machine reads; what is there is kept, behind the mirror. The certificates go to
// where the runtime also finds them for names at the mirror.
func (p *Plan) addHostsHere(m *Machine, mirror *Mirror, dir string) error {
	ca := path.Join(dir, mirror.Host, "ca.crt")
	for _, registry := range mirror.registries() {
		if err := p.addHost(m, mirror, dir, registry, ca); err != nil {
			return err
		}
	}
	if mirror.Every {
		if err := p.addHost(m, mirror, dir, everyRegistry, ca); err != nil {
			return err
		}
	}
	if rest := path.Join(dir, everyRegistry, "hosts.toml"); !mirror.Every && m.Exists(rest) {
		p.Notes = append(p.Notes, Note{Text: Text{
			rest + " stays, and counts for registries that the mirror is not known to serve; --registry \"*\" says that it serves all",
			rest + " 保持不变，用于已知由镜像站提供的仓库之外的仓库；若镜像站提供所有仓库，请使用 --registry \"*\"",
		}})
	}
	return p.addCA(m, mirror, ca)
}

// everyRegistry is the directory for the registries that have none of their own.
const everyRegistry = "_default"

func (p *Plan) addHost(m *Machine, mirror *Mirror, dir, registry, ca string) error {
	file := path.Join(dir, registry, "hosts.toml")
	before, err := m.Read(file)
	if err != nil {
		return err
	}
	after, err := mergedHosts(before, registry, mirror, ca)
	if unsafe := (*edit.UnsafeError)(nil); errors.As(err, &unsafe) || errors.Is(err, errByHand) {
		return byHand(file, err, hostTable(mirror, ca))
	} else if err != nil {
		return unreadable(file, err)
	}
	return p.add(m, file, after, mirror.secret())
}

// mergedHosts is a hosts.toml with the mirror in front of the hosts that it has.
func mergedHosts(before []byte, registry string, mirror *Mirror, ca string) ([]byte, error) {
	fresh := hostsFile(registry, mirror, ca)
	if registry == everyRegistry {
		fresh = []byte(hostTable(mirror, ca))
		if mirror.NoFallback {
			fresh = fmt.Appendf(nil, "server = %q\n\n%s", mirror.URL, fresh)
		}
	}
	if before == nil || mirror.Replace {
		return fresh, nil
	}
	var all map[string]any
	if err := toml.Unmarshal(before, &all); err != nil {
		return nil, err
	}
	hosts, _ := all["host"].(map[string]any)
	server, _ := all["server"].(string)
	_, ours := hosts[mirror.URL]
	if ours && len(hosts) == 1 && (server == "" || server == mirror.URL || server == origin(registry)) && len(all) <= 2 {
		return fresh, nil // a setup wrote it
	}
	after, err := edit.WithoutTOML(before, "host", mirror.URL)
	if err == nil && mirror.NoFallback {
		if _, there := hosts[origin(registry)]; there {
			after, err = edit.WithoutTOML(after, "host", origin(registry))
		}
	}
	if err == nil && mirror.NoFallback {
		after, err = edit.TOML(after, edit.Set{Path: []string{"server"}, Value: mirror.URL})
	}
	if err != nil {
		return nil, err
	}
	return withHost(after, hostTable(mirror, ca))
}

// origin is where a registry is when nobody is in between.
func origin(registry string) string {
	switch registry {
	case everyRegistry:
		return ""
	case oci.DockerHub.String():
		return "https://registry-1.docker.io"
	}
	return "https://" + registry
}

// hostsMirrors tells who is asked for each registry that a directory has settings of.
func hostsMirrors(m *Machine, dir string) []string {
	var found []string
	for _, registry := range m.dirs(dir) {
		raw, err := m.Read(path.Join(dir, registry, "hosts.toml"))
		if err != nil || raw == nil {
			continue // a runtime passes over it too
		}
		var all struct {
			Host map[string]any `toml:"host"`
		}
		if toml.Unmarshal(raw, &all) != nil {
			continue
		}
		for host := range all.Host {
			found = append(found, registry+" = "+host)
		}
	}
	slices.Sort(found)
	return found
}

// hostsClosed tells whether each registry that a directory has settings of ends at one
// of its mirrors, so that it is never asked itself.
func hostsClosed(m *Machine, dir string) bool {
	some := false
	for _, registry := range m.dirs(dir) {
		raw, err := m.Read(path.Join(dir, registry, "hosts.toml"))
		var all struct {
			Server string         `toml:"server"`
			Host   map[string]any `toml:"host"`
		}
		if err != nil || raw == nil || toml.Unmarshal(raw, &all) != nil || len(all.Host) == 0 {
			continue
		}
		if _, mirror := all.Host[all.Server]; !mirror {
			return false
		}
		some = true
	}
	return some
}
