package runtimes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"sampan/internal/runtimes/edit"
)

// A BuildKit is a buildkitd of this machine, or those that docker buildx makes.
type BuildKit struct{ buildx bool }

// Buildx is BuildKit in containers that docker buildx makes.
func Buildx() BuildKit { return BuildKit{buildx: true} }

// Name implements [Target].
func (b BuildKit) Name() string {
	if b.buildx {
		return "buildx"
	}
	return "buildkit"
}

// file is the configuration.
func (b BuildKit) file(m *Machine) string {
	switch {
	case b.buildx:
		return m.config("sampan/buildkitd.toml")
	case m.UID != 0:
		return m.config("buildkit/buildkitd.toml")
	default:
		return "/etc/buildkit/buildkitd.toml"
	}
}

// A buildkitRegistry is a [registry."…"] of a buildkitd.toml.
type buildkitRegistry struct {
	Mirrors []string `toml:"mirrors"`
	CA      []string `toml:"ca"`
}

// Detect implements [Target].
func (b BuildKit) Detect(ctx context.Context, m *Machine) (Found, error) {
	command := []string{"buildkitd", "--version"}
	if b.buildx {
		command = []string{"docker", "buildx", "version"}
	}
	f := Found{}
	out, err := m.Run(ctx, command[0], command[1:]...)
	f.Present = err == nil || !b.buildx && !errors.Is(err, exec.ErrNotFound)
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "v") && strings.Count(word, ".") >= 2 {
			f.Version = word
		}
	}
	before, err := m.Read(b.file(m))
	if err != nil || before == nil {
		return f, err
	}
	f.Files = []string{b.file(m)}
	var c struct {
		Registry map[string]buildkitRegistry `toml:"registry"`
	}
	if err := toml.Unmarshal(before, &c); err != nil {
		return f, unreadable(b.file(m), err)
	}
	for registry, t := range c.Registry {
		for _, mirror := range t.Mirrors {
			f.Mirrors = append(f.Mirrors, registry+" = "+mirror)
		}
	}
	slices.Sort(f.Mirrors)
	return f, nil
}

// Plan implements [Target].
func (b BuildKit) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	file := b.file(m)
	before, err := m.Read(file)
	if err != nil {
		return nil, err
	}
	var c struct {
		Registry map[string]buildkitRegistry `toml:"registry"`
	}
	if err := toml.Unmarshal(before, &c); err != nil {
		return nil, unreadable(file, err)
	}
	p := &Plan{}
	ca := path.Join(path.Dir(file), "sampan-ca.crt")
	first := func(old []string, element string) edit.List {
		if mirror.Replace {
			old = nil
		}
		return edit.Strings(slices.Insert(slices.DeleteFunc(old, func(o string) bool { return o == element }), 0, element)...)
	}
	var sets []edit.Set
	for _, registry := range mirror.registries() {
		sets = append(sets, edit.Set{Path: []string{"registry", registry, "mirrors"}, Value: first(c.Registry[registry].Mirrors, mirror.Host)})
	}
	switch {
	case mirror.PlainHTTP:
		sets = append(sets, edit.Set{Path: []string{"registry", mirror.Host, "http"}, Value: true})
	case len(mirror.CA) > 0:
		sets = append(sets, edit.Set{Path: []string{"registry", mirror.Host, "ca"}, Value: first(c.Registry[mirror.Host].CA, ca)})
	}
	after, err := edit.TOML(before, sets...)
	if err != nil {
		paste, _ := edit.TOML(nil, sets...) // into nothing, it cannot fail
		return nil, byHand(file, err, string(paste))
	}
	if err := p.add(m, file, after, mirror.secret()); err != nil {
		return nil, err
	}
	if err := p.addCA(m, &mirror, ca); err != nil {
		return nil, err
	}
	b.finish(m, p, file, &mirror)
	return p, nil
}

// finish says what follows the files.
func (b BuildKit) finish(m *Machine, p *Plan, file string, mirror *Mirror) {
	if mirror.NoFallback {
		p.Notes = append(p.Notes, Note{Text: Text{
			"BuildKit always asks the registry itself when the mirror does not answer, and cannot be told otherwise: write FROM " + mirror.Host + "/docker.io/… where that must not be",
			"镜像站没有应答时 BuildKit 总会访问原仓库，无法关闭：若不允许，请写 FROM " + mirror.Host + "/docker.io/…",
		}})
	}
	if mirror.Username != "" {
		p.Notes = append(p.Notes, Note{
			Text:  Text{"BuildKit has the login from whoever builds: each of them logs in once", "BuildKit 使用构建者自己的账号：每人登录一次"},
			Paste: "docker login --username " + mirror.Username + " " + mirror.Host,
		})
	}
	if b.buildx {
		p.Notes = append(p.Notes, mirror.notHere("a builder of docker buildx")...)
		p.Notes = append(p.Notes, Note{
			Text:  Text{"a builder has its settings from when it is made: make one with this file", "构建器的设置在创建时确定：请用此文件创建一个"},
			Paste: "docker buildx create --name sampan --driver docker-container --config " + file + " --use",
		})
		return
	}
	why := Text{"the file is read at the start alone; builds that are running end", "该文件只在启动时读取；正在进行的构建会中断"}
	switch {
	case m.UID == 0 && m.unit("buildkit"):
		p.After = []Step{{Command: []string{"systemctl", "restart", "buildkit"}, Interrupts: true, Why: why}}
	case m.UID == 0:
		p.Notes = append(p.Notes, Note{Text: Text{"restart buildkitd: " + why.English, "请重启 buildkitd：" + why.Chinese}})
	default:
		p.After = []Step{{Command: []string{"systemctl", "--user", "restart", "buildkit"}, Interrupts: true, Why: why}}
	}
	p.Proof = &Proof{
		Image: mirror.proofImage(), Registries: mirror.toProve(),
		Do:   func(ctx context.Context, image string) error { return b.build(ctx, m, image) },
		Undo: func(context.Context, string) error { return nil }, // its cache has no names
	}
}

// build has the daemon build from an image, and keeps nothing of it.
func (BuildKit) build(ctx context.Context, m *Machine, image string) error {
	dir, err := os.MkdirTemp("", "sampan-proof-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is temporary
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+image+"\n"), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	_, err = m.Run(ctx, "buildctl", "build", "--no-cache", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context="+dir, "--local", "dockerfile="+dir)
	if errors.Is(err, exec.ErrNotFound) {
		return ErrNoClient
	}
	return err
}
