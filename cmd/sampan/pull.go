package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/runtimes/engine"
)

func newPullCommand() *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull [-f FILE] IMAGE...",
		Short: text("Pull images through the mirror into Docker, Podman or containerd, under their own names", "经镜像站把镜像拉取到 Docker、Podman 或 containerd，并保留原名"),
		Long: text(
			"Pull images through the mirror into the container engine of this machine, under their own names: nothing has\nto be set up in the engine. The mirror's name is taken away again. Names are read from the command line, from\nfiles with -f, and from standard input for \"-\": one a line; what follows a # is no name.\n\nThe engine is Docker (its context and DOCKER_HOST are honoured), Podman or containerd, the first that is there,\nunless --engine or --address say which. In containerd the namespace is k8s.io on a node of Kubernetes and default\nelsewhere, unless --namespace says so.\n\nDocker and a remote Podman cannot name an image by a digest that they did not pull from that name. An image that\nis asked for by digest alone is tagged sha256-, with twelve digits of the digest, there, and that is told.\n\nThe exit code is 0 when every image was pulled, 1 when some were not, and 2 for a mistake in the command.",
			"经镜像站把镜像拉取到本机的容器引擎，并以镜像的原名保存：无需修改引擎的任何配置。镜像站上的名字随后会被\n删除。镜像名可写在命令行上、用 -f 从文件读取，或用 \"-\" 从标准输入读取：每行一个，# 之后为注释。\n\n引擎依次查找 Docker（遵循其 context 与 DOCKER_HOST）、Podman、containerd，取第一个可用的；也可用 --engine\n或 --address 指定。对于 containerd，Kubernetes 节点上的命名空间为 k8s.io，其他情况为 default；可用 --namespace 指定。\n\nDocker 和远程 Podman 无法用并非由该名字拉取的摘要来命名镜像。仅以摘要指定的镜像在那里会得到形如 sha256- 加摘要\n前十二位的标签，并会提示。\n\n退出码：0 表示全部拉取成功，1 表示有些镜像未能拉取，2 表示命令有误。"),
		Example: "  sampan pull nginx:alpine k8s.gcr.io/kube-apiserver:v1.14.1\n" +
			"  sampan pull --mirror mirror.example.com --platform linux/arm64 alpine\n" +
			"  sampan pull -f images.txt\n" +
			"  kubeadm config images list | sampan pull --engine containerd -",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	o.client.addFlags(f)
	o.client.addAccessFlags(f)
	f.StringArrayVarP(&o.files, "file", "f", nil, text("`FILE` with names of images; may be repeated", "镜像名列表文件 `FILE`；可重复"))
	f.StringVar(&o.engine, "engine", "auto", text("`ENGINE`: docker, podman, containerd, nerdctl or auto", "引擎 `ENGINE`：docker、podman、containerd、nerdctl 或 auto"))
	f.StringVar(&o.set.Address, "address", "", text("`SOCKET` of the engine, or its URL", "引擎的套接字 `SOCKET` 或 URL"))
	f.StringVar(&o.set.Namespace, "namespace", "", text("`NAME` of containerd's namespace (default CONTAINERD_NAMESPACE; then k8s.io on a node of Kubernetes, default elsewhere)", "containerd 命名空间 `NAME`（默认 CONTAINERD_NAMESPACE；其次在 Kubernetes 节点上为 k8s.io，其他为 default）"))
	f.StringVar(&o.set.Snapshotter, "snapshotter", "", text("`NAME` of containerd's snapshotter (default CONTAINERD_SNAPSHOTTER, then containerd's own)", "containerd 快照器 `NAME`（默认 CONTAINERD_SNAPSHOTTER，其次为 containerd 自身的默认值）"))
	f.StringVar(&o.set.Platform, "platform", "", text("`OS/ARCH` of the images, such as linux/arm64 (default the engine's)", "镜像的平台 `OS/ARCH`，例如 linux/arm64（默认为引擎的平台）"))
	f.BoolVar(&o.set.AllPlatforms, "all-platforms", false, text("get all platforms; containerd only", "获取所有平台；仅限 containerd"))
	f.BoolVar(&o.set.KeepMirrorTag, "keep-mirror-tag", false, text("leave the mirror's name beside the own one (Docker)", "保留镜像站上的名字，与原名并存（Docker）"))
	f.IntVarP(&o.jobs, "jobs", "j", 2, text("`NUMBER` of images that are pulled at once", "同时拉取的镜像数 `NUMBER`"))
	f.BoolVarP(&o.quiet, "quiet", "q", false, text("print nothing but the names of what was pulled", "只打印已拉取的镜像名"))
	o.progress.addTo(cmd)
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text, or json for one event a line", "输出格式 `FORMAT`：text，或 json（每行一个事件）"))
	words := []string{"auto"}
	for _, k := range engine.Kinds() {
		words = append(words, string(k))
	}
	// It fails only where there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// pullOptions are what the command line says.
type pullOptions struct {
	client         clientOptions
	set            engine.Options
	files          []string
	engine, output string
	progress       progressFlag
	jobs           int
	quiet          bool
}

