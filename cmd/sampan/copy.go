package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
)

func newCopyCommand() *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:   "copy SRC... DST",
		Short: text("Copy images from registry to registry", "在镜像仓库之间复制镜像"),
		Long: text(
			"Copy images to another registry: all platforms, unless --platform chooses, byte for byte, so that digests stay\nthe same. What the target has is not sent; a copy that was cut off is finished by running it again. SRC may be\n\"-\": names are read from standard input, one a line.\n\nA DST that ends in / is a place below which images get their names by a rule: their own path, unless --flatten,\n--with-registry or --template say otherwise. Two images on one name are refused before anything is sent. Any\nother DST is the name of the copy; without a tag it gets the source's.\n\nCredentials are those of Docker (docker login). Registries on this machine (localhost) are spoken to by plain\nHTTP, others by HTTPS unless --plain-http names them. At the end is printed what to type to pull the copies.\n\nThe exit code is 0 when every image was copied, 1 when some were not, and 2 for a mistake in the command.",
			"把镜像逐字节复制到另一个仓库，摘要保持不变；默认包含所有平台，可用 --platform 选择。目标已有的内容不再传输；\n中断后再次运行即可继续完成。SRC 可以是 \"-\"：从标准输入读取镜像名，每行一个。\n\n以 / 结尾的 DST 表示一个位置，其下的名字按规则得出：默认保留原路径，可用 --flatten、--with-registry 或\n--template 改变。若两个镜像会得到同一个名字，则在传输之前拒绝。其他形式的 DST 就是副本的名字；未写标签时\n使用来源的标签。\n\n凭据取自 Docker（docker login）。本机（localhost）的仓库使用明文 HTTP，其他仓库使用 HTTPS，除非用\n--plain-http 指定。结束时打印拉取副本的命令。\n\n退出码：0 表示全部复制成功，1 表示有些镜像未能复制，2 表示命令有误。"),
		Example: "  sampan copy gcr.io/distroless/static:nonroot registry.example.com/base/static:nonroot\n" +
			"  sampan copy --flatten gcr.io/google-samples/microservices-demo/emailservice:v0.10.0 docker.io/me/\n" +
			"  sampan copy --all-tags --referrers quay.io/prometheus/prometheus localhost:5000/\n" +
			"  kubeadm config images list | sampan copy --platform linux/amd64 --dry-run - registry.example.com/k8s/",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("%s", text("copy takes the images to copy and, last, where to", "copy 需要要复制的镜像，以及最后的目标"))
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.platforms, "platform", nil, text("`OS/ARCH` to copy, such as linux/arm64, in the place of all; may be repeated. One alone is copied without the index around it", "只复制该平台 `OS/ARCH`，例如 linux/arm64；可重复。只指定一个时，不保留外层索引"))
	f.BoolVarP(&o.allTags, "all-tags", "a", false, text("copy all tags of the repositories", "复制仓库的所有标签"))
	f.BoolVar(&o.referrers, "referrers", false, text("copy signatures, SBOMs and attestations too", "同时复制签名、SBOM 和证明"))
	f.BoolVar(&o.dryRun, "dry-run", false, text("look at everything and send nothing", "只检查，不传输"))
	f.BoolVar(&o.keepGoing, "keep-going", false, text("copy the other images where one cannot be found", "某个镜像找不到时继续复制其他镜像"))
	addNamingFlags(f, &o.naming)
	o.registries.addFlags(f)
	o.registries.addCAFlag(f)
	f.IntVarP(&o.jobs, "jobs", "j", 0, text("`NUMBER` of blobs that are carried at once (default 6)", "同时传输的数据块数 `NUMBER`（默认 6）"))
	f.BoolVarP(&o.quiet, "quiet", "q", false, text("print nothing but the names and digests of the copies", "只打印副本的名字与摘要"))
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text, or json for one event a line", "输出格式 `FORMAT`：text，或 json（每行一个事件）"))
	o.progress.addTo(cmd)
	return cmd
}

