package runtimes

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"sampan/internal/oci"
)

// registries are those of the mirror, by name; Docker Hub where it names none.
func (m *Mirror) registries() []string {
	var names []string
	for _, r := range m.Registries {
		if r.String() != "*" {
			names = append(names, r.String())
		}
	}
	if len(names) == 0 {
		return []string{oci.DockerHub.String()}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// secret tells whether what names the mirror must not be read by others.
func (m *Mirror) secret() bool { return m.Username != "" || m.Code != "" }

// proofImage is a small image of a registry of the mirror.
func (m *Mirror) proofImage() string {
	if slices.Contains(m.registries(), "registry.k8s.io") {
		return "registry.k8s.io/pause:3.10"
	}
	return "docker.io/library/hello-world:latest"
}

// loopback tells whether only this machine reaches the mirror: what runs in a virtual
// machine or a container of its own does not.
func (m *Mirror) loopback() bool { return oci.Loopback(m.Host) }

// notHere is the note for runtimes whose nodes do not reach a mirror on loopback.
func (m *Mirror) notHere(what string) []Note {
	if !m.loopback() {
		return nil
	}
	return []Note{{Text: Text{
		fmt.Sprintf("%s runs in a place of its own, where %s is another machine: give the mirror an address that is reachable from there", what, m.Host),
		fmt.Sprintf("%s 运行在独立的环境中，那里的 %s 指向另一台机器：请给镜像站一个从那里可以访问的地址", what, m.Host),
	}}}
}

// file is a change of one file, from what is there.
func (m *Machine) file(path string, after []byte) (File, error) {
	before, err := m.Read(path)
	return File{Path: path, Before: before, After: after, Mode: 0o644}, err
}

// files puts the changes together; a plan that cannot be read is none.
func (p *Plan) add(m *Machine, path string, after []byte, secret bool) error {
	f, err := m.file(path, after)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if f.Secret = secret; secret {
		f.Mode = 0o600
	}
	p.Files = append(p.Files, f)
	return nil
}

// addCA writes the mirror's certificates where a runtime looks for them.
func (p *Plan) addCA(m *Machine, mirror *Mirror, path string) error {
	if len(mirror.CA) == 0 || mirror.PlainHTTP {
		return nil
	}
	return p.add(m, path, mirror.CA, false)
}

// config is the person's directory for settings of one program.
func (m *Machine) config(below string) string {
	base := m.Getenv("XDG_CONFIG_HOME")
	if !path.IsAbs(base) {
		base = path.Join(m.Home, ".config")
	}
	return path.Join(base, below)
}

// unreadable is the refusal of a file that does not parse.
func unreadable(file string, err error) *Refusal {
	return &Refusal{Err: err, Text: Text{
		fmt.Sprintf("%s cannot be read: %v; mend it first", file, err),
		fmt.Sprintf("无法读取 %s：%v；请先修复该文件", file, err),
	}}
}

// byHand is the refusal of a file that cannot be changed safely, with what a person
// may write there.
func byHand(file string, err error, paste string) *Refusal {
	return &Refusal{Err: err, Text: Text{
		fmt.Sprintf("%s cannot be changed safely: %v. Write there yourself:\n%s", file, err, paste),
		fmt.Sprintf("无法安全地修改 %s：%v。请自行写入：\n%s", file, err, paste),
	}}
}

// hostsFile is the hosts.toml of one registry for containerd. A mirror's certificates
// are at ca on the node.
func hostsFile(registry string, m *Mirror, ca string) []byte {
	server := origin(registry)
	if m.NoFallback {
		server = m.URL
	}
	return []byte(fmt.Sprintf("server = %q\n\n%s", server, hostTable(m, ca)))
}

// hostTable is the mirror in a hosts.toml.
func hostTable(m *Mirror, ca string) string {
	dial := m.DialTimeout
	if dial <= 0 {
		dial = DefaultDialTimeout
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = %q\n", m.URL, dial)
	if len(m.CA) > 0 && !m.PlainHTTP {
		fmt.Fprintf(&b, "  ca = %q\n", ca)
	}
	if m.Username != "" {
		fmt.Fprintf(&b, "\n[host.%q.header]\n  Authorization = %q\n", m.URL, "Basic "+m.basic())
	}
	return b.String()
}

// unit tells whether systemd has a service by a name.
func (m *Machine) unit(name string) bool {
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if m.Exists(path.Join(dir, name+".service")) {
			return true
		}
	}
	return false
}