func (o pullOptions) run(cmd *cobra.Command, args []string) error {
	if err := o.check(args); err != nil {
		return err
	}
	m, err := o.client.open()
	if err != nil {
		return err
	}
	names, err := o.names(cmd, args)
	if err != nil {
		return err
	}
	show := o.display(cmd.OutOrStdout(), cmd.ErrOrStderr())
	show.alone = len(names) == 1
	images, bad := pullImages(m, names)
	for _, b := range bad {
		show.failed(b.name, b.err)
	}
	failed := len(bad)
	if len(images) > 0 {
		n, err := o.pull(cmd.Context(), m, images, show)
		if err != nil {
			show.end()
			return err
		}
		failed += n
	}
	show.end()
	if failed > 0 && show.alone && show.only != nil {
		return show.only
	}
	if failed > 0 {
		return fmt.Errorf(text("%d of %d images could not be pulled: %s", "%d 个镜像（共 %d 个）未能拉取：%s"),
			failed, len(images)+len(bad), strings.Join(show.failures(), " "))
	}
	return nil
}

// check refuses what cannot be meant.
func (o *pullOptions) check(args []string) error {
	switch {
	case o.output != "text" && o.output != "json":
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	case len(args) == 0 && len(o.files) == 0:
		return usagef("%s", text(`no image was named; "-" reads names from standard input`, `没有给出镜像；"-" 表示从标准输入读取`))
	case o.jobs < 1:
		return usagef(text("--jobs is at least 1, not %d", "--jobs 至少为 1，而不是 %d"), o.jobs)
	case o.set.Platform != "" && o.set.AllPlatforms:
		return usagef("%s", text("--platform and --all-platforms exclude each other", "--platform 与 --all-platforms 不能同时使用"))
	case o.engine != "auto" && !slices.Contains(engine.Kinds(), engine.Kind(o.engine)):
		return usagef(text("--engine is docker, podman, containerd, nerdctl or auto, not %q", "--engine 应为 docker、podman、containerd、nerdctl 或 auto，而不是 %q"), o.engine)
	}
	if err := engine.CheckPlatform(o.set.Platform); err != nil {
		return usagef(text("--platform is OS/ARCH, such as linux/arm64, not %q", "--platform 应形如 linux/arm64，而不是 %q"), o.set.Platform)
	}
	if o.engine != "auto" {
		o.set.Kind = engine.Kind(o.engine)
	}
	return nil
}

// names are those of the command line and of the files, in this order, each once.
func (o pullOptions) names(cmd *cobra.Command, args []string) ([]string, error) {
	var names []string
	if len(args) > 0 {
		var err error
		if names, err = imageArguments(cmd.InOrStdin(), args); err != nil {
			return nil, err
		}
	}
	for _, path := range o.files {
		if path == "-" {
			list, err := imageArguments(cmd.InOrStdin(), nil)
			if err != nil {
				return nil, err
			}
			names = append(names, list...)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, &usageError{err}
		}
		list, err := imageList(f)
		f.Close()
		if err != nil {
			return nil, &usageError{fmt.Errorf("%s: %w", path, err)}
		}
		names = append(names, list...)
	}
	if len(names) == 0 {
		return nil, usagef("%s", text("no image was named", "没有给出镜像"))
	}
	return names, nil
}

// A pullImage is an image with the name that people know it by.
type pullImage struct {
	engine.Image
	name string
}

// A badName is one that cannot be pulled.
type badName struct {
	name string
	err  error
}

// pullImages turns names into images, each once. Names at the mirror stand for the
// images' own.
func pullImages(m *client.Mirror, names []string) (images []pullImage, bad []badName) {
	seen := map[string]bool{}
	for _, name := range names {
		ref, err := oci.ParseReference(name)
		if err != nil {
			bad = append(bad, badName{name, plain(err)})
			continue
		}
		if m.Has(ref) {
			if ref, err = m.Original(ref.String()); err != nil {
				bad = append(bad, badName{name, plain(err)})
				continue
			}
		}
		at, err := m.Name(ref)
		if err != nil {
			bad = append(bad, badName{name, unservedName(ref, err)})
			continue
		}
		if i := (pullImage{engine.Image{Ref: ref, Mirror: at}, client.Familiar(ref)}); !seen[i.name] {
			seen[i.name] = true
			images = append(images, i)
		}
	}
	return images, bad
}

// pull pulls them all, and tells how many failed. An error is one of all of them.
func (o pullOptions) pull(ctx context.Context, m *client.Mirror, images []pullImage, show *pullDisplay) (failed int, err error) {
	set := o.set
	set.PlainHTTP, set.CA, set.Username, set.Password, set.Getenv = m.PlainHTTP, m.CA, m.Username, m.Password, os.Getenv
	e, err := engine.Find(ctx, set)
	if err != nil {
		return 0, pullError(err)
	}
	defer func() { _ = e.Close() }() // nothing is left to be said to it
	if k := e.Kind(); set.AllPlatforms && k != engine.Containerd && k != engine.Nerdctl {
		return 0, usagef(text("--all-platforms is for containerd; this is %s", "--all-platforms 仅用于 containerd，而这里是 %s"), engineName(k))
	}
	var g errgroup.Group
	g.SetLimit(o.jobs)
	results := make([]bool, len(images))
	for i, image := range images {
		g.Go(func() error {
			select {
			case <-ctx.Done():
				return nil // the names that were not come to are told as failed
			default:
			}
			p := show.begin(image, e)
			r, err := e.Pull(ctx, image.Image, p.event)
			if err != nil {
				p.fail(pullError(err))
				return nil
			}
			p.done(r)
			results[i] = true
			return nil
		})
	}
	_ = g.Wait()
	for i, ok := range results {
		if !ok {
			failed++
			show.missed(images[i].name)
		}
	}
	return failed, nil
}

