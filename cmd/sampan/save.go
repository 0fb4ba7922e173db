package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
)

func newSaveCommand() *cobra.Command {
	var o saveOptions
	cmd := &cobra.Command{
		Use:   "save IMAGE... -o FILE",
		Short: text("Save images to an archive", "将镜像保存为归档文件"),
		Long: text(
			"Save images, with all that they consist of, to one archive that docker load, podman load, ctr images import and\nskopeo read, and sampan load too. No container engine is needed. Images come from the mirror where you named one,\nand from their own registries otherwise. Without images, or for \"-\", names are read from standard input.\n\nThe same images give the same archive, byte for byte. Beside FILE are written FILE.sha256sum, for sha256sum -c, and\nFILE.bundle.json, which says what is in it: with --since, the next archive holds only what is new. FILE itself\nappears when it is complete; a save that was interrupted goes on where it was when it is run again.\n\nOf an image for several platforms, that of this machine is saved (linux for others); --platform all saves all.",
			"将镜像及其全部内容保存到一个归档文件，docker load、podman load、ctr images import、skopeo 以及 sampan load\n均可读取。无需容器引擎。指定了镜像站时从镜像站获取，否则从各自的仓库获取。不给出镜像或给出 \"-\" 时，从标准\n输入读取名字。\n\n相同的镜像得到逐字节相同的归档。FILE 旁边会写入 FILE.sha256sum（供 sha256sum -c 使用）和说明其内容的\nFILE.bundle.json：配合 --since，下一个归档只包含新增内容。FILE 在完整后才会出现；被中断的保存再次运行时会从\n中断处继续。\n\n对于多平台镜像，默认保存本机平台（非 Linux 机器为 linux）；--platform all 保存全部平台。"),
		Example: "  sampan save nginx:alpine redis:7 -o images.tar\n" +
			"  sampan save --platform linux/amd64,linux/arm64 --volume 4000MiB quay.io/a/b:1 -o /media/usb/b.tar\n" +
			"  sampan save --since january.tar.bundle.json nginx:alpine -o february.tar.zst\n" +
			"  kubeadm config images list | sampan save -o kubernetes.tar",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", text("`FILE` to write; \"-\" for standard output", "写入的文件 `FILE`；\"-\" 表示标准输出"))
	f.StringVar(&o.format, "format", "oci", text("`FORMAT`: oci (read by all) or docker (what docker save writes, one platform)", "格式 `FORMAT`：oci（均可读取）或 docker（docker save 的格式，单一平台）"))
	f.StringSliceVar(&o.platforms, "platform", nil, text("`PLATFORM` to save, such as linux/arm64, or all; may be repeated", "要保存的平台 `PLATFORM`，例如 linux/arm64，或 all；可重复"))
	f.BoolVar(&o.referrers, "referrers", false, text("save signatures, SBOMs and attestations too", "同时保存签名、SBOM 与证明"))
	f.BoolVar(&o.zstd, "zstd", false, text("compress the archive with zstd (default for FILE.zst)", "用 zstd 压缩归档（FILE 以 .zst 结尾时默认启用）"))
	f.StringVar(&o.volume, "volume", "", text("split into FILE.001, FILE.002, … of at most `SIZE`, such as 4000MiB for a FAT disk", "分卷为 FILE.001、FILE.002……，每卷至多 `SIZE`，例如 FAT 磁盘用 4000MiB"))
	f.StringSliceVar(&o.since, "since", nil, text("leave out what the archive of this `BUNDLE` (a bundle.json, an archive or an OCI layout) has; may be repeated", "省去 `BUNDLE`（bundle.json、归档或 OCI layout）中已有的内容；可重复"))
	f.StringVar(&o.have, "have", "", text("leave out what is at `REGISTRY`[/NAMESPACE/] where the images will be loaded, in the names of load --to", "省去将要载入的 `REGISTRY`[/NAMESPACE/] 中已有的内容，命名规则同 load --to"))
	addNamingFlags(f, &o.naming)
	f.BoolVarP(&o.quiet, "quiet", "q", false, text("do not tell of each blob", "不显示每个 blob 的进度"))
	f.BoolVar(&o.json, "json", false, text("tell what was written as JSON, one event a line", "以 JSON 输出写入的内容，每行一个事件"))
	o.progress.addTo(cmd)
	f.BoolVar(&o.bare, "bare", false, text("write FILE alone, and nothing beside it", "只写 FILE，不写旁边的文件"))
	o.registries.addFlags(f)
	o.client.addFlags(f)
	f.Lookup("mirror").Usage = text("`ADDRESS` of the mirror to save from, such as mirror.example.com (default SAMPAN_MIRROR, then client.yaml, then none: the images' own registries)", "从中获取镜像的镜像站地址 `ADDRESS`，例如 mirror.example.com（默认依次为 SAMPAN_MIRROR、client.yaml；都没有时从各自的仓库获取）")
	o.client.addAccessFlags(f)
	return cmd
}

