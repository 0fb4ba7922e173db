package welcome

import (
	"strings"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// A section is what one kind of client needs.
type section struct {
	ID    string // of the element, and of its texts: "docker" has "docker.title"
	Parts []part
}

// A part is one file or one command.
type part struct {
	Key  string // of the sentence above it
	Args []any  // of that
	File string // where it goes; empty for a command
	Code string // without a newline at its end
}

// A kit makes the parts for one image, or for all registries.
type kit struct {
	place
	image *image // nil for all registries
	rows  []row  // the registries
	hub   string // the mirror's address for Docker, which asks it for Docker Hub alone
}

// sections are those for an image.
func (p *Page) sections(at place, i *image) []section {
	k := &kit{place: at, image: i, hub: p.hub(at)}
	return []section{
		{"docker", k.docker()},
		{"kubernetes", k.kubernetes()},
		{"dockerfile", k.dockerfile()},
		{"helm", k.helm()},
		{"containerd", k.containerd()},
		{"podman", k.podman()},
		{"k3s", k.k3s()},
		{"buildkit", k.buildkit()},
	}
}

// setup are those that name no image.
func (p *Page) setup(at place, rows []row) []section {
	k := &kit{place: at, rows: rows, hub: p.hub(at)}
	return []section{
		{"docker", k.docker()},
		{"containerd", k.containerd()},
		{"podman", k.podman()},
		{"k3s", k.k3s()},
		{"buildkit", k.buildkit()},
	}
}

// hub is the address that stands for Docker Hub. A mirror whose default is another
// registry is told by a path.
func (p *Page) hub(at place) string {
	const path = "library/nginx"
	repo, err := p.o.Names.Repository(mirror.Address{Host: at.base, Path: path})
	if err == nil && repo.Registry() == oci.DockerHub {
		return at.url()
	}
	return at.url() + "/" + oci.DockerHub.String()
}

// registry is the one that clients believe to pull from: that of the name before
// aliases.
func (k *kit) registry() string { return k.image.Written.Repository.Registry().String() }

// stranger tells whether Docker has to be told to speak plain HTTP with this mirror.
func (k *kit) stranger() bool { return k.insecure() && !k.loopback() }

func (k *kit) docker() []part {
	var parts []part
	if k.image != nil {
		pull := "docker pull " + k.image.Name()
		if k.image.Written.Digest.IsZero() {
			pull += "\ndocker tag " + k.image.Name() + " " + k.image.Original()
		}
		if k.stranger() {
			parts = append(parts, part{Key: "docker.insecure", File: "/etc/docker/daemon.json", Code: lines(
				`{`,
				`  "insecure-registries": ["`+k.shown(k.base)+`"]`,
				`}`,
			)})
		}
		parts = append(parts, part{Key: "docker.pull", Code: pull})
	}
	if k.image == nil || k.registry() == oci.DockerHub.String() {
		daemon := []string{`{`, `  "registry-mirrors": ["` + k.hub + `"]`, `}`}
		if k.stranger() {
			daemon = []string{`{`, `  "registry-mirrors": ["` + k.hub + `"],`, `  "insecure-registries": ["` + k.shown(k.base) + `"]`, `}`}
		}
		parts = append(parts,
			part{Key: "docker.mirrors", File: "/etc/docker/daemon.json", Code: lines(daemon...)},
			part{Key: "docker.reload", Code: "systemctl reload docker"})
	}
	registry := "quay.io"
	if k.image != nil {
		registry = k.registry()
	}
	return append(parts, part{Key: "docker.store", File: "/etc/docker/certs.d/" + registry + "/hosts.toml", Code: k.hostsTOML(registry)})
}

// hostsTOML is what containerd reads of one registry; an empty one is all.
func (k *kit) hostsTOML(registry string) string {
	host := lines(
		`[host."`+k.url()+`"]`,
		`  capabilities = ["pull", "resolve"]`,
	)
	switch registry {
	case "":
		return host
	case oci.DockerHub.String():
		return lines(`server = "https://registry-1.docker.io"`, ``, host)
	default:
		return lines(`server = "https://`+registry+`"`, ``, host)
	}
}

func (k *kit) containerd() []part {
	parts := []part{
		{Key: "containerd.one", File: "/etc/containerd/config.toml", Code: lines(
			`version = 2`,
			``,
			`[plugins."io.containerd.grpc.v1.cri".registry]`,
			`  config_path = "/etc/containerd/certs.d"`,
		)},
		{Key: "containerd.two", File: "/etc/containerd/config.toml", Code: lines(
			`version = 3`,
			``,
			`[plugins."io.containerd.cri.v1.images".registry]`,
			`  config_path = "/etc/containerd/certs.d"`,
			``,
			`[plugins."io.containerd.transfer.v1.local"]`,
			`  config_path = "/etc/containerd/certs.d"`,
		)},
	}
	if k.image == nil {
		return append(parts, part{Key: "containerd.all", File: "/etc/containerd/certs.d/_default/hosts.toml", Code: k.hostsTOML("")})
	}
	name := k.image.Written.String()
	return append(parts,
		part{Key: "containerd.hosts", Args: []any{k.registry()}, File: "/etc/containerd/certs.d/" + k.registry() + "/hosts.toml", Code: k.hostsTOML(k.registry())},
		part{Key: "containerd.pull", Code: lines(
			"crictl pull "+name,
			"ctr images pull --hosts-dir /etc/containerd/certs.d "+name,
		)},
	)
}

// location is one registry of registries.conf with the name of its repositories here.
func (k *kit) location(registry, here string) string {
	pair := lines(
		`[[registry]]`,
		`location = "`+registry+`"`,
		``,
		`[[registry.mirror]]`,
		`location = "`+strings.TrimSuffix(here, "/")+`"`,
	)
	if k.insecure() {
		pair += "\ninsecure = true"
	}
	return pair
}

func (k *kit) podman() []part {
	var pairs []string
	if k.image != nil {
		// The name without the path that it shares with the original.
		here, _ := strings.CutSuffix(withoutTag(k.image.Name()), k.image.Reference.Repository.Path())
		if registry := k.image.Reference.Repository.Registry().String(); registry == k.registry() {
			pairs = append(pairs, k.location(registry, here))
		} else { // an alias: the mirror knows it by that name too, in path style
			pairs = append(pairs, k.location(k.registry(), k.shown(k.base)+"/"+k.registry()))
		}
	}
	for _, r := range k.rows {
		if r.Path != "" {
			pairs = append(pairs, k.location(r.Registry.String(), r.Path))
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	parts := []part{{Key: "podman.file", File: "/etc/containers/registries.conf.d/50-sampan.conf", Code: strings.Join(pairs, "\n\n")}}
	if k.image != nil {
		parts = append(parts, part{Key: "podman.pull", Code: "podman pull " + k.image.Written.String()})
	}
	return parts
}

func (k *kit) k3s() []part {
	registry := "*"
	if k.image != nil {
		registry = k.registry()
	}
	return []part{{Key: "k3s.file", File: "/etc/rancher/k3s/registries.yaml", Code: lines(
		`mirrors:`,
		`  "`+registry+`":`,
		`    endpoint:`,
		`      - "`+k.url()+`"`,
	)}}
}

func (k *kit) buildkit() []part {
	registry := oci.DockerHub.String()
	if k.image != nil {
		registry = k.registry()
	}
	file := lines(
		`[registry."`+registry+`"]`,
		`  mirrors = ["`+k.shown(k.base)+`"]`,
	)
	if k.insecure() {
		file = lines(file, ``, `[registry."`+k.shown(k.base)+`"]`, `  http = true`)
	}
	return []part{{Key: "buildkit.file", File: "/etc/buildkit/buildkitd.toml", Code: file}}
}

func (k *kit) dockerfile() []part {
	return []part{{Key: "dockerfile.from", File: "Dockerfile", Code: "FROM " + k.image.Name()}}
}

func (k *kit) kubernetes() []part {
	return []part{{Key: "kubernetes.pod", Code: lines(
		`apiVersion: v1`,
		`kind: Pod`,
		`metadata:`,
		`  name: `+label(k.image.Reference.Repository.Path()),
		`spec:`,
		`  containers:`,
		`    - name: `+label(k.image.Reference.Repository.Path()),
		`      image: "`+k.image.Name()+`"`,
	)}}
}

func (k *kit) helm() []part {
	ref, name := k.image.Reference, withoutTag(k.image.Name())
	values := []string{`image:`, `  repository: "` + name + `"`}
	pull := "helm pull oci://" + name
	if !ref.Tag.IsZero() {
		values = append(values, `  tag: "`+ref.Tag.String()+`"`)
		pull += " --version " + ref.Tag.String()
	}
	if !ref.Digest.IsZero() {
		values = append(values, `  digest: "`+ref.Digest.String()+`"`)
	}
	if k.insecure() {
		pull += " --plain-http"
	}
	return []part{
		{Key: "helm.values", File: "values.yaml", Code: lines(values...)},
		{Key: "helm.chart", Code: pull},
	}
}

// lines joins lines.
func lines(l ...string) string { return strings.Join(l, "\n") }

// withoutTag cuts tag and digest off a name.
func withoutTag(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

// label makes the name of a Kubernetes object of the last part of a path: letters,
// digits and hyphens, at most 63 of them, a letter first.
func label(path string) string {
	const most = 63
	name := path[strings.LastIndexByte(path, '/')+1:]
	name = strings.Map(func(r rune) rune {
		if r == '.' || r == '_' {
			return '-'
		}
		return r
	}, name)
	if name[0] >= '0' && name[0] <= '9' {
		name = "app-" + name
	}
	return strings.TrimRight(name[:min(len(name), most)], "-")
}
