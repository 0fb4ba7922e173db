package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sampan/internal/runtimes/edit"
)

// A Rancher is k3s or rke2.
type Rancher struct{ name string }

// K3s is k3s.
func K3s() Rancher { return Rancher{"k3s"} }

// RKE2 is rke2.
func RKE2() Rancher { return Rancher{"rke2"} }

// Name implements [Target].
func (r Rancher) Name() string { return r.name }

func (r Rancher) dir() string        { return "/etc/rancher/" + r.name }
func (r Rancher) registries() string { return path.Join(r.dir(), "registries.yaml") }

// rancherRegistries is what counts here of a registries.yaml.
type rancherRegistries struct {
	Mirrors map[string]struct {
		Endpoint []string          `yaml:"endpoint"`
		Rewrite  map[string]string `yaml:"rewrite"`
	} `yaml:"mirrors"`
}

// Detect implements [Target].
func (r Rancher) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{Present: m.Exists("/var/lib/rancher/" + r.name)}
	if m.Exists(r.registries()) {
		f.Files = append(f.Files, r.registries())
	}
	out, err := m.Run(ctx, r.name, "--version")
	if !errors.Is(err, exec.ErrNotFound) {
		f.Present = true
	}
	if _, rest, ok := strings.Cut(string(out), " version "); ok && err == nil {
		f.Version, _, _ = strings.Cut(rest, " ")
	}
	before, err := m.Read(r.registries())
	if err != nil {
		return f, err
	}
	var c rancherRegistries
	if err := yaml.Unmarshal(before, &c); err != nil {
		return f, unreadable(r.registries(), err)
	}
	for registry, m := range c.Mirrors {
		for _, e := range m.Endpoint {
			f.Mirrors = append(f.Mirrors, registry+" = "+e)
		}
	}
	slices.Sort(f.Mirrors)
	f.Closed = m.Exists(r.closed())
	return f, nil
}

// closed is the file that keeps the registries themselves from being asked.
func (r Rancher) closed() string { return path.Join(r.dir(), "config.yaml.d/50-sampan.yaml") }

// Plan implements [Target]. Each registry is named: with "*" newer versions of
// containerd do not fall back (k3s issue 11857).
func (r Rancher) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	before, err := m.Read(r.registries())
	if err != nil {
		return nil, err
	}
	var c rancherRegistries
	if err := yaml.Unmarshal(before, &c); err != nil {
		return nil, unreadable(r.registries(), err)
	}
	p := &Plan{}
	var sets []edit.Set
	for _, registry := range mirror.registries() {
		old, named := c.Mirrors[registry]
		if every := c.Mirrors["*"]; !named && len(every.Rewrite) == 0 {
			old = every // it no longer counts for what is named
		}
		if len(old.Rewrite) > 0 {
			p.Notes = append(p.Notes, Note{Text: Text{
				fmt.Sprintf("%s rewrites the names of %s, which would hold for the mirror too: it stays as it is", r.registries(), registry),
				fmt.Sprintf("%s 会改写 %s 的镜像名，对镜像站同样生效：保持不变", r.registries(), registry),
			}})
			continue
		}
		endpoints := []string{mirror.URL}
		if !mirror.NoFallback && !mirror.Replace {
			endpoints = append(endpoints, slices.DeleteFunc(slices.Clone(old.Endpoint), func(e string) bool { return strings.TrimSuffix(e, "/") == mirror.URL })...)
		}
		sets = append(sets, edit.Set{Path: []string{"mirrors", registry, "endpoint"}, Value: edit.Strings(endpoints...)})
	}
	ca := path.Join(r.dir(), "sampan-ca.crt")
	config := []string{"configs", mirror.Host}
	if len(mirror.CA) > 0 && !mirror.PlainHTTP {
		sets = append(sets, edit.Set{Path: append(slices.Clone(config), "tls", "ca_file"), Value: ca})
	}
	if mirror.Username != "" {
		sets = append(sets,
			edit.Set{Path: append(slices.Clone(config), "auth", "username"), Value: mirror.Username},
			edit.Set{Path: append(slices.Clone(config), "auth", "password"), Value: mirror.Password})
	}
	after, err := edit.YAML(before, sets...)
	if err != nil {
		return nil, byHand(r.registries(), err, pasteOf(sets))
	}
	if err := p.add(m, r.registries(), after, mirror.secret()); err != nil {
		return nil, err
	}
	if err := p.addCA(m, &mirror, ca); err != nil {
		return nil, err
	}
	if mirror.NoFallback {
		const says = "# Written by sampan setup: images come from the mirror or not at all.\ndisable-default-registry-endpoint: true\n"
		if err := p.add(m, r.closed(), []byte(says), false); err != nil {
			return nil, err
		}
	}
	if !mirror.NoFallback && m.Exists(r.closed()) {
		p.Notes = append(p.Notes, Note{Text: Text{
			r.closed() + " still keeps the registries themselves from being asked: remove it where that is not meant",
			r.closed() + " 仍然禁止直接访问原仓库：若不需要，请删除该文件",
		}})
	}
	r.finish(m, p, &mirror)
	return p, nil
}

// finish says what follows the files.
func (r Rancher) finish(m *Machine, p *Plan, mirror *Mirror) {
	p.Notes = append(p.Notes, Note{Text: Text{
		"the same has to be done on every node of the cluster", "集群的每个节点都要同样设置",
	}})
	units := []string{r.name, r.name + "-agent"}
	if r.name == "rke2" {
		units = []string{"rke2-server", "rke2-agent"}
	}
	for _, unit := range units {
		if m.unit(unit) {
			p.After = append(p.After, Step{Command: []string{"systemctl", "restart", unit}, Why: Text{
				"the file is read at the start alone; containers go on running, the API is away for some seconds",
				"该文件只在启动时读取；容器继续运行，API 会中断几秒",
			}})
		}
	}
	image := mirror.proofImage()
	crictl := []string{"k3s", "crictl"}
	if r.name == "rke2" {
		crictl = []string{"/var/lib/rancher/rke2/bin/crictl", "--config", "/var/lib/rancher/rke2/agent/etc/crictl.yaml"}
	}
	p.Proof = &Proof{
		Image: image, Registries: mirror.toProve(),
		Pull:   [][]string{append(slices.Clone(crictl), "pull", image)},
		Remove: [][]string{append(slices.Clone(crictl), "rmi", image)},
	}
}

// pasteOf is what a person may write by hand. Passwords are not shown.
func pasteOf(sets []edit.Set) string {
	var out []byte
	for _, s := range sets {
		if s.Path[len(s.Path)-1] == "password" {
			s.Value = "…"
		}
		next, err := edit.YAML(out, s)
		if err != nil {
			continue // it begins with nothing, and cannot fail
		}
		out = next
	}
	return string(out)
}
