package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/syncing"
)

func newSyncCommand() *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:   "sync -f FILE",
		Short: text("Keep copies of images in step with where they come from", "使镜像的副本与来源保持一致"),
		Long: text(
			"Copy the images of a list to their targets: only what is missing there or has moved. What fails is told and\nkeeps nothing else from going; what was cut off is finished by the next run. With a schedule in the list, the\nfirst run is at once, and others follow until the command is ended.\n\nThe exit code is 0 when everything is in step, 1 when something failed, and 2 for a mistake in the command or\nthe list.",
			"把列表中的镜像复制到目标，只复制目标缺少或已变化的内容。失败的镜像会被报告，不影响其他镜像；被中断的\n复制由下一次运行完成。列表中写有时间计划时，立即运行第一次，\n此后按计划持续运行，直到命令被结束。\n\n退出码：0 表示全部一致，1 表示有失败，2 表示命令或列表有误。"),
		Example: "  sampan sync -f sync.yaml\n" +
			"  sampan sync -f sync.yaml --prune --dry-run\n" +
			"  sampan sync --kubeadm v1.31.0 --to registry.example.com/k8s/",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", text("`FILE` of the list; - is standard input", "列表文件 `FILE`；- 表示标准输入"))
	f.StringSliceVar(&o.kubeadm, "kubeadm", nil, text("the images of this `VERSION` of Kubernetes too, such as v1.31.0; may be repeated", "同时复制 Kubernetes 版本 `VERSION` 的镜像，例如 v1.31.0；可重复"))
	f.StringVar(&o.constants, "kubeadm-images", "", text("`FILE` with the images of a version that is not known here: kubeadm's constants.go, or the output of kubeadm config images list", "未知版本的镜像列表文件 `FILE`：kubeadm 的 constants.go，或 kubeadm config images list 的输出"))
	f.StringSliceVar(&o.to, "to", nil, text("`TARGET` of what the list gives none, such as registry.example.com/mirror/; may be repeated", "列表未指定目标时的目标 `TARGET`，例如 registry.example.com/mirror/；可重复"))
	f.BoolVar(&o.prune, "prune", false, text("delete tags at the targets that the list chooses no longer", "删除目标上列表不再选中的标签"))
	f.BoolVarP(&o.yes, "yes", "y", false, text("delete without asking", "删除时不询问"))
	f.BoolVar(&o.verify, "verify", false, text("ask the targets for all manifests below each tag, not only for where it points", "向目标逐一确认每个标签之下的所有清单，而不只是标签的指向"))
	f.BoolVar(&o.dryRun, "dry-run", false, text("only tell what would be copied and deleted", "只说明将复制和删除什么"))
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text or json", "输出格式 `FORMAT`：text 或 json"))
	o.registries.addFlags(f)
	o.registries.addCAFlag(f)
	f.BoolVarP(&o.quiet, "quiet", "q", false, text("show no progress", "不显示进度"))
	o.progress.addTo(cmd)
	f.StringVar(&o.metrics, "metrics", "", text("`FILE` for the textfile collector of Prometheus", "供 Prometheus textfile collector 读取的文件 `FILE`"))
	return cmd
}

// syncOptions are what the command line says.
type syncOptions struct {
	file, constants, output, metrics string
	kubeadm, to                      []string
	prune, yes, verify               bool
	dryRun, quiet                    bool
	progress                         progressFlag
	registries                       registryOptions
}

func (o syncOptions) run(cmd *cobra.Command) error {
	if o.output != "text" && o.output != "json" {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	}
	if err := o.checkMetrics(); err != nil {
		return err
	}
	l, err := o.list(cmd.InOrStdin())
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		return &usageError{err}
	}
	if o.prune && !o.dryRun && !o.yes && l.Repeats() {
		return usagef("%s", text("with a schedule nobody can be asked: say --yes to --prune", "有时间计划时无法询问：--prune 需同时使用 --yes"))
	}
	for {
		r, err := o.once(cmd, l)
		if failure := (*metricsError)(nil); errors.As(err, &failure) && l.Repeats() && cmd.Context().Err() == nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "sampan: "+worded(err)) // there may be room at the next run
			err = nil
		}
		if err != nil {
			return err
		}
		if !l.Repeats() || o.dryRun || cmd.Context().Err() != nil {
			if err := cmd.Context().Err(); err != nil && !r.Complete {
				return interruption(err)
			}
			if !r.Complete {
				return errors.New(text("not everything is in step", "未能全部一致"))
			}
			return nil
		}
		next := l.Next(time.Now())
		if !o.quiet && o.output == "text" {
			fmt.Fprintf(cmd.ErrOrStderr(), text("next run: %s\n", "下一次运行：%s\n"), next.Format(time.DateTime))
		}
		if !wait(cmd.Context(), next) {
			return nil
		}
	}
}

