package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/runtimes/edit"
)

// Docker is Docker Engine on Linux, of the machine or of one person (rootless).
type Docker struct{}

// The image stores of Docker, which are set up differently.
const (
	classicStore    = "classic"    // registry-mirrors, for Docker Hub alone
	containerdStore = "containerd" // a directory for each registry
)

// Name implements [Target].
func (Docker) Name() string { return "docker" }

// dockerInfo is what the daemon says of itself.
type dockerInfo struct {
	ServerVersion   string
	OperatingSystem string
	DriverStatus    [][2]string
	SecurityOptions []string
	RegistryConfig  struct{ Mirrors []string }
}

// Detect implements [Target].
func (d Docker) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := Found{Rootless: m.UID != 0 && !m.Exists("/var/run/docker.sock")}
	out, err := m.Run(ctx, "docker", "info", "--format", "{{json .}}")
	f.Present = !errors.Is(err, exec.ErrNotFound)
	if !f.Present {
		_, err := m.Run(ctx, "dockerd", "--version")
		f.Present = err == nil
	}
	var info dockerInfo
	if json.Unmarshal(out, &info) == nil && info.ServerVersion != "" {
		f.Version, f.Mirrors = info.ServerVersion, info.RegistryConfig.Mirrors
		f.Rootless = slices.Contains(info.SecurityOptions, "name=rootless")
		f.Kind = classicStore
		if slices.ContainsFunc(info.DriverStatus, func(s [2]string) bool {
			return s[0] == "driver-type" && strings.HasPrefix(s[1], "io.containerd.snapshotter")
		}) {
			f.Kind = containerdStore
		}
		if info.OperatingSystem == "Docker Desktop" {
			f.Kind = desktop
		}
		f.Endpoint = d.endpoint(ctx, m)
	}
	file := path.Join(d.dir(m, f), "daemon.json")
	if before, err := m.Read(file); err != nil {
		return f, err
	} else if before != nil {
		f.Files = []string{file}
		if f.Kind == "" {
			f.Mirrors = daemonMirrors(before)
		}
	}
	hosts := path.Join(d.dir(m, f), "certs.d")
	f.Mirrors = append(f.Mirrors, hostsMirrors(m, hosts)...)
	f.Closed = f.Kind == containerdStore && hostsClosed(m, hosts)
	return f, nil
}

