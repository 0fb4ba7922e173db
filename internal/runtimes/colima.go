package runtimes

import (
	"context"
	"errors"
	"os/exec"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"sampan/internal/runtimes/edit"
)

// Colima is Docker in a virtual machine of colima.
type Colima struct{}

// Name implements [Target].
func (Colima) Name() string { return "colima" }

// file is the settings of the profile in use.
func (Colima) file(m *Machine) string {
	home := m.Getenv("COLIMA_HOME")
	if home == "" {
		if home = path.Join(m.Home, ".colima"); !m.Exists(home) && m.Exists(m.config("colima")) {
			home = m.config("colima")
		}
	}
	profile := m.Getenv("COLIMA_PROFILE")
	if profile == "" {
		profile = "default"
	}
	return path.Join(home, profile, "colima.yaml")
}

// Detect implements [Target].
func (c Colima) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{}
	out, err := m.Run(ctx, "colima", "version")
	f.Present = !errors.Is(err, exec.ErrNotFound)
	if fields := strings.Fields(string(out)); err == nil && len(fields) > 2 {
		f.Version = strings.TrimPrefix(fields[2], "v") // "colima version 0.8.1"
	}
	if m.Exists(c.file(m)) {
		f.Files = []string{c.file(m)}
	}
	return f, nil
}

// Plan implements [Target].
func (c Colima) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	if err := virtual(&mirror, "colima"); err != nil {
		return nil, err
	}
	file := c.file(m)
	before, err := m.Read(file)
	switch {
	case err != nil:
		return nil, err
	case before == nil:
		return nil, &Refusal{Text: Text{
			file + " is not there: run colima start once, then this again",
			file + " 不存在：请先运行一次 colima start，再运行本命令",
		}}
	}
	had, insecure, err := colimaSettings(before)
	if err != nil {
		return nil, unreadable(file, err)
	}
	sets := []edit.Set{{Path: []string{"docker", "registry-mirrors"}, Value: inFront(had, mirror.URL, mirror.Replace)}}
	if mirror.PlainHTTP && !mirror.loopback() {
		sets = append(sets, edit.Set{Path: []string{"docker", "insecure-registries"}, Value: inFront(insecure, mirror.Host, false)})
	}
	after, err := edit.YAML(before, sets...)
	if unsafe := (*edit.UnsafeError)(nil); errors.As(err, &unsafe) {
		return nil, byHand(file, err, "docker:\n  registry-mirrors:\n    - "+mirror.URL)
	} else if err != nil {
		return nil, unreadable(file, err)
	}
	p := &Plan{Notes: append(mirror.notHere("colima"), classicNotes(&mirror)...), Proof: dockerProof()}
	if err := p.add(m, file, after, mirror.Code != ""); err != nil {
		return nil, err
	}
	p.After = []Step{{Command: []string{"colima", "restart"}, Interrupts: true, For: []string{file}, Why: Text{
		"colima reads the file when it starts; its containers stop", "colima 只在启动时读取该文件；其中的容器会停止",
	}}}
	return p, p.addCA(m, &mirror, path.Join(m.Home, ".docker/certs.d", mirror.Host, "ca.crt"))
}

// colimaSettings are the mirrors and the insecure registries in a colima.yaml.
func colimaSettings(raw []byte) (mirrors, insecure []string, err error) {
	var c struct {
		Docker struct {
			Mirrors  []string `yaml:"registry-mirrors"`
			Insecure []string `yaml:"insecure-registries"`
		} `yaml:"docker"`
	}
	err = yaml.Unmarshal(raw, &c)
	return c.Docker.Mirrors, c.Docker.Insecure, err
}
