package runtimes

import (
	"context"
	"errors"
	"os/exec"
	"path"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Nerdctl is the command nerdctl, which reads the directories of hosts by itself.
type Nerdctl struct{}

// Name implements [Target].
func (Nerdctl) Name() string { return "nerdctl" }

// Detect implements [Target].
func (n Nerdctl) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{Rootless: m.UID != 0}
	out, err := m.Run(ctx, "nerdctl", "--version")
	f.Present = !errors.Is(err, exec.ErrNotFound)
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 0 {
		f.Version = fields[len(fields)-1] // "nerdctl version 2.0.0"
	}
	dir, err := n.dir(m)
	f.Mirrors, f.Closed = hostsMirrors(m, dir), hostsClosed(m, dir)
	return f, err
}

// dir is the first of the directories that it looks into.
func (Nerdctl) dir(m *Machine) (string, error) {
	dir, file := certsDir, "/etc/nerdctl/nerdctl.toml"
	if m.UID != 0 {
		dir, file = m.config("containerd/certs.d"), m.config("nerdctl/nerdctl.toml")
	}
	raw, err := m.Read(file)
	if err != nil {
		return "", err
	}
	var c struct {
		Dirs []string `toml:"hosts_dir"`
	}
	if err := toml.Unmarshal(raw, &c); err != nil {
		return "", unreadable(file, err)
	}
	if len(c.Dirs) > 0 && path.IsAbs(c.Dirs[0]) {
		dir = c.Dirs[0]
	}
	return dir, nil
}

// Plan implements [Target].
func (n Nerdctl) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	dir, err := n.dir(m)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	if err := p.addHostsHere(m, &mirror, dir); err != nil {
		return nil, err
	}
	image := mirror.proofImage()
	p.Proof = &Proof{
		Image:      image,
		Registries: mirror.toProve(),
		Pull:       [][]string{{"nerdctl", "pull", "--quiet", image}},
		Remove:     [][]string{{"nerdctl", "rmi", image}},
	}
	return p, nil
}
