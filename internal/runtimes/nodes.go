package runtimes

import (
	"context"
	"encoding/base64"
	"errors"
	"os/exec"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"sampan/internal/runtimes/edit"
)

// detect asks a program for its version.
func detect(ctx context.Context, m *Machine, command ...string) Found {
	f := Found{}
	out, err := m.Run(ctx, command[0], command[1:]...)
	f.Present = !errors.Is(err, exec.ErrNotFound)
	if err != nil {
		return f
	}
	for _, word := range strings.Fields(string(out)) {
		if word = strings.Trim(word, ",\""); len(word) > 1 && word[0] == 'v' && strings.Contains(word, ".") {
			f.Version = word
			break
		}
	}
	return f
}

// addHosts writes a containerd's directory of hosts into dir, with the certificates,
// which the node has at node/sampan-ca.crt.
func (p *Plan) addHosts(m *Machine, mirror *Mirror, dir, node string) error {
	for _, registry := range mirror.registries() {
		hosts := hostsFile(registry, mirror, path.Join(node, "sampan-ca.crt"))
		if err := p.add(m, path.Join(dir, registry, "hosts.toml"), hosts, mirror.secret()); err != nil {
			return err
		}
	}
	return p.addCA(m, mirror, path.Join(dir, "sampan-ca.crt"))
}

// certsDir is where the containerd of a node looks.
const certsDir = "/etc/containerd/certs.d"

// Kind is Kubernetes in Docker: clusters are made with a file.
type Kind struct{}

// Name implements [Target].
func (Kind) Name() string { return "kind" }

// Detect implements [Target].
func (Kind) Detect(ctx context.Context, m *Machine) (Found, error) {
	return detect(ctx, m, "kind", "version"), nil
}

// Plan implements [Target].
func (Kind) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	dir := m.config("sampan/kind")
	certs := path.Join(dir, "certs.d")
	p := &Plan{}
	if err := p.addHosts(m, &mirror, certs, certsDir); err != nil {
		return nil, err
	}
	mount := edit.List{edit.Map{{Key: "hostPath", Value: certs}, {Key: "containerPath", Value: certsDir}, {Key: "readOnly", Value: true}}}
	cluster := edit.RenderYAML(edit.Map{
		{Key: "kind", Value: "Cluster"},
		{Key: "apiVersion", Value: "kind.x-k8s.io/v1alpha4"},
		// Newer node images look there by themselves.
		{Key: "containerdConfigPatches", Value: edit.Strings(
			"[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"" + certsDir + "\"\n")},
		{Key: "nodes", Value: edit.List{edit.Map{{Key: "role", Value: "control-plane"}, {Key: "extraMounts", Value: mount}}}},
	})
	file := path.Join(dir, "cluster.yaml")
	if err := p.add(m, file, cluster, false); err != nil {
		return nil, err
	}
	p.Notes = append(mirror.notHere("a node of kind"), Note{
		Text: Text{
			"a cluster has its settings from when it is made: make one with this file, or take the patch and the mount over into yours, for every node",
			"集群的设置在创建时确定：请用此文件创建集群，或将其中的补丁和挂载并入你自己的文件（每个节点都要）",
		},
		Paste: "kind create cluster --config " + file,
	})
	return p, nil
}

// Minikube is a cluster on this machine whose node gets files from a directory.
type Minikube struct{}

// Name implements [Target].
func (Minikube) Name() string { return "minikube" }

// Detect implements [Target].
func (Minikube) Detect(ctx context.Context, m *Machine) (Found, error) {
	return detect(ctx, m, "minikube", "version", "--short"), nil
}

// Plan implements [Target]. The node may run containerd, CRI-O or Docker: each finds
// its own files.
func (Minikube) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	home := m.Getenv("MINIKUBE_HOME")
	if home == "" {
		home = m.Home
	}
	if path.Base(home) != ".minikube" {
		home = path.Join(home, ".minikube")
	}
	files := path.Join(home, "files")
	p := &Plan{}
	if err := p.addHosts(m, &mirror, path.Join(files, certsDir), certsDir); err != nil {
		return nil, err
	}
	var tables strings.Builder
	tables.WriteString("# Written by sampan setup; sampan setup --undo takes it back.\n")
	for _, registry := range mirror.registries() {
		writeRegistry(&tables, registry, &mirror, nil)
	}
	if err := p.add(m, path.Join(files, systemContainers, "registries.conf.d", dropInName), []byte(tables.String()), mirror.secret()); err != nil {
		return nil, err
	}
	for _, place := range []string{systemContainers, "/etc/docker"} {
		if err := p.addCA(m, &mirror, path.Join(files, place, "certs.d", mirror.Host, "ca.crt")); err != nil {
			return nil, err
		}
	}
	start := "minikube start --registry-mirror=" + mirror.URL
	if mirror.PlainHTTP {
		start += " --insecure-registry=" + mirror.Host
	}
	p.Notes = append(mirror.notHere("the node of minikube"), Note{
		Text: Text{
			"minikube copies the files into its node at each start; --registry-mirror is for nodes that run Docker, and counts when the node is made (minikube delete first)",
			"minikube 每次启动时把文件复制到节点；--registry-mirror 用于以 Docker 为运行时的节点，只在创建节点时有效（需先 minikube delete）",
		},
		Paste: start,
	})
	if mirror.Username != "" {
		p.Notes = append(p.Notes, Note{Text: Text{
			"the login is for nodes that run containerd; Docker and CRI-O in a node need an access code, or a mirror that is open",
			"账号只用于以 containerd 为运行时的节点；Docker 和 CRI-O 需要访问码，或开放的镜像站",
		}})
	}
	return p, nil
}

