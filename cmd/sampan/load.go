package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

func newLoadCommand() *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load -i FILE [IMAGE...]",
		Short: text("Load images from an archive into an engine, a registry or a running mirror", "将归档中的镜像载入引擎、仓库或正在运行的镜像站"),
		Long: text(
			"Load the images of an archive, or those named, into the container engine of this machine; with --to, into a\nregistry; with --into, into a running mirror, which serves them from then on. FILE is what sampan save, docker save,\npodman save, ctr images export or skopeo wrote: an OCI archive or one of Docker, compressed with gzip or zstd or not,\nthe name of its volumes without .001, or the directory of an OCI layout. \"-\" is standard input.\n\nWhat is beside the archive in FILE.sha256sum is checked first. Nothing is extracted, and every digest is proven: a\nbroken or hostile archive is refused.\n\nA registry or mirror gets blobs that it lacks, then manifests, then tags; a load that was interrupted goes on when it\nis run again. Below a --to that ends in / images get their names by a rule, as copy gives them: their own path, unless\n--flatten, --with-registry or --template say otherwise; in a mirror they keep their names. Signatures and the like in\nthe archive go along. After --to is printed what to type to pull the images.",
			"将归档中的全部镜像或指定镜像载入本机的容器引擎；使用 --to 时载入仓库；使用 --into 时载入正在运行的镜像站，\n此后由它提供这些镜像。FILE 可以是 sampan save、docker save、podman save、ctr images export 或 skopeo 写出的文件：\nOCI 归档或 Docker 归档，可用 gzip 或 zstd 压缩；也可以是分卷去掉 .001 的名字，或 OCI layout 目录。\"-\" 表示标准输入。\n\n首先校验归档旁的 FILE.sha256sum。不解压任何文件，每个摘要都会验证：损坏或恶意的归档会被拒绝。\n\n仓库或镜像站依次得到缺少的 blob、清单和标签；被中断的载入再次运行时会继续。--to 以 / 结尾时，其下的名字与 copy\n一样按规则得出：默认保留原路径，可用 --flatten、--with-registry 或 --template 改变；载入镜像站时镜像名不变。归档中的\n签名等会一并载入。使用 --to 时，结束后打印拉取镜像的命令。"),
		Example: "  sampan load -i images.tar\n" +
			"  sampan load -i /media/usb/images.tar --to registry.example.com/mirror/\n" +
			"  sampan load -i images.tar --to registry.example.com/mirror/ --flatten --dry-run\n" +
			"  sampan load -i kubernetes.tar --engine containerd --namespace k8s.io\n" +
			"  sampan load -i images.tar --into http://127.0.0.1:5001\n" +
			"  sampan load -i images.tar --list",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.VarP(&onceFlag{value: &o.input}, "input", "i", text("`FILE` to read, or an OCI layout directory; \"-\" for standard input", "要读取的文件 `FILE` 或 OCI layout 目录；\"-\" 表示标准输入"))
	f.BoolVar(&o.list, "list", false, text("tell what is in the archive, and load nothing", "只列出归档内容，不载入"))
	f.StringVar(&o.to, "to", "", text("registry to load into: `HOST`/, HOST/NAMESPACE/, or HOST/REPOSITORY[:TAG] for one image", "载入的仓库：`HOST`/、HOST/NAMESPACE/，或单个镜像的 HOST/REPOSITORY[:TAG]"))
	f.StringSliceVar(&o.platforms, "platform", nil, text("`OS/ARCH` to load, such as linux/arm64, in the place of all that the archive has; may be repeated", "只载入该平台 `OS/ARCH`，例如 linux/arm64，而非归档中的全部；可重复"))
	addNamingFlags(f, &o.naming)
	f.BoolVar(&o.dryRun, "dry-run", false, text("with --to or --into: look at everything and send nothing", "与 --to 或 --into 同用：只检查，不传输"))
	f.StringVar(&o.engine, "engine", "auto", text("`ENGINE` to load into: docker, podman, nerdctl, containerd, or auto for the first that answers", "载入的引擎 `ENGINE`：docker、podman、nerdctl、containerd，或 auto（第一个可用的）"))
	f.StringVar(&o.namespace, "namespace", "", text("`NAMESPACE` of containerd, such as k8s.io (default CONTAINERD_NAMESPACE, then default)", "containerd 的命名空间 `NAMESPACE`，例如 k8s.io（默认依次为 CONTAINERD_NAMESPACE、default）"))
	f.StringVar(&o.name, "name", "", text("`REPOSITORY` of images for which the archive tells only a tag or nothing", "归档中没有仓库名的镜像所用的 `REPOSITORY`"))
	f.BoolVar(&o.unchecked, "no-checksum", false, text("do not read the archive for FILE.sha256sum first", "不先按 FILE.sha256sum 校验归档"))
	f.BoolVarP(&o.quiet, "quiet", "q", false, text("print nothing but names and digests", "只打印名字与摘要"))
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text, or json for one event a line", "输出格式 `FORMAT`：text，或 json（每行一个事件）"))
	o.progress.addTo(cmd)
	o.registries.addFlags(f)
	o.registries.addCAFlag(f)
	o.into.addFlags(f)
	return cmd
}

