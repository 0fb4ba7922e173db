package runtimes

import (
	"context"
	"errors"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"sampan/internal/oci"
	"sampan/internal/runtimes/edit"
)

// Containerd is containerd as Kubernetes uses it, 1.x and 2.x.
type Containerd struct{}

// Where containerd has its settings, and where it listens unless they say otherwise.
const (
	containerdFile   = "/etc/containerd/config.toml"
	containerdSocket = "/run/containerd/containerd.sock"
)

// Name implements [Target].
func (Containerd) Name() string { return "containerd" }

// Detect implements [Target].
func (Containerd) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{}
	out, err := m.Run(ctx, "containerd", "--version")
	f.Present = !errors.Is(err, exec.ErrNotFound)
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 2 {
		f.Version = strings.TrimPrefix(fields[2], "v") // "containerd NAME VERSION REVISION"
	}
	c, err := readContainerd(m)
	if err != nil {
		return f, err
	}
	if c.raw != nil {
		f.Files = []string{containerdFile}
	}
	dir := c.dir
	if dir == "" {
		dir = certsDir
	}
	f.Mirrors, f.Closed = append(c.oldMirrors(), hostsMirrors(m, dir)...), hostsClosed(m, dir)
	return f, nil
}

// containerdConf is what matters of a config.toml.
type containerdConf struct {
	raw      []byte // nil where there is none
	all      map[string]any
	version  int      // of the format; 0 where it does not say
	registry []string // path of the table
	dir      string   // config_path, the first of several; empty for none
	said     bool     // there is a config_path, which may be empty
}

func readContainerd(m *Machine) (*containerdConf, error) {
	raw, err := m.Read(containerdFile)
	if err != nil {
		return nil, err
	}
	c := &containerdConf{raw: raw, all: map[string]any{}}
	if err := toml.Unmarshal(raw, &c.all); err != nil {
		return nil, unreadable(containerdFile, err)
	}
	if v, ok := c.all["version"].(int64); ok {
		c.version = int(v)
	}
	switch {
	case c.version >= 3:
		c.registry = []string{"plugins", "io.containerd.cri.v1.images", "registry"}
	case c.version == 2:
		c.registry = []string{"plugins", "io.containerd.grpc.v1.cri", "registry"}
	default:
		c.registry = []string{"plugins", "cri", "registry"}
	}
	if v, ok := dig(c.all, append(slices.Clone(c.registry), "config_path")...).(string); ok {
		c.said = true
		if list := filepath.SplitList(v); len(list) > 0 {
			c.dir = list[0]
		}
	}
	return c, nil
}

// dig is what a path of tables leads to.
func dig(v any, path ...string) any {
	for _, name := range path {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[name]
	}
	return v
}

// disabled tells whether the part for Kubernetes is turned off, as Docker's packages
// have it.
func (c *containerdConf) disabled() bool {
	list, _ := c.all["disabled_plugins"].([]any)
	return slices.ContainsFunc(list, func(v any) bool {
		s, _ := v.(string)
		return s == "cri" || strings.HasPrefix(s, "io.containerd.grpc.v1.cri")
	})
}

// oldMirrors tells of the deprecated tables.
func (c *containerdConf) oldMirrors() []string {
	var found []string
	tables, _ := dig(c.all, append(slices.Clone(c.registry), "mirrors")...).(map[string]any)
	for registry := range tables {
		for _, endpoint := range c.endpoints(registry) {
			found = append(found, registry+" = "+endpoint)
		}
	}
	slices.Sort(found)
	return found
}

func (c *containerdConf) endpoints(registry string) []string {
	list, _ := dig(c.all, append(slices.Clone(c.registry), "mirrors", registry, "endpoint")...).([]any)
	var endpoints []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			endpoints = append(endpoints, s)
		}
	}
	return endpoints
}

// Plan implements [Target].
func (t Containerd) Plan(_ context.Context, m *Machine, f Found, mirror Mirror) (*Plan, error) {
	c, err := readContainerd(m)
	if err != nil {
		return nil, err
	}
	if len(c.oldMirrors()) > 0 && !mirror.Replace {
		return nil, t.deprecated(c)
	}
	p := &Plan{}
	// The present versions look there by themselves where nothing is said, and without
	// the part for Kubernetes nobody does.
	if c.dir == "" && c.disabled() || c.dir == "" && !c.said && len(c.oldMirrors()) == 0 && atLeast(f.Version, 2, 2) {
		c.dir = certsDir
	} else if c.dir == "" {
		c.dir = certsDir
		if err := p.addConfigPath(m, c, f); err != nil {
			return nil, err
		}
	}
	if err := p.addHostsHere(m, &mirror, c.dir); err != nil {
		return nil, err
	}
	t.finish(m, c, p, &mirror)
	return p, nil
}