// checkMetrics tells beforehand that a file of metrics cannot be.
func (o syncOptions) checkMetrics() error {
	if o.metrics == "" {
		return nil
	}
	if info, err := os.Stat(o.metrics); err == nil && !info.Mode().IsRegular() {
		return usagef(text("--metrics: %s is no file", "--metrics：%s 不是普通文件"), o.metrics)
	}
	if info, err := os.Stat(filepath.Dir(o.metrics)); err != nil || !info.IsDir() {
		return usagef(text("--metrics: %s is no folder", "--metrics：%s 不是目录"), filepath.Dir(o.metrics))
	}
	return nil
}

// A metricsError is that what a run did is done and told, and cannot be written.
type metricsError struct{ err error }

func (e *metricsError) Error() string { return "--metrics: " + e.err.Error() }
func (e *metricsError) Unwrap() error { return e.err }

// list is that of the file, with what the flags add.
func (o syncOptions) list(in io.Reader) (*syncing.List, error) {
	var src strings.Builder
	name := o.file
	switch {
	case o.file == "-":
		name = text("standard input", "标准输入")
		if _, err := io.Copy(&src, io.LimitReader(in, syncing.MaxFile+1)); err != nil {
			return nil, err
		}
	case o.file != "":
		raw, err := os.ReadFile(o.file)
		if err != nil {
			return nil, err
		}
		src.Write(raw)
	case len(o.kubeadm) == 0:
		return nil, errors.New(text("say what to copy: -f FILE or --kubeadm VERSION", "请说明要复制什么：-f FILE 或 --kubeadm VERSION"))
	}
	if o.constants != "" && len(o.kubeadm) == 0 {
		return nil, errors.New(text("--kubeadm-images needs --kubeadm VERSION", "--kubeadm-images 须与 --kubeadm VERSION 一起使用"))
	}
	for _, to := range o.to {
		if _, err := parseTarget("--to", to); err != nil {
			return nil, err
		}
	}
	more := syncing.More{Targets: o.to, Target: checkTarget, Naming: func(n syncing.Naming) error { return plain(namingOf(n).Check()) }}
	for _, release := range o.kubeadm {
		images, err := o.kubernetes(release)
		if err != nil {
			return nil, err
		}
		more.Images = append(more.Images, images...)
	}
	return syncing.Read(strings.NewReader(src.String()), name, more, text)
}

// kubernetes are the images of a release.
func (o syncOptions) kubernetes(release string) ([]oci.Reference, error) {
	if o.constants != "" {
		f, err := os.Open(o.constants)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return syncing.ReadConstants(f, release)
	}
	images, err := syncing.KubernetesImages(release)
	if errors.Is(err, syncing.ErrUnknownKubernetes) {
		return nil, fmt.Errorf(text(
			"%s is not among the releases that are known here; give its images with --kubeadm-images FILE, such as the output of kubeadm config images list",
			"%s 不在已知版本之中；请用 --kubeadm-images FILE 给出其镜像，例如 kubeadm config images list 的输出"), release)
	}
	return images, err
}