// saveOptions are what the command line says.
type saveOptions struct {
	output, format, volume, have       string
	platforms, since                   []string
	referrers, zstd, bare, quiet, json bool
	naming                             mirror.Naming // for have
	progress                           progressFlag
	registries                         registryOptions
	client                             clientOptions
}

func (o saveOptions) run(cmd *cobra.Command, args []string) error {
	plan, write, err := o.options()
	if err != nil {
		return err
	}
	images, err := imageArguments(cmd.InOrStdin(), args)
	if err != nil {
		return err
	}
	m, err := o.client.open()
	if err != nil {
		return err
	}
	registries, err := o.registries.sources(m)
	if err != nil {
		return err
	}
	defer registries.close()
	var sources []archive.Source
	for _, image := range images {
		s, err := registries.image(image)
		if err != nil {
			return &usageError{fmt.Errorf("%s: %w", image, plain(err))}
		}
		sources = append(sources, s)
	}
	if plan.Without, err = o.without(cmd, sources, registries, plan); err != nil {
		return err
	}
	if plan.Format == archive.Docker && len(plan.Platforms) != 1 && !o.quiet {
		fmt.Fprintln(cmd.ErrOrStderr(), text("--format docker holds one platform of each image: linux/amd64, or else the first", "--format docker 只容纳每个镜像的一个平台：linux/amd64，没有时为第一个"))
	}
	p, err := archive.NewPlan(cmd.Context(), sources, plan)
	if err != nil {
		return archiveError(err)
	}
	show := o.progress.show(cmd.ErrOrStderr(), o.quiet || o.json, archiveStates())
	write.Progress = show
	if o.output == "-" {
		err := archive.Stream(cmd.Context(), p, cmd.OutOrStdout(), write)
		show.Close()
		return archiveError(err)
	}
	names, err := archive.Write(cmd.Context(), p, o.output, write)
	show.Close()
	if err != nil {
		return o.interrupted(archiveError(err))
	}
	return o.tell(cmd.OutOrStdout(), p, names)
}

// options reads the flags.
func (o *saveOptions) options() (archive.PlanOptions, archive.WriteOptions, error) {
	plan := archive.PlanOptions{Referrers: o.referrers, Configs: true, Text: text}
	write := archive.WriteOptions{Zstd: o.zstd || strings.HasSuffix(o.output, ".zst") || strings.HasSuffix(o.output, ".zstd"), Bare: o.bare, Text: text}
	switch {
	case o.output == "":
		return plan, write, usagef("%s", text("say where to: -o FILE", "请指定写入的文件：-o FILE"))
	case o.output == "-" && o.volume != "":
		return plan, write, usagef("%s", text("standard output has no volumes", "标准输出不能分卷"))
	case o.output == "-" && o.json:
		return plan, write, usagef("%s", text("standard output has the archive: --json needs -o FILE", "标准输出用于归档：--json 需要 -o FILE"))
	case o.format == "docker" && (len(o.since) > 0 || o.have != ""):
		return plan, write, usagef("%s", text("a bundle is an OCI archive, which docker load reads too: leave --format docker out", "只含新增内容的归档须为 OCI 格式（docker load 也可读取）：请去掉 --format docker"))
	case o.have == "" && o.naming != (mirror.Naming{}):
		return plan, write, usagef("%s", text("the rules of names are for --have", "命名规则用于 --have"))
	case o.format == "docker":
		plan.Format, write.Format = archive.Docker, archive.Docker
	case o.format != "oci":
		return plan, write, usagef(text("--format is oci or docker, not %q", "--format 应为 oci 或 docker，而不是 %q"), o.format)
	}
	if o.volume != "" {
		size, err := parseVolume(o.volume)
		if err != nil {
			return plan, write, err
		}
		write.Volume = size
	}
	var err error
	plan.Platforms, err = platformsOf(o.platforms)
	return plan, write, err
}