// loadOptions are what the command line says.
type loadOptions struct {
	input, engine, namespace, name, to, output string
	list, unchecked, quiet, dryRun             bool
	platforms                                  []string
	naming                                     mirror.Naming
	progress                                   progressFlag
	registries                                 registryOptions
	into                                       intoOptions
}

// A onceFlag is a flag with a file, which may be given once.
type onceFlag struct{ value *string }

// String implements pflag.Value.
func (f *onceFlag) String() string {
	if f.value == nil {
		return ""
	}
	return *f.value
}

// Type implements pflag.Value.
func (f *onceFlag) Type() string { return "string" }

// Set implements pflag.Value.
func (f *onceFlag) Set(s string) error {
	if *f.value != "" {
		return errors.New(text("one archive at a time; run the command for each", "每次只能载入一个归档；请分别运行"))
	}
	*f.value = s
	return nil
}

func (o loadOptions) json() bool { return o.output == "json" }

func (o loadOptions) run(cmd *cobra.Command, args []string) error {
	if o.input == "" {
		return usagef("%s", text("say what to load: -i FILE", "请指定要载入的文件：-i FILE"))
	}
	if o.output != "text" && !o.json() {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	}
	if o.engine != "auto" && !slices.Contains(engineNames(), o.engine) {
		return usagef(text("--engine is %s or auto, not %q", "--engine 应为 %s 或 auto，而不是 %q"), strings.Join(engineNames(), ", "), o.engine)
	}
	to, err := o.target()
	if err != nil {
		return err
	}
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	into, err := o.mirror()
	if err != nil {
		return err
	}
	options := archive.OpenOptions{Text: text}
	if o.name != "" {
		base, err := oci.ParseRepository(o.name)
		if err != nil {
			return usagef("--name: %w", plain(err))
		}
		options.Base = base
	}
	a, err := o.open(cmd, options)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // of what was only read
	images, err := chosen(a.Images(), args)
	if err != nil {
		return err
	}
	if o.list && o.json() {
		return listJSON(cmd.Context(), cmd.OutOrStdout(), a, images)
	}
	if o.list {
		return o.listText(cmd, a, images)
	}
	if into != nil {
		return o.loadMirror(cmd, a, images, into, platforms)
	}
	if o.to != "" {
		return o.loadRegistry(cmd, a, images, to, platforms)
	}
	return o.loadEngine(cmd, a, images, platforms)
}