// addConfigPath has containerd read the directory.
func (p *Plan) addConfigPath(m *Machine, c *containerdConf, f Found) error {
	var sets []edit.Set
	registry, version := c.registry, c.version
	if dig(c.all, "plugins") == nil && dig(c.all, "version") == nil && dig(c.all, "disabled_plugins") == nil {
		// Nothing in it depends on the format: take that of the program.
		version = 2
		registry = []string{"plugins", "io.containerd.grpc.v1.cri", "registry"}
		if f.Version == "" || atLeast(f.Version, 2, 0) {
			version = 3
			registry = []string{"plugins", "io.containerd.cri.v1.images", "registry"}
		}
		sets = append(sets, edit.Set{Path: []string{"version"}, Value: version})
	}
	sets = append(sets, edit.Set{Path: append(slices.Clone(registry), "config_path"), Value: c.dir})
	if version >= 3 {
		sets = append(sets, edit.Set{Path: []string{"plugins", "io.containerd.transfer.v1.local", "config_path"}, Value: c.dir})
	}
	after, err := edit.WithoutTOML(c.raw, append(slices.Clone(c.registry), "mirrors")...)
	if err == nil {
		after, err = edit.TOML(after, sets...)
	}
	if unsafe := (*edit.UnsafeError)(nil); errors.As(err, &unsafe) {
		return byHand(containerdFile, err, "["+strings.Join(quoted(registry), ".")+"]\n  config_path = \""+c.dir+"\"")
	} else if err != nil {
		return unreadable(containerdFile, err)
	}
	return p.add(m, containerdFile, after, false)
}

// quoted are the parts of the name of a table.
func quoted(path []string) []string {
	out := slices.Clone(path)
	for i, part := range out {
		if strings.Contains(part, ".") {
			out[i] = strconv.Quote(part)
		}
	}
	return out
}

// deprecated is the refusal of a file whose mirrors are written the old way: containerd
// refuses both together.
func (Containerd) deprecated(c *containerdConf) error {
	table := strings.Join(quoted(append(slices.Clone(c.registry), "mirrors")), ".")
	var instead strings.Builder
	for _, line := range c.oldMirrors() {
		registry, endpoint, _ := strings.Cut(line, " = ")
		if registry == "*" {
			registry = everyRegistry
		}
		instead.WriteString("  " + path.Join(certsDir, registry, "hosts.toml") + ":  [host.\"" + endpoint + "\"]\n")
	}
	return &Refusal{Text: Text{
		containerdFile + " has mirrors in the deprecated tables [" + table + "], which containerd does not take together with the directories that sampan writes. Move them, then run this again: delete these tables, and write\n" + instead.String() + "Or run it with --replace, which deletes the tables; --undo brings them back.",
		containerdFile + " 在已弃用的表 [" + table + "] 中设置了镜像站，containerd 不允许它们与 sampan 写入的目录并存。请先迁移再运行：删除这些表，并写入\n" + instead.String() + "或使用 --replace 运行，它会删除这些表；--undo 可以恢复。",
	}}
}

// finish says what follows the files.
func (Containerd) finish(m *Machine, c *containerdConf, p *Plan, mirror *Mirror) {
	step := Step{For: []string{containerdFile}, Why: Text{
		"containerd reads " + containerdFile + " when it starts: restart it; containers go on, and pulls that are under way end",
		"containerd 只在启动时读取 " + containerdFile + "：需要重启；容器继续运行，正在进行的拉取会中断",
	}}
	if m.Exists("/run/systemd/system") {
		step.Command = []string{"systemctl", "restart", "containerd"}
	}
	p.After = []Step{step}
	socket, _ := dig(c.all, "grpc", "address").(string)
	if s, ok := dig(c.all, "plugins", "io.containerd.server.v1.grpc", "address").(string); ok {
		socket = s
	}
	if socket == "" {
		socket = containerdSocket
	}
	p.Proof = &Proof{
		Image:      "registry.k8s.io/pause:3.10",
		Registries: mirror.toProve(),
		Do:         func(ctx context.Context, image string) error { return criPull(ctx, m.Path(socket), image) },
		Undo:       func(ctx context.Context, image string) error { return criRemove(ctx, m.Path(socket), image) },
	}
	disabled, _ := c.all["disabled_plugins"].([]any)
	if slices.ContainsFunc(disabled, func(v any) bool {
		s, _ := v.(string)
		return s == "cri" || strings.HasPrefix(s, "io.containerd.grpc.v1.cri")
	}) {
		image := mirror.proofImage()
		p.Proof.Do, p.Proof.Undo, p.Proof.Image = nil, nil, image
		p.Proof.Pull = [][]string{{"ctr", "-a", socket, "images", "pull", "--hosts-dir", c.dir, image}}
		p.Proof.Remove = [][]string{{"ctr", "-a", socket, "images", "rm", image}}
		p.Notes = append(p.Notes, Note{Text: Text{
			containerdFile + " turns the part for Kubernetes off (disabled_plugins): ctr reads the directories with --hosts-dir " + c.dir + ", nerdctl by itself",
			containerdFile + " 关闭了 Kubernetes 所用的部分（disabled_plugins）：ctr 需加 --hosts-dir " + c.dir + "，nerdctl 会自动读取",
		}})
	}
}

// atLeast tells whether a version is one or a later one. What is no version is none.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	is, err := strconv.Atoi(strings.TrimPrefix(parts[0], "v"))
	if err != nil {
		return false
	}
	sub, err := strconv.Atoi(parts[1])
	return err == nil && (is > major || is == major && sub >= minor)
}

// toProve are those of the mirror's registries that are pulled from for the proof: a
// few that everybody knows.
func (m *Mirror) toProve() []oci.Registry {
	var prove []oci.Registry
	for _, name := range []string{"docker.io", "registry.k8s.io", "quay.io", "ghcr.io", "gcr.io"} {
		if i := slices.IndexFunc(m.Registries, func(r oci.Registry) bool { return r.String() == name }); i >= 0 {
			prove = append(prove, m.Registries[i])
		}
	}
	if len(prove) == 0 {
		prove = append(prove, oci.DockerHub)
	}
	return prove
}