// MicroK8s is a cluster from a snap, whose containerd has its settings there.
type MicroK8s struct{}

const microk8sDir = "/var/snap/microk8s/current/args/certs.d"

// Name implements [Target].
func (MicroK8s) Name() string { return "microk8s" }

// Detect implements [Target].
func (MicroK8s) Detect(ctx context.Context, m *Machine) (Found, error) {
	f := detect(ctx, m, "microk8s", "version")
	f.Present = f.Present || m.Exists("/var/snap/microk8s/current")
	f.Mirrors, f.Closed = hostsMirrors(m, microk8sDir), hostsClosed(m, microk8sDir)
	return f, nil
}

// Plan implements [Target].
func (MicroK8s) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	p := &Plan{}
	if err := p.addHostsHere(m, &mirror, microk8sDir); err != nil {
		return nil, err
	}
	p.Notes = []Note{{Text: Text{"the same has to be done on every node of the cluster", "集群的每个节点都要同样设置"}}}
	image := mirror.proofImage()
	p.Proof = &Proof{
		Image: image, Registries: mirror.toProve(),
		Pull:   [][]string{{"microk8s", "ctr", "images", "pull", "--hosts-dir", microk8sDir, image}},
		Remove: [][]string{{"microk8s", "ctr", "images", "rm", image}},
	}
	return p, nil
}

// Talos is Talos Linux, which is configured from elsewhere.
type Talos struct{}

// Name implements [Target].
func (Talos) Name() string { return "talos" }

// Detect implements [Target].
func (Talos) Detect(ctx context.Context, m *Machine) (Found, error) {
	return detect(ctx, m, "talosctl", "version", "--client", "--short"), nil
}

// Plan implements [Target].
func (Talos) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	var mirrors edit.Map
	for _, registry := range mirror.registries() {
		one := edit.Map{{Key: "endpoints", Value: edit.Strings(mirror.URL)}}
		if mirror.NoFallback {
			one = append(one, edit.Pair{Key: "skipFallback", Value: true})
		}
		mirrors = append(mirrors, edit.Pair{Key: registry, Value: one})
	}
	registries := edit.Map{{Key: "mirrors", Value: mirrors}}
	var host edit.Map
	if len(mirror.CA) > 0 && !mirror.PlainHTTP {
		host = append(host, edit.Pair{Key: "tls", Value: edit.Map{{Key: "ca", Value: base64.StdEncoding.EncodeToString(mirror.CA)}}})
	}
	if mirror.Username != "" {
		host = append(host, edit.Pair{Key: "auth", Value: edit.Map{{Key: "username", Value: mirror.Username}, {Key: "password", Value: mirror.Password}}})
	}
	if len(host) > 0 {
		registries = append(registries, edit.Pair{Key: "config", Value: edit.Map{{Key: mirror.Host, Value: host}}})
	}
	p := &Plan{}
	file := m.config("sampan/talos.yaml")
	patch := edit.RenderYAML(edit.Map{{Key: "machine", Value: edit.Map{{Key: "registries", Value: registries}}}})
	if err := p.add(m, file, patch, mirror.secret()); err != nil {
		return nil, err
	}
	p.Notes = append(mirror.notHere("a node of Talos"), Note{
		Text: Text{
			"this is a patch for the configuration of each node; nothing is restarted by it",
			"这是每个节点配置的补丁；不会引起重启",
		},
		Paste: "talosctl patch machineconfig --nodes NODE,NODE --patch @" + file,
	})
	return p, nil
}

// withHost puts a table in front of the hosts that a hosts.toml has.
func withHost(before []byte, table string) ([]byte, error) {
	lines := strings.SplitAfter(string(before), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "[") })
	if at < 0 {
		at = len(lines)
	}
	head, rest := strings.Join(lines[:at], ""), strings.Join(lines[at:], "")
	if head != "" && !strings.HasSuffix(head, "\n") {
		head += "\n"
	}
	if rest != "" {
		table += "\n"
	}
	after := []byte(head + table + rest)
	return after, sameBut(before, after)
}

// errByHand is that of a hosts.toml that cannot be added to.
var errByHand = errors.New("its tables are written in an unusual way")

// sameBut fails where a hosts.toml with one more host does not mean the same besides.
func sameBut(before, after []byte) error {
	type file struct {
		Server string         `toml:"server"`
		Host   map[string]any `toml:"host"`
	}
	var old, now file
	if err := toml.Unmarshal(before, &old); err != nil {
		return err
	}
	if err := toml.Unmarshal(after, &now); err != nil {
		return err
	}
	if old.Server != now.Server || len(now.Host) != len(old.Host)+1 {
		return errByHand
	}
	for name, host := range old.Host {
		if !reflect.DeepEqual(host, now.Host[name]) {
			return errByHand
		}
	}
	return nil
}