// wait waits until a time; false where the command ends before.
func wait(ctx context.Context, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once is one run.
func (o syncOptions) once(cmd *cobra.Command, l *syncing.List) (*syncing.Report, error) {
	places, err := o.registries.open()
	if err != nil {
		return nil, err
	}
	defer places.close()
	ctx := cmd.Context()
	items, failed, err := syncing.Expand(ctx, l, places.source, placing(l.Names))
	if collision := (*syncing.Collision)(nil); errors.As(err, &collision) {
		return nil, usagef(text("%s and %s would both be %s; nothing was sent", "%s 与 %s 都会成为 %s；未传输任何内容"), collision.One, collision.Other, collision.Name)
	}
	if err != nil {
		return nil, &usageError{err}
	}
	prune, agreed := o.prune, []oci.Reference(nil)
	if prune && !o.dryRun && !o.yes && !slices.ContainsFunc(failed, isFailure) { // or nothing will be deleted
		if agreed, err = o.agree(cmd, items, places); err != nil {
			return nil, err
		}
		prune = len(agreed) > 0
	}
	show := o.progress.show(cmd.ErrOrStderr(), o.quiet || o.output == "json", copyStates())
	r := syncing.Run(ctx, items, failed, syncing.Options{
		Reader: places.source, Target: places.target, Prune: prune, Agreed: agreed, Verify: o.verify, Tell: tellSync,
		Copy: transfer.Options{DryRun: o.dryRun, Progress: show},
	})
	show.Close()
	return r, o.report(cmd.OutOrStdout(), r)
}

func isFailure(f syncing.Failure) bool { return !errors.Is(f.Err, syncing.ErrEmpty) }

// tellSync is an error for the report of a run, with the code of the protocol.
func tellSync(err error) string {
	var (
		none *transfer.NoPlatform
		e    *oci.Error
	)
	switch {
	case errors.As(err, &none):
		return strings.Replace(err.Error(), none.Error(), text(none.Error(), noPlatform(none)), 1)
	case errors.As(err, &e) && e.Message != "":
		return strings.Replace(err.Error(), e.Error(), string(e.Code)+": "+sentence(e), 1)
	default:
		return worded(err)
	}
}

// report tells what a run did.
func (o syncOptions) report(out io.Writer, r *syncing.Report) error {
	var err error
	if o.output == "json" {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	} else {
		err = r.WriteText(out, text, size)
	}
	if o.metrics == "" || r.DryRun {
		return err
	}
	if failure := o.writeMetrics(r); failure != nil {
		return errors.Join(err, &metricsError{failure})
	}
	return err
}

// writeMetrics puts the metrics of a run in the place of those before.
func (o syncOptions) writeMetrics(r *syncing.Report) error {
	var b strings.Builder
	if err := r.WriteMetrics(&b); err != nil {
		return err
	}
	f, err := os.OpenFile(o.metrics, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // the collector reads it as somebody else
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), replaceFile(o.metrics, []byte(b.String())))
}

// agree shows what would be deleted, asks, and returns what may be.
func (o syncOptions) agree(cmd *cobra.Command, items []syncing.Item, places *registries) ([]oci.Reference, error) {
	doomed, err := syncing.Doomed(cmd.Context(), items, places.target)
	if err != nil || len(doomed) == 0 {
		return nil, hinted(err)
	}
	out := cmd.ErrOrStderr()
	for _, ref := range doomed {
		fmt.Fprintf(out, text("would be deleted: %s\n", "将删除：%s\n"), ref)
	}
	fmt.Fprint(out, text("Delete them once everything is in step, but for those that are the same as a tag that stays, or a part of one? [y/N] ", "全部一致之后删除它们（与保留的标签相同或属于其一部分的除外）？[y/N] "))
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes", "是":
		return doomed, nil
	case "":
		if errors.Is(err, io.EOF) {
			return nil, usagef("%s", text("nobody can be asked here: say --yes to --prune, or --dry-run", "此处无法询问：--prune 请同时使用 --yes，或使用 --dry-run"))
		}
	}
	return nil, nil
}

// checkTarget says what is wrong with a target of a list.
func checkTarget(to string) error {
	_, err := parseTarget(text("a target", "目标"), to)
	return err
}

// namingOf is the rule of names of a list.
func namingOf(n syncing.Naming) mirror.Naming {
	return mirror.Naming{Flatten: n.Rule == "flatten", Separator: n.Separator, Registry: n.Registry, Template: n.Template}
}

// placing names images at targets by the list's rule.
func placing(n syncing.Naming) syncing.Place {
	return func(to string, source oci.Reference) (oci.Reference, error) {
		t, err := parseTarget("to", to)
		if err != nil {
			return oci.Reference{}, err
		}
		return t.name(source, namingOf(n))
	}
}