// copyOptions are what the command line says.
type copyOptions struct {
	platforms                                    []string
	allTags, referrers, dryRun, keepGoing, quiet bool
	naming                                       mirror.Naming
	output                                       string
	registries                                   registryOptions
	jobs                                         int
	progress                                     progressFlag
}

// target reads DST, and refuses what cannot be meant of it.
func (o copyOptions) target(dst string, sources int) (target, error) {
	t, err := parseTarget("DST", dst)
	switch {
	case err != nil, t.isPlace():
		return t, err
	case o.naming != (mirror.Naming{}):
		return t, notAPlace(dst)
	case sources > 1:
		return t, usagef(text("several images cannot have one name: to copy them below a place, write %s/", "多个镜像不能使用同一个名字：如要复制到某个位置之下，请写 %s/"), dst)
	case o.allTags && !t.tag.IsZero():
		return t, usagef(text("--all-tags keeps the tags: write %s without one", "--all-tags 会保留标签：%s 不应带标签"), dst)
	}
	return t, nil
}

// copyJob is the copy of one source.
func copyJob(ref, named oci.Reference) transfer.Job {
	job := transfer.Job{Source: ref, Target: named.Repository}
	if !named.Tag.IsZero() {
		job.Tags = []oci.Tag{named.Tag}
	}
	return job
}

func (o copyOptions) run(cmd *cobra.Command, args []string) error {
	if o.output != "text" && o.output != "json" {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	}
	if err := o.naming.Check(); err != nil {
		return &usageError{plain(err)}
	}
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	names, err := imageArguments(cmd.InOrStdin(), args[:len(args)-1])
	if err != nil {
		return err
	}
	target, err := o.target(args[len(args)-1], len(names))
	if err != nil {
		return err
	}
	r, err := o.registries.open()
	if err != nil {
		return err
	}
	defer r.close()
	writer, err := r.get(target.registry, true)
	if err != nil {
		return &usageError{err}
	}
	jobs, err := o.jobsFor(cmd, names, target, r)
	if err != nil {
		return err
	}
	for i := range jobs {
		jobs[i].Platforms, jobs[i].Referrers = platforms, o.referrers
	}
	show := o.show(cmd)
	report, err := transfer.Copy(cmd.Context(), jobs, writer, transfer.Options{
		Blobs: o.jobs, DryRun: o.dryRun, KeepGoing: o.keepGoing, Progress: show,
		Noted: func(notes []transfer.Note) {
			for _, n := range notes {
				show.Say(noteText(n))
			}
		},
	})
	show.Close()
	if told := (telling{json: o.output == "json", quiet: o.quiet, dryRun: o.dryRun}).tell(cmd, report); told != nil {
		return told
	}
	return copyError(err)
}

// parsePlatforms reads --platform; none means all, and so does "all".
func parsePlatforms(names []string) ([]transfer.Platform, error) {
	var list []transfer.Platform
	for _, s := range names {
		if s == "all" {
			return nil, nil
		}
		p, err := transfer.ParsePlatform(s)
		if err != nil {
			return nil, usagef(text("%q is no platform: write OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64", "%q 不是平台：应写 OS/ARCH 或 OS/ARCH/VARIANT，例如 linux/arm64"), s)
		}
		list = append(list, p)
	}
	return list, nil
}