// target reads --to and what goes with it; zero where images go elsewhere.
func (o loadOptions) target() (target, error) {
	switch registry := o.to != ""; {
	case registry && (o.engine != "auto" || o.namespace != ""):
		return target{}, usagef("%s", text("--to goes with neither --engine nor --namespace", "--to 不能与 --engine 或 --namespace 同时使用"))
	case registry:
	case o.naming != (mirror.Naming{}) && o.into.admin != "":
		return target{}, usagef("%s", text("in a running mirror images keep their names: the rules of names are for --to", "载入镜像站时镜像名不变：命名规则用于 --to"))
	case o.naming != (mirror.Naming{}):
		return target{}, usagef("%s", text("the rules of names are for a registry: say --to", "命名规则用于仓库：请指定 --to"))
	case o.registries.ca != "":
		return target{}, usagef("%s", text("--ca is for a registry: say --to", "--ca 用于仓库：请指定 --to"))
	case o.dryRun && o.into.admin == "":
		return target{}, usagef("%s", text("--dry-run is for a registry or a running mirror: say --to or --into", "--dry-run 用于仓库或镜像站：请指定 --to 或 --into"))
	default:
		return target{}, nil
	}
	t, err := parseTarget("--to", o.to)
	if err != nil {
		return t, err
	}
	return t, t.checkNaming(o.naming, o.to)
}

// open checks and opens what is to be loaded.
func (o loadOptions) open(cmd *cobra.Command, options archive.OpenOptions) (*archive.Archive, error) {
	ctx := cmd.Context()
	var stream io.Reader
	if info, err := os.Stat(o.input); o.input == "-" {
		stream = cmd.InOrStdin()
	} else if err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		p := &pipe{name: o.input}
		defer func() { _ = p.Close() }() // of what was only read
		stream = newInput(ctx, p)
	}
	if stream != nil {
		a, err := archive.Read(ctx, stream, options)
		if err != nil {
			return nil, archiveError(err)
		}
		return a, nil
	}
	if !o.unchecked {
		checked, err := archive.CheckSums(archive.Base(o.input))
		if err != nil {
			return nil, archiveError(err)
		}
		if checked && !o.quiet && !o.json() {
			fmt.Fprintln(cmd.ErrOrStderr(), text("the checksums match", "校验和一致"))
		}
	}
	a, err := archive.Open(ctx, o.input, options)
	if _, gone := os.Stat(o.input); errors.Is(err, os.ErrNotExist) && gone != nil {
		return nil, fmt.Errorf(text("%s: there is no such archive", "%s：没有这个归档"), o.input)
	}
	if err != nil {
		return nil, archiveError(err)
	}
	return a, nil
}

// chosen are the images that were named, or all.
func chosen(all []layout.Image, names []string) ([]layout.Image, error) {
	if len(all) == 0 {
		return nil, errors.New(text("the archive names no image", "归档中没有镜像"))
	}
	if len(names) == 0 {
		return all, nil
	}
	var images []layout.Image
	for _, name := range names {
		ref, err := oci.ParseReference(name)
		if err != nil {
			return nil, &usageError{plain(err)}
		}
		n := slices.IndexFunc(all, func(i layout.Image) bool {
			same := i.Ref.Repository == ref.Repository
			if !ref.Digest.IsZero() {
				return same && i.Descriptor.Digest == ref.Digest
			}
			return same && i.Ref.Tag == ref.Tag
		})
		if n < 0 {
			return nil, fmt.Errorf(text("%s is not in the archive; --list tells what is", "归档中没有 %s；--list 可列出其内容"), client.Familiar(ref))
		}
		images = append(images, all[n])
	}
	return images, nil
}

// replan is the plan of an archive that holds images of a, as every engine reads it.
// What a names and does not hold is left to the engine.
func replan(ctx context.Context, a *archive.Archive, images []layout.Image, platforms []transfer.Platform) (*archive.Plan, error) {
	var sources []archive.Source
	missing := make(map[oci.Digest]oci.Repository)
	for _, i := range images {
		at := i.Ref
		at.Digest = i.Descriptor.Digest
		s := archive.Source{At: at, Reader: a}
		if !isUnnamed(i) {
			s.Name = i.Ref
		}
		sources = append(sources, s)
		gone, err := a.Missing(ctx, i.Ref.Repository)
		if err != nil {
			return nil, err
		}
		for _, d := range gone {
			missing[d.Digest] = oci.Repository{}
		}
	}
	p, err := archive.NewPlan(ctx, sources, archive.PlanOptions{Platforms: platforms, Without: missing, Text: text})
	return p, err
}
