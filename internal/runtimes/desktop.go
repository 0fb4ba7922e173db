package runtimes

import (
	"context"
	"encoding/json"
	"path"
)

// desktop is the kind of a Docker that is Docker Desktop's.
const desktop = "desktop"

// DockerDesktop is Docker in a virtual machine, with its settings in the person's
// directory.
type DockerDesktop struct{}

// Name implements [Target].
func (DockerDesktop) Name() string { return "docker-desktop" }

// Detect implements [Target].
func (DockerDesktop) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{}
	out, err := m.Run(ctx, "docker", "info", "--format", "{{json .}}")
	var info dockerInfo
	if err == nil && json.Unmarshal(out, &info) == nil && info.OperatingSystem == "Docker Desktop" {
		f.Present, f.Version, f.Kind, f.Mirrors = true, info.ServerVersion, desktop, info.RegistryConfig.Mirrors
	}
	file := path.Join(m.Home, ".docker/daemon.json")
	before, err := m.Read(file)
	if err != nil || before == nil {
		return f, err
	}
	f.Files = []string{file}
	if !f.Present {
		f.Mirrors = daemonMirrors(before)
	}
	return f, nil
}

// Plan implements [Target].
func (DockerDesktop) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	if err := virtual(&mirror, "Docker Desktop"); err != nil {
		return nil, err
	}
	file, p := path.Join(m.Home, ".docker/daemon.json"), &Plan{}
	if err := p.addDaemon(m, file, Found{Kind: classicStore}, &mirror); err != nil {
		return nil, err
	}
	if err := p.addCA(m, &mirror, path.Join(m.Home, ".docker/certs.d", mirror.Host, "ca.crt")); err != nil {
		return nil, err
	}
	p.After = []Step{{Command: []string{"docker", "desktop", "restart"}, Interrupts: true, For: []string{file}, Why: Text{
		"Docker Desktop reads the file when it starts; its containers stop", "Docker Desktop 只在启动时读取该文件；其中的容器会停止",
	}}}
	p.Notes = append(mirror.notHere("Docker Desktop"), classicNotes(&mirror)...)
	p.Notes = append(p.Notes, Note{
		Text: Text{
			"the same by hand: Settings, Docker Engine, add this, Apply & Restart",
			"也可以手动设置：Settings → Docker Engine，加入以下内容，然后 Apply & Restart",
		},
		Paste: daemonPaste(&mirror),
	})
	p.Proof = dockerProof()
	return p, nil
}

// daemonPaste is what a daemon.json needs.
func daemonPaste(mirror *Mirror) string {
	text := "\"registry-mirrors\": [\"" + mirror.URL + "\"]"
	if mirror.PlainHTTP && !mirror.loopback() {
		text += ",\n\"insecure-registries\": [\"" + mirror.Host + "\"]"
	}
	return text
}

// virtual refuses what a Docker in a virtual machine cannot do.
func virtual(mirror *Mirror, what string) error {
	if mirror.Username == "" {
		return nil
	}
	return &Refusal{Text: Text{
		what + " sends no login to a mirror: use an access code (--code-file), or set up without a login and pull names at the mirror after: docker login " + mirror.Host,
		what + " 不向镜像站发送账号：请使用访问码（--code-file），或不带账号运行 setup，再运行 docker login " + mirror.Host + " 并使用镜像站上的名字拉取",
	}}
}