// endpoint is where the command docker finds its daemon; empty where it does not say.
func (Docker) endpoint(ctx context.Context, m *Machine) string {
	if host := m.Getenv("DOCKER_HOST"); host != "" {
		return host
	}
	out, err := m.Run(ctx, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

const snapDocker = "/var/snap/docker/current/config"

// dir is where the daemon has its settings.
func (Docker) dir(m *Machine, f Found) string {
	switch {
	case f.Rootless:
		return m.config("docker")
	case m.Exists(snapDocker):
		return snapDocker
	default:
		return "/etc/docker"
	}
}

// daemonMirrors are the mirrors in a daemon.json.
func daemonMirrors(raw []byte) []string {
	var c struct {
		Mirrors []string `json:"registry-mirrors"`
	}
	_ = json.Unmarshal(raw, &c) // Plan tells what is wrong with it
	return c.Mirrors
}

// Plan implements [Target].
func (d Docker) Plan(_ context.Context, m *Machine, f Found, mirror Mirror) (*Plan, error) {
	if err := d.elsewhere(f); err != nil {
		return nil, err
	}
	if f.Kind == classicStore && mirror.Username != "" {
		return nil, &Refusal{Text: Text{
			"this Docker sends no login to a mirror: use an access code (--code-file), or set up without a login and pull names at the mirror after: docker login " + mirror.Host,
			"此 Docker 不向镜像站发送账号：请使用访问码（--code-file），或不带账号运行 setup，再运行 docker login " + mirror.Host + " 并使用镜像站上的名字拉取",
		}}
	}
	dir, p := d.dir(m, f), &Plan{}
	if err := p.addDaemon(m, path.Join(dir, "daemon.json"), f, &mirror); err != nil {
		return nil, err
	}
	certs := path.Join(dir, "certs.d")
	if f.Kind == classicStore {
		if err := p.addCA(m, &mirror, path.Join(certs, mirror.Host, "ca.crt")); err != nil {
			return nil, err
		}
	} else if err := p.addHostsHere(m, &mirror, certs); err != nil {
		return nil, err
	}
	switch f.Kind {
	case classicStore:
		p.Notes = append(p.Notes, classicNotes(&mirror)...)
	case "":
		p.Notes = append(p.Notes, Note{Text: Text{
			"Docker does not answer, so that both of its image stores are set up: registry-mirrors is for the classic one, certs.d for containerd's",
			"Docker 没有应答，因此两种镜像存储都做了设置：registry-mirrors 用于经典存储，certs.d 用于 containerd 存储",
		}})
	}
	d.reload(m, f, p, path.Join(dir, "daemon.json"))
	p.Pending = f.Kind == classicStore && !asks(f.Mirrors, mirror.URL)
	p.Proof = dockerProof()
	if f.Kind == containerdStore {
		p.Proof.Registries = mirror.toProve()
	} else {
		p.Proof.Ready = func(ctx context.Context, m *Machine) bool {
			now, err := d.Detect(ctx, m)
			return err == nil && (now.Kind == containerdStore || now.Kind != "" && asks(now.Mirrors, mirror.URL))
		}
	}
	return p, nil
}

// asks tells whether a mirror is among those that a daemon says it has.
func asks(mirrors []string, url string) bool {
	return slices.ContainsFunc(mirrors, func(s string) bool { return strings.TrimSuffix(s, "/") == url })
}

// elsewhere refuses a Docker that does not read the files of this machine.
func (Docker) elsewhere(f Found) error {
	switch other, remote := otherDocker(f); {
	case other != "":
		return &Refusal{Text: Text{
			"this Docker runs in a virtual machine: sampan setup " + other,
			"此 Docker 运行在虚拟机中：请运行 sampan setup " + other,
		}}
	case remote:
		return &Refusal{Text: Text{
			"docker speaks with " + f.Endpoint + ": run sampan setup on that machine",
			"docker 连接的是 " + f.Endpoint + "：请在那台机器上运行 sampan setup",
		}}
	}
	return nil
}

// otherDocker is the target that a Docker in a virtual machine has, and whether it is
// on another machine.
func otherDocker(f Found) (target string, remote bool) {
	switch {
	case f.Kind == desktop || strings.Contains(f.Endpoint, "/.docker/"):
		return "docker-desktop", false
	case strings.Contains(f.Endpoint, "colima/"):
		return "colima", false
	}
	return "", f.Endpoint != "" && !strings.HasPrefix(f.Endpoint, "unix://")
}

// addDaemon changes a daemon.json.
func (p *Plan) addDaemon(m *Machine, file string, f Found, mirror *Mirror) error {
	before, err := m.Read(file)
	if err != nil {
		return err
	}
	after := before
	if f.Kind != containerdStore {
		had := daemonMirrors(before)
		if len(had) == 0 && slices.ContainsFunc(f.Mirrors, func(s string) bool { return strings.Contains(s, "://") && !strings.Contains(s, " = ") }) {
			return &Refusal{Text: Text{
				fmt.Sprintf("dockerd has mirrors (%s) that are not in %s. Where they come from its command line (--registry-mirror), move them into the file: dockerd does not start with both. Where the file changed, reload it first: systemctl reload docker", strings.Join(f.Mirrors, ", "), file),
				fmt.Sprintf("dockerd 正在使用不在 %[2]s 中的镜像站（%[1]s）。若来自命令行（--registry-mirror），请移入该文件：两处同时设置时 dockerd 无法启动；若文件已改动，请先重新加载：systemctl reload docker", strings.Join(f.Mirrors, ", "), file),
			}}
		}
		after, err = edit.JSON(after, edit.Set{Path: []string{"registry-mirrors"}, Value: inFront(had, mirror.URL, mirror.Replace)})
	}
	if err == nil && mirror.PlainHTTP && !mirror.loopback() {
		var c struct {
			Insecure []string `json:"insecure-registries"`
		}
		_ = json.Unmarshal(before, &c)
		after, err = edit.JSON(after, edit.Set{Path: []string{"insecure-registries"}, Value: inFront(c.Insecure, mirror.Host, false)})
	}
	switch unsafe := (*edit.UnsafeError)(nil); {
	case errors.As(err, &unsafe):
		return byHand(file, err, "\"registry-mirrors\": [\""+mirror.URL+"\"]")
	case err != nil:
		return unreadable(file, err)
	case after == nil:
		return nil // nothing to say
	}
	return p.add(m, file, after, mirror.Code != "")
}

// inFront is a list with an element first; the others stay unless they are replaced.
func inFront(had []string, first string, replace bool) edit.List {
	list := edit.Strings(first)
	for _, other := range had {
		if strings.TrimSuffix(other, "/") == first {
			if !replace {
				return edit.Strings(had...) // where it is is where they want it
			}
		} else if !replace {
			list = append(list, other)
		}
	}
	return list
}

// classicNotes say what the classic image store cannot do.
func classicNotes(mirror *Mirror) []Note {
	notes := []Note{{Text: Text{
		"Docker's classic image store asks a mirror for images of Docker Hub alone; those of other registries have a name at the mirror: sampan name quay.io/…, or sampan rewrite for files. Docker's containerd image store asks it for all",
		"Docker 的经典镜像存储只对 Docker Hub 的镜像使用镜像站；其他仓库的镜像请使用镜像站上的名字：sampan name quay.io/…，文件可用 sampan rewrite。Docker 的 containerd 镜像存储则对所有仓库使用",
	}}}
	if mirror.NoFallback {
		notes = append(notes, Note{Text: Text{
			"Docker's classic image store always asks Docker Hub itself when the mirror does not answer, and cannot be told otherwise: pull names at the mirror where that must not be",
			"镜像站没有应答时，Docker 的经典镜像存储总会访问 Docker Hub，无法关闭：若不允许，请使用镜像站上的名字拉取",
		}})
	}
	return notes
}

// reload has the daemon read its file again, which stops nothing.
func (Docker) reload(m *Machine, f Found, p *Plan, file string) {
	why := Text{"dockerd reads its file again; nothing is stopped", "让 dockerd 重新读取配置；不会停止任何容器"}
	step := Step{Why: why, For: []string{file}}
	pid := "/var/run/docker.pid"
	if f.Rootless {
		pid = path.Join(m.Getenv("XDG_RUNTIME_DIR"), "docker.pid")
	}
	switch {
	case strings.HasPrefix(file, snapDocker):
		step.Command, step.Interrupts = []string{"snap", "restart", "docker"}, true
		step.Why = Text{"dockerd of the snap starts anew; containers stop unless they restart by themselves", "重启 snap 中的 dockerd；容器会停止，除非设置了自动重启"}
	case !f.Rootless && m.Exists("/run/systemd/system"):
		step.Command = []string{"systemctl", "reload", "docker"}
		if f.Version == "" { // it may not run
			step.Command[1] = "try-reload-or-restart"
		}
	case !f.Rootless && m.Exists("/run/openrc") && m.Exists("/etc/init.d/docker"):
		step.Command = []string{"rc-service", "docker", "reload"}
	case m.Exists(pid):
		step.Command = []string{"pkill", "-HUP", "--pidfile", pid, "--exact", "dockerd"} // nobody else's, if the file is old
	default:
		return // it does not run, and reads the file when it starts
	}
	p.After = append(p.After, step)
}

// dockerProof is a pull by the command docker.
func dockerProof() *Proof {
	const image = "docker.io/library/hello-world:latest"
	return &Proof{
		Image:      image,
		Registries: []oci.Registry{oci.DockerHub},
		Pull:       [][]string{{"docker", "pull", "--quiet", image}},
		Remove:     [][]string{{"docker", "image", "rm", image}},
	}
}

// Leave implements [Leaver]: a dockerd that reads its file again keeps what is no longer
// in it, and forgets mirrors only where the file says that there are none.
func (d Docker) Leave(ctx context.Context, m *Machine) (*Plan, error) {
	f, err := d.Detect(ctx, m)
	if err != nil || f.Kind != classicStore {
		return &Plan{}, err
	}
	file, p := path.Join(d.dir(m, f), "daemon.json"), &Plan{}
	before, err := m.Read(file)
	if err != nil || before == nil {
		return p, err
	}
	var had map[string]json.RawMessage
	if err := json.Unmarshal(before, &had); err != nil {
		return nil, unreadable(file, err)
	}
	after := before
	for _, key := range []string{"registry-mirrors", "insecure-registries"} {
		if _, ok := had[key]; !ok {
			continue
		}
		if after, err = edit.JSON(after, edit.Set{Path: []string{key}, Value: edit.List{}}); err != nil {
			return nil, unreadable(file, err)
		}
	}
	if err := p.add(m, file, after, false); err != nil {
		return nil, err
	}
	d.reload(m, f, p, file)
	return p, nil
}

// Left implements [Leaver].
func (Docker) Left(ctx context.Context, m *Machine) bool {
	out, err := m.Run(ctx, "docker", "info", "--format", "{{json .}}")
	var info dockerInfo
	return err != nil || json.Unmarshal(out, &info) != nil || len(info.RegistryConfig.Mirrors) == 0
}