// jobsFor makes a job of each name, and of each tag where all are wanted. What is there
// twice is one.
func (o copyOptions) jobsFor(cmd *cobra.Command, names []string, to target, r *registries) ([]transfer.Job, error) {
	var jobs []transfer.Job
	seen := make(map[[2]string]bool)
	for _, name := range names {
		ref, err := oci.ParseReference(name)
		if err != nil {
			return nil, &usageError{plain(err)}
		}
		reader, err := r.get(ref.Repository.Registry(), false)
		if err != nil {
			return nil, err
		}
		refs := []oci.Reference{ref}
		if o.allTags {
			if !ref.Untagged() {
				return nil, usagef(text("--all-tags takes repositories: write %s without a tag or digest", "--all-tags 接受仓库名：%s 不应带标签或摘要"), name)
			}
			tags, err := reader.Registry.Tags(cmd.Context(), ref.Repository)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ref.Repository, hinted(err))
			}
			refs = refs[:0]
			for _, tag := range tags {
				refs = append(refs, oci.Reference{Repository: ref.Repository, Tag: tag})
			}
		}
		for _, ref := range refs {
			named, err := to.name(ref, o.naming)
			if err != nil {
				return nil, usagef("%s: %w", ref, plain(err))
			}
			pair := [2]string{ref.String(), named.String()}
			if seen[pair] {
				continue
			}
			seen[pair] = true
			job := copyJob(ref, named)
			job.Reader = reader
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// show is where progress goes: beside the result, or, as events, before it.
func (o copyOptions) show(cmd *cobra.Command) *progress.Show {
	if o.output == "json" && !o.progress.given() {
		return progress.New(cmd.OutOrStdout(), progress.Options{Form: progress.Events})
	}
	return o.progress.show(cmd.ErrOrStderr(), o.quiet, copyStates())
}

// copyStates are how pieces end, in words.
func copyStates() map[progress.State]string {
	return map[progress.State]string{
		progress.Done: text("copied", "已复制"), progress.Present: text("already there", "已存在"), progress.Failed: text("failed", "失败"),
	}
}

func noteText(n transfer.Note) string {
	switch n.Kind {
	case transfer.NoteReferrersByTag:
		return fmt.Sprintf(text("%s has no referrers API: what refers to images is listed under tags there (sha256-…)", "%s 不支持 referrers API：与镜像关联的内容将以标签（sha256-…）列出"), n.Repository)
	default:
		return fmt.Sprintf("%s: %s", n.Repository, n.Kind)
	}
}

// copyError says what a person can do about the errors of a copy.
func copyError(err error) error {
	var collision *transfer.Collision
	if errors.As(err, &collision) {
		return usagef(text("%s and %s would both become %s; nothing was sent. Choose another rule of names, such as --with-registry", "%s 与 %s 都会成为 %s；未传输任何内容。请选择其他命名规则，例如 --with-registry"), collision.Sources[0], collision.Sources[1], collision.Target)
	}
	var list []error
	for _, each := range eachOf(err) {
		list = append(list, hinted(each))
	}
	return errors.Join(list...)
}

// eachOf returns what was joined. An error with several causes and a text of its own is one.
func eachOf(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if list := joined.Unwrap(); len(list) > 0 && errors.Join(list...).Error() == err.Error() {
			return list
		}
	}
	return []error{err}
}

// hinted adds to an error what a person can do.
func hinted(err error) error {
	var (
		none *transfer.NoPlatform
		e    *oci.Error
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &none):
		return errors.New(noPlatform(none))
	case errors.Is(err, context.Canceled):
		return interruption(err)
	case errors.Is(err, transfer.ErrHeldBack):
		return &told{text("nothing of it was sent, because of what else is wrong", "因其他错误，未传输其任何内容"), err}
	case !errors.As(err, &e):
		return plainWithin(err)
	}
	if what := advice(err); what != "" {
		return fmt.Errorf("%s\n%s", shown(err, e), what)
	}
	return errors.New(shown(err, e))
}

func noPlatform(e *transfer.NoPlatform) string {
	return fmt.Sprintf(text("%s has nothing for %s; there is %s", "%s 没有平台 %s；现有：%s"), e.Source, e.Platform, e.List())
}

// shown is an error of the protocol with what was attempted, and without its cause,
// which is for logs.
func shown(err error, e *oci.Error) string {
	if one := (*transfer.Failed)(nil); errors.As(err, &one) {
		return fmt.Sprintf(text("copy %s: %s", "复制 %s：%s"), one.Source, shown(one.Err, e))
	}
	if e.Message == "" {
		return err.Error()
	}
	if at := strings.Index(err.Error(), e.Error()); at >= 0 {
		return err.Error()[:at] + sentence(e)
	}
	return sentence(e)
}
