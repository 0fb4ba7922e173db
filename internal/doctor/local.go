package doctor

import (
	"context"
	"net/url"
	"slices"
	"strings"
)

// A Runtime is one that is on this machine.
type Runtime struct {
	Name, Version, Kind string
	Mirrors             []string // as the runtime writes them
	Uses                bool     // the mirror
	Closed              bool     // it never asks the registries themselves
	Err                 error    // its settings cannot be read
}

func (x *examination) runtimes(ctx context.Context) {
	var left []string
	for _, t := range x.o.Targets {
		ctx, cancel := context.WithTimeout(ctx, x.o.Timeout)
		f, err := t.Detect(ctx, x.o.Machine)
		cancel()
		if err == nil && (!f.Present || x.dockers(t.Name())) {
			continue
		}
		r := Runtime{Name: t.Name(), Version: f.Version, Kind: f.Kind, Mirrors: f.Mirrors, Closed: f.Closed, Err: err}
		r.Uses = slices.ContainsFunc(f.Mirrors, x.isMirror)
		x.report.Runtimes = append(x.report.Runtimes, r)
		switch {
		case err != nil:
			x.find(rankRuntime, Problem, "runtime-settings", say("the settings of %s cannot be used: %v", "无法使用 %s 的配置：%v", r.Name, err),
				say("mend the file; %s itself may not start with it", "修复该文件；%s 本身可能因此无法启动", r.Name))
		case r.Uses:
			x.uses = true
		default:
			left = append(left, r.Name)
		}
	}
	switch {
	case len(x.report.Runtimes) == 0:
		x.find(rankRuntime, Warning, "runtime-none", say("no container runtime was found on this machine", "本机没有找到容器运行时"),
			say("run this where the images are pulled", "请在拉取镜像的机器上运行"))
	case len(left) > 0:
		severity := Problem
		if x.uses {
			severity = Warning
		}
		var commands []string
		for _, name := range left {
			commands = append(commands, "sampan setup "+name+" --mirror "+x.o.Mirror.URL)
		}
		x.find(rankRuntime, severity, "runtime-unused", say("not set up to use the mirror: %s", "没有设置使用镜像站：%s", strings.Join(left, ", ")),
			say("%s", "%s", strings.Join(commands, "; ")))
	}
}

// dockers tells whether a runtime is only a part of Docker here: its containerd, which
// nobody asks to pull.
func (x *examination) dockers(name string) bool {
	return name == "containerd" && !x.o.Machine.Exists("/var/lib/kubelet") &&
		slices.ContainsFunc(x.report.Runtimes, func(r Runtime) bool { return r.Name == "docker" })
}

// isMirror tells whether a setting of a runtime, "quay.io = m.example.com/quay.io" or
// a URL, leads to the mirror.
func (x *examination) isMirror(setting string) bool {
	if _, after, ok := strings.Cut(setting, " = "); ok {
		setting = after
	}
	host := setting
	if u, err := url.Parse(setting); err == nil && u.Host != "" {
		host = u.Host
	}
	host, _, _ = strings.Cut(host, "/")
	if host == x.o.Mirror.Host {
		return true
	}
	_, below, found := strings.Cut(host, ".") // an access code, or a registry in host style
	return found && below == x.o.Mirror.Host
}

// proxies tells what the environment sends through proxies.
func (x *examination) proxies() {
	c := x.proxy()
	for _, v := range []struct{ name, value string }{{"HTTP_PROXY", c.HTTPProxy}, {"HTTPS_PROXY", c.HTTPSProxy}, {"NO_PROXY", c.NoProxy}} {
		if v.value != "" {
			x.report.Proxies = append(x.report.Proxies, Check{v.name, true, say("%s", "%s", redacted(v.value))})
		}
	}
	m, err := url.Parse(x.o.Mirror.URL)
	if err != nil {
		return
	}
	if proxy, err := c.ProxyFunc()(m); err == nil && proxy != nil {
		x.find(rankRest, Warning, "proxy", say("this environment sends requests for the mirror through the proxy %s", "当前环境会让访问镜像站的请求经过代理 %s", proxy.Redacted()),
			say("add %s to NO_PROXY, here and for the runtimes", "把 %s 加入 NO_PROXY，运行时的环境也一样", m.Hostname()))
	}
}

// redacted is a proxy without its password.
func redacted(s string) string {
	if u, err := url.Parse(s); err == nil && u.User != nil {
		return u.Redacted()
	}
	return s
}

// A Disk is where a runtime keeps images.
type Disk struct {
	Dir        string
	Free, Size uint64 // bytes
}

const (
	diskFull = 512 << 20 // bytes: no image fits
	diskLow  = 4 << 30
)

// disks looks at the directories that runtimes keep images in.
func (x *examination) disks() {
	m := x.o.Machine
	seen := map[[2]uint64]bool{}
	for _, dir := range []string{
		"/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/rancher", "/var/lib/buildkit", "/var/snap/microk8s/common",
		m.Home + "/.local/share/containers", m.Home + "/.local/share/docker",
	} {
		if !m.Exists(dir) {
			continue
		}
		free, size, err := x.o.Free(m.Path(dir))
		if err != nil || size == 0 || seen[[2]uint64{free, size}] { // once for each disk
			continue
		}
		seen[[2]uint64{free, size}] = true
		x.report.Disks = append(x.report.Disks, Disk{dir, free, size})
		if free >= diskLow {
			continue
		}
		severity := Warning
		if free < diskFull {
			severity = Problem
		}
		x.find(rankDisk, severity, "disk", say("%d MiB are free where %s is", "%[2]s 所在磁盘剩余 %[1]d MiB", free>>20, dir),
			say("make room: remove images that nobody uses (docker image prune, crictl rmi --prune)", "清理空间：删除不用的镜像（docker image prune、crictl rmi --prune）"))
	}
}
