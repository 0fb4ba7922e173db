package runtimes

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"strings"

	"sampan/internal/runtimes/edit"
)

// Podman is Podman, and with it Buildah and Skopeo, which read the same files.
type Podman struct{}

// Name implements [Target].
func (Podman) Name() string { return "podman" }

// Detect implements [Target].
func (Podman) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{Files: registriesFiles(m)}
	out, err := m.Run(ctx, "podman", "version", "--format", "{{.Client.Version}}")
	if errors.Is(err, exec.ErrNotFound) {
		return f, nil
	}
	f.Present = true
	if err == nil { // one that fails is there all the same
		f.Version = strings.TrimSpace(string(out))
	}
	c, err := readRegistries(m)
	if err != nil {
		return f, err
	}
	f.Mirrors, f.Closed = c.mirrors(), c.closed()
	return f, nil
}

// Plan implements [Target].
func (Podman) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	p, err := planRegistries(m, &mirror)
	if err != nil {
		return nil, err
	}
	if mirror.Username != "" {
		file := m.config("containers/auth.json")
		after, err := withLogin(m, file, &mirror)
		if err != nil {
			return nil, err
		}
		if err := p.add(m, file, after, true); err != nil {
			return nil, err
		}
		if dir := m.Getenv("XDG_RUNTIME_DIR"); dir != "" && m.Exists(path.Join(dir, "containers/auth.json")) {
			p.Notes = append(p.Notes, Note{Text: Text{
				"logins made with podman login since the last boot are read first; where one of them is for the mirror, it wins",
				"本次开机后用 podman login 登录的账号优先；若其中有镜像站的账号，则以它为准",
			}})
		}
	}
	image := mirror.proofImage()
	p.Proof = &Proof{
		Image:      image,
		Registries: mirror.toProve(),
		Pull:       [][]string{{"podman", "pull", "--quiet", image}},
		Remove:     [][]string{{"podman", "rmi", image}},
	}
	return p, nil
}

// basic is the login as HTTP's basic authentication writes it.
func (m *Mirror) basic() string {
	return base64.StdEncoding.EncodeToString([]byte(m.Username + ":" + m.Password))
}

// withLogin is a file of logins with that of the mirror.
func withLogin(m *Machine, file string, mirror *Mirror) ([]byte, error) {
	before, err := m.Read(file)
	if err != nil {
		return nil, err
	}
	after, err := edit.JSON(before, edit.Set{Path: []string{"auths", mirror.Host, "auth"}, Value: mirror.basic()})
	if err != nil {
		return nil, unreadable(file, err)
	}
	return after, nil
}

// A CRIO is CRI-O.
type CRIO struct{}

// Name implements [Target].
func (CRIO) Name() string { return "crio" }

// Detect implements [Target].
func (CRIO) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{Files: registriesFiles(m)}
	out, err := m.Run(ctx, "crio", "--version")
	if errors.Is(err, exec.ErrNotFound) {
		return f, nil
	}
	f.Present = true
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "crio version "); ok {
			f.Version = strings.TrimSpace(v)
		}
	}
	c, err := readRegistries(m)
	if err != nil {
		return f, err
	}
	f.Mirrors, f.Closed = c.mirrors(), c.closed()
	return f, nil
}

// Plan implements [Target].
func (CRIO) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	system := *m
	system.UID = 0 // it reads no person's files
	p, err := planRegistries(&system, &mirror)
	if err != nil {
		return nil, err
	}
	if mirror.Username != "" {
		const logins, settings = "/etc/crio/sampan-auth.json", "/etc/crio/crio.conf.d/50-sampan.conf"
		if other, err := crioLogins(m, settings); err != nil {
			return nil, err
		} else if other != "" {
			return nil, &Refusal{Text: Text{
				fmt.Sprintf("%s names a file of logins of its own (global_auth_file): add the mirror's there with podman login --authfile FILE %s, and set up without a login", other, mirror.Host),
				fmt.Sprintf("%s 已指定登录文件（global_auth_file）：请用 podman login --authfile FILE %s 在其中登录镜像站，再不带账号运行 setup", other, mirror.Host),
			}}
		}
		after, err := withLogin(m, logins, &mirror)
		if err != nil {
			return nil, err
		}
		if err := p.add(m, logins, after, true); err != nil {
			return nil, err
		}
		if err := p.add(m, settings, []byte("[crio.image]\nglobal_auth_file = \""+logins+"\"\n"), false); err != nil {
			return nil, err
		}
	}
	p.After = []Step{{Command: []string{"systemctl", "reload", "crio"}, Why: Text{
		"CRI-O reads the registries again; nothing is stopped", "让 CRI-O 重新读取仓库配置；不会停止任何容器",
	}}}
	image := mirror.proofImage()
	p.Proof = &Proof{Image: image, Registries: mirror.toProve(), Pull: [][]string{{"crictl", "pull", image}}, Remove: [][]string{{"crictl", "rmi", image}}}
	return p, nil
}

// crioLogins is the file that sets global_auth_file, other than ours; empty for none.
func crioLogins(m *Machine, ours string) (string, error) {
	files, err := m.dropIns("/etc/crio/crio.conf.d", "")
	if err != nil {
		return "", err
	}
	for _, file := range append([]string{"/etc/crio/crio.conf"}, files...) {
		raw, err := m.Read(file)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(raw)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if strings.TrimSpace(key) == "global_auth_file" && strings.Trim(strings.TrimSpace(value), `"'`) != "" && file != ours {
				return file, nil
			}
		}
	}
	return "", nil
}
