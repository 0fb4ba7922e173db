package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/rewrite"
)

func newRewriteCommand() *cobra.Command {
	var o rewriteOptions
	cmd := &cobra.Command{
		Use:   "rewrite [FILE...]",
		Short: text("Put the mirror's names into files that name images", "将文件中的镜像名改为镜像站上的名字"),
		Long: text(
			"Print files with the names of images replaced by those at the mirror: Kubernetes YAML and JSON, Helm values\n"+
				"and charts that are rendered, Kustomize, kubeadm, Argo CD, Compose, Dockerfiles, and workflows of GitHub and\n"+
				"GitLab. Nothing else changes, not a byte. Without files, or for \"-\", standard input is read. What cannot be\n"+
				"decided stays and is told on standard error. No server is asked.\n\n"+
				"The exit code is 0, 1 for a failure and for what --check finds, and 2 for a mistake in the command.",
			"打印文件，其中的镜像名改为镜像站上的名字：支持 Kubernetes YAML 和 JSON、Helm values 与渲染后的 chart、\n"+
				"Kustomize、kubeadm、Argo CD、Compose、Dockerfile 以及 GitHub 和 GitLab 工作流。其余内容逐字节不变。\n"+
				"不给出文件或给出 \"-\" 时读取标准输入。无法确定的内容保持原样，并在标准错误中说明。不访问任何服务器。\n\n"+
				"退出码：0 表示成功，1 表示失败或 --check 有发现，2 表示命令有误。"),
		Example: "  sampan rewrite --mirror mirror.example.com deployment.yaml | kubectl apply -f -\n" +
			"  sampan rewrite --in-place --recursive deploy/\n" +
			"  sampan rewrite --check compose.yaml Dockerfile\n" +
			"  helm install web ./chart --post-renderer sampan --post-renderer-args rewrite",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	o.client.addFlags(f)
	f.StringVar(&o.client.set.CodeFile, "code-file", "", text("`FILE` with your access code, to be part of the names", "访问码文件 `FILE`，访问码将包含在名字中"))
	f.BoolVarP(&o.reverse, "reverse", "r", false, text("from names at the mirror to the images' own", "由镜像站上的名字改回原名"))
	f.BoolVar(&o.keepSpelling, "keep-spelling", false, text("write docker.io/a/b as index.docker.io/a/b at the mirror, which is the same, so that --reverse tells it from a/b", "将 docker.io/a/b 写成镜像站上等价的 index.docker.io/a/b，以便 --reverse 与 a/b 区分"))
	f.BoolVarP(&o.inPlace, "in-place", "i", false, text("change the files, and print nothing", "直接修改文件，不打印内容"))
	f.BoolVar(&o.check, "check", false, text("change nothing; tell what is not at the mirror, and exit with 1 if there is anything", "不作修改；列出不在镜像站上的镜像，若有则以 1 退出"))
	f.BoolVarP(&o.diff, "diff", "d", false, text("change nothing; print what would change", "不作修改；打印将有的改动"))
	f.BoolVarP(&o.list, "list", "l", false, text("change nothing; print the names of images that are found, each once", "不作修改；打印找到的镜像名，每个一次"))
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT` of --list: text or json", "--list 的输出格式 `FORMAT`：text 或 json"))
	f.BoolVarP(&o.recursive, "recursive", "R", false, text("take the YAML, JSON and Dockerfiles below directories", "处理目录下的 YAML、JSON 和 Dockerfile"))
	f.StringVar(&o.format, "format", "auto", text("`FORMAT` of the files: auto, yaml (JSON too) or dockerfile", "文件格式 `FORMAT`：auto、yaml（含 JSON）或 dockerfile"))
	f.StringArrayVar(&o.paths, "path", nil, text("`FIELD` that names an image too, such as 'MyKind: spec.foo[*].image'; may be repeated", "另一个镜像字段 `FIELD`，例如 'MyKind: spec.foo[*].image'；可重复"))
	f.StringVar(&o.pathFile, "path-file", "", text("`FILE` with one such field a line", "此类字段的文件 `FILE`，每行一个"))
	f.BoolVarP(&o.quiet, "quiet", "q", false, text("do not tell what could not be decided", "不说明无法确定的内容"))
	cmd.MarkFlagsMutuallyExclusive("in-place", "check", "diff", "list")
	return cmd
}

// rewriteOptions are what the command line says.
type rewriteOptions struct {
	client                                                              clientOptions
	reverse, inPlace, check, diff, list, recursive, quiet, keepSpelling bool
	output, format, pathFile                                            string
	paths                                                               []string
}

// A rewriteJob is the work of one command.
type rewriteJob struct {
	rewriteOptions
	mirror   *client.Mirror
	rewriter *rewrite.Rewriter
	as       rewrite.Format
	in       io.Reader
	out      io.Writer
	messages io.Writer

	printed int         // files that were printed
	newline bool        // what was printed ends in one
	found   []foundName // for --list
	missing int         // for --check
	lost    []string    // for --in-place: names that come back in another spelling
}

func (o rewriteOptions) run(cmd *cobra.Command, args []string) error {
	job := rewriteJob{rewriteOptions: o, in: cmd.InOrStdin(), out: cmd.OutOrStdout(), messages: cmd.ErrOrStderr()}
	if err := job.prepare(); err != nil {
		return err
	}
	files, err := rewriteFiles(args, o.recursive)
	if err != nil {
		return err
	}
	if err := job.printable(files); err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		if err := job.file(file); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", displayName(file), err))
		}
	}
	return errors.Join(append(failed, job.finish())...)
}

// prepare checks the flags and makes the rewriter.
func (j *rewriteJob) prepare() error {
	if j.output != "text" && j.output != "json" {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), j.output)
	}
	if j.output == "json" && !j.list {
		return usagef("%s", text("--output json is for --list", "--output json 用于 --list"))
	}
	switch j.format {
	case "auto":
	case "yaml":
		j.as = rewrite.YAML
	case "dockerfile":
		j.as = rewrite.Dockerfile
	default:
		return usagef(text("--format is auto, yaml or dockerfile, not %q", "--format 应为 auto、yaml 或 dockerfile，而不是 %q"), j.format)
	}
	m, err := j.client.open()
	if err != nil {
		return err
	}
	j.mirror = m
	if m.Assumed && !j.reverse && !j.list && !j.quiet { // other machines would look for it on themselves
		fmt.Fprintf(j.messages, text("sampan: no mirror was named, so that %s is meant: see --mirror\n", "sampan：没有指定镜像站，使用 %s：参见 --mirror\n"), m.Address)
	}
	options := rewrite.Options{Rename: m.Spell, Prefix: m.SpellPrefix}
	switch {
	case j.keepSpelling && j.reverse:
		return usagef("%s", text("--reverse gives back any spelling: --keep-spelling is for the way there", "--reverse 会还原各种写法：--keep-spelling 用于正向改写"))
	case j.keepSpelling:
		options.Rename = m.SpellExactly
	case j.reverse:
		options.Rename, options.Prefix = m.Unspell, m.UnspellPrefix
	}
	if options.Paths, err = j.fields(); err != nil {
		return &usageError{err}
	}
	j.rewriter, err = rewrite.New(options)
	return err
}

// fields are those that the person adds.
func (j *rewriteJob) fields() ([]rewrite.Path, error) {
	lines := j.paths
	if j.pathFile != "" {
		content, err := os.ReadFile(j.pathFile)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				lines = append(lines, line)
			}
		}
	}
	var paths []rewrite.Path
	for _, line := range lines {
		p, err := rewrite.ParsePath(line)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// printable refuses to print files one after another that are no longer files then.
func (j *rewriteJob) printable(files []string) error {
	if j.inPlace {
		for _, file := range files {
			if file == "-" {
				return usagef("%s", text("standard input cannot be changed in place", "标准输入不能直接修改"))
			}
		}
	}
	if len(files) < 2 || j.inPlace || j.check || j.diff || j.list {
		return nil
	}
	for _, file := range files {
		if j.as == rewrite.Dockerfile || j.as == rewrite.Auto && rewrite.IsDockerfile(file) {
			return usagef(text("%s cannot be printed together with other files: use --in-place, --diff, --check or --list", "%s 不能与其他文件一起打印：请使用 --in-place、--diff、--check 或 --list"), file)
		}
	}
	return nil
}

// file deals with one file.
func (j *rewriteJob) file(name string) error {
	in, err := readRewritable(j.in, name)
	if err != nil {
		return err
	}
	result, err := j.rewriter.Format(j.as, name, in)
	if err != nil {
		return err
	}
	switch {
	case j.list:
		j.listed(name, result)
		return nil
	case j.check:
		return j.checked(name, result)
	}
	j.tell(name, result)
	changed := !bytes.Equal(in, result.Out)
	switch {
	case j.diff:
		if !changed {
			return nil
		}
		_, err = j.out.Write(diff.Diff(displayName(name), in, displayName(name), result.Out))
		return err
	case j.inPlace:
		if !changed {
			return nil
		}
		j.spellings(result)
		return replaceFile(name, result.Out)
	}
	return j.print(result.Out)
}

// print writes a file; several are documents of one stream.
func (j *rewriteJob) print(out []byte) error {
	between := ""
	if j.printed++; j.printed > 1 && len(out) > 0 {
		if !j.newline {
			between = "\n"
		}
		out = bytes.TrimPrefix(out, []byte("\ufeff"))
		if !bytes.HasPrefix(out, []byte("---")) {
			between += "---\n"
		}
	}
	if len(out) > 0 {
		j.newline = out[len(out)-1] == '\n'
	}
	if _, err := io.WriteString(j.out, between); err != nil {
		return err
	}
	_, err := j.out.Write(out)
	return err
}

// finish says what can only be said at the end.
func (j *rewriteJob) finish() error {
	switch {
	case j.list:
		return j.printList()
	case j.check && j.missing > 0:
		return fmt.Errorf(text("%d names are not at the mirror, or could not be decided", "%d 个名字不在镜像站上，或无法确定"), j.missing)
	case j.inPlace && len(j.lost) > 0 && !j.quiet:
		fmt.Fprintf(j.messages, text("sampan: --reverse will spell these differently, unless you say --keep-spelling: %s\n", "sampan：--reverse 会以另一种写法还原（可用 --keep-spelling 避免）：%s\n"), strings.Join(j.lost, ", "))
	}
	return nil
}