// engineName is an engine as people call it.
func engineName(k engine.Kind) string {
	switch k {
	case engine.Docker:
		return "Docker"
	case engine.Podman:
		return "Podman"
	case engine.Nerdctl:
		return "containerd (nerdctl)"
	}
	return string(k)
}

// pullError says at which step something went wrong, and what can be done.
func pullError(err error) error {
	var e *engine.Error
	if !errors.As(err, &e) {
		return err
	}
	var what string
	name := engineName(e.Kind)
	if e.Address != "" {
		name = fmt.Sprintf(text("%s (%s)", "%s（%s）"), name, e.Address)
	}
	switch {
	case errors.Is(e.Err, engine.ErrNone) && e.Kind == "":
		return errors.New(text(
			"no container engine was found: neither Docker, Podman nor containerd is running here where it usually is; say --engine and --address, or DOCKER_HOST; sampan save writes an archive without one",
			"未找到容器引擎：常见位置上没有运行 Docker、Podman 或 containerd；请使用 --engine 与 --address，或设置 DOCKER_HOST；sampan save 无需引擎即可写出归档"))
	case errors.Is(e.Err, engine.ErrNone):
		return fmt.Errorf(text("%s was not found where it usually is; say --address if it runs elsewhere", "在常见位置未找到 %s；若它在别处运行，请使用 --address"), name)
	case errors.Is(e.Err, context.Canceled):
		return fmt.Errorf(text("interrupted at step %q", "在步骤 %q 被中断"), string(e.Step))
	case e.Step == engine.StepFind || e.Step == engine.StepReach:
		what = text("%s cannot be reached: %w", "无法连接 %s：%w")
	case e.Step == engine.StepTag:
		what = text("%s has pulled it and could not give it its own name: %w", "%s 已完成拉取，但无法赋予其原名：%w")
	case e.Step == engine.StepUntag:
		what = text("%s has it under its own name, and could not take the mirror's name away: %w", "%s 已以原名保存，但无法删除镜像站上的名字：%w")
	default:
		what = text("%s could not pull it from the mirror: %w", "%s 无法从镜像站拉取：%w")
	}
	return fmt.Errorf(what+"%s", name, e.Err, pullHint(e))
}

// pullHint is advice; empty where there is none.
func pullHint(e *engine.Error) string {
	var hint string
	switch e.Hint {
	case engine.HintPermission:
		hint = text("its socket may not be opened by you: become a member of its group, or use sudo", "当前用户无权打开其套接字：请加入相应用户组，或使用 sudo")
	case engine.HintSSH:
		hint = text("run sampan on the machine of the engine, or forward its socket: ssh -L /tmp/docker.sock:/var/run/docker.sock HOST, and --address /tmp/docker.sock", "请在引擎所在机器上运行 sampan，或转发其套接字：ssh -L /tmp/docker.sock:/var/run/docker.sock HOST，并使用 --address /tmp/docker.sock")
	case engine.HintMirrorDown:
		hint = fmt.Sprintf(text("the mirror %s does not answer: is it running, and is its address right (--mirror)?", "镜像站 %s 没有应答：它是否在运行，地址（--mirror）是否正确？"), e.Mirror)
	case engine.HintUntrusted:
		hint = fmt.Sprintf(text("the certificate of %[1]s is signed by nobody who is trusted here: say --ca FILE and, for Docker, put it into /etc/docker/certs.d/%[1]s/ca.crt too", "本机不信任 %[1]s 证书的签发者：请使用 --ca FILE；对于 Docker，还需把它放到 /etc/docker/certs.d/%[1]s/ca.crt"), e.Mirror)
	case engine.HintPlainHTTP:
		hint = fmt.Sprintf(text("the engine speaks TLS to %s unless it is told otherwise: \"insecure-registries\" in daemon.json, or containers' registries.conf", "引擎默认以 TLS 访问 %s：请在 daemon.json 的 \"insecure-registries\" 或 registries.conf 中声明"), e.Mirror)
	case engine.HintCA:
		hint = fmt.Sprintf(text("the engine fetches by itself and may not know the certificate authority: put it into /etc/docker/certs.d/%s/ca.crt", "引擎自行下载，可能不信任该证书颁发机构：请把 CA 证书放到 /etc/docker/certs.d/%s/ca.crt"), e.Mirror)
	default:
		return ""
	}
	return "\n  " + hint
}