// platformsOf are those to save; none for all.
func platformsOf(names []string) ([]transfer.Platform, error) {
	if len(names) == 0 {
		return []transfer.Platform{{OS: "linux", Architecture: runtime.GOARCH}}, nil
	}
	var list []transfer.Platform
	for _, name := range names {
		if name == "all" {
			return nil, nil
		}
		p, err := transfer.ParsePlatform(name)
		if err != nil {
			return nil, usagef(text("%q is no platform: write linux/amd64, linux/arm/v7, or all", "%q 不是平台：应形如 linux/amd64、linux/arm/v7 或 all"), name)
		}
		list = append(list, p)
	}
	return list, nil
}

const minVolume = 1 << 20 // bytes

// parseVolume reads a size such as "4GiB".
func parseVolume(s string) (int64, error) {
	number := strings.TrimRight(s, "KMGTiBkb")
	factor, ok := map[string]int64{
		"": 1, "B": 1, "K": 1 << 10, "KiB": 1 << 10, "M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40,
		"KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}[s[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || n <= 0 || n > (1<<62)/factor || n*factor < minVolume {
		return 0, usagef(text("--volume is a size of at least 1MiB, such as 4GiB, not %q", "--volume 应为不小于 1MiB 的大小，例如 4GiB，而不是 %q"), s)
	}
	return n * factor, nil
}

// without are the blobs that the other side has.
func (o saveOptions) without(cmd *cobra.Command, sources []archive.Source, r *imageSources, plan archive.PlanOptions) (map[oci.Digest]oci.Repository, error) {
	without := make(map[oci.Digest]oci.Repository)
	for _, name := range o.since {
		has, err := archive.Contents(cmd.Context(), name, archive.OpenOptions{Text: text})
		if err != nil {
			return nil, archiveError(err)
		}
		maps.Copy(without, has)
	}
	if o.have == "" {
		return without, nil
	}
	have := o.have
	if !strings.Contains(have, "/") {
		have += "/" // only read: no name is left out by mistake
	}
	t, err := parseTarget("--have", have)
	if err == nil {
		err = t.checkNaming(o.naming, o.have)
	}
	if err != nil {
		return nil, err
	}
	reader, err := r.get(t.registry, false)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		p, err := archive.NewPlan(cmd.Context(), []archive.Source{s}, plan)
		if err != nil {
			return nil, archiveError(err)
		}
		there, err := t.name(s.Name, o.naming)
		if err != nil {
			return nil, plain(err)
		}
		if err := present(cmd.Context(), reader, there.Repository, p.Descriptors(), s.Name.Repository, without); err != nil {
			return nil, archiveError(err)
		}
	}
	return without, nil
}

// present adds the blobs that a repository holds, which the archive calls name.
func present(ctx context.Context, r oci.BlobStater, repo oci.Repository, blobs []oci.Descriptor, name oci.Repository, to map[oci.Digest]oci.Repository) error {
	for _, d := range blobs {
		if _, ok := to[d.Digest]; ok {
			continue
		}
		_, err := r.StatBlob(ctx, repo, d.Digest)
		switch {
		case err == nil:
			to[d.Digest] = name
		case !oci.IsUnknown(err):
			return fmt.Errorf("%s: %w", repo, err)
		}
	}
	return nil
}

// interrupted says what is left behind.
func (o saveOptions) interrupted(err error) error {
	left, _ := filepath.Glob(o.output + "*.partial") // a bad pattern finds nothing
	if len(left) == 0 || errors.Is(err, archive.ErrBusy) {
		return err
	}
	return fmt.Errorf(text("%w\nwhat was fetched is kept in %s: run the same command again to go on, or remove it", "%w\n已获取的内容保留在 %s：再次运行同一命令可继续，也可将其删除"), err, strings.Join(left, " "))
}
