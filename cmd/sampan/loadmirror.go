package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
	"sampan/internal/transfer/running"
)

// intoOptions say into which running mirror images are loaded.
type intoOptions struct {
	admin, tokenFile string
	unpinned         bool
}

func (o *intoOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.admin, "into", "", text("`URL` of the admin listener of a running mirror to load into, such as http://127.0.0.1:5001; images keep their names", "载入正在运行的镜像站：其管理地址 `URL`，例如 http://127.0.0.1:5001；镜像名不变"))
	f.StringVar(&o.tokenFile, "admin-token-file", "", text("`FILE` with the token of the admin listener, with --into", "管理地址令牌的文件 `FILE`，与 --into 一起使用"))
	f.BoolVar(&o.unpinned, "no-pin", false, text("with --into, let the images go when room is needed, as if they had been pulled", "与 --into 一起使用：空间不足时允许删除这些镜像，如同被拉取的镜像"))
}

// mirror finds the mirror that is meant; nil for none. Nobody is asked.
func (o loadOptions) mirror() (*runningMirror, error) {
	switch into := o.into; {
	case into.admin == "" && (into.tokenFile != "" || into.unpinned):
		return nil, usagef("%s", text("--admin-token-file and --no-pin go with --into", "--admin-token-file 和 --no-pin 须与 --into 一起使用"))
	case into.admin == "":
		return nil, nil
	case o.to != "", o.namespace != "", o.engine != "auto":
		return nil, usagef("%s", text("--into goes with neither --to nor --engine nor --namespace", "--into 不能与 --to、--engine 或 --namespace 同时使用"))
	default:
		return mirrorOptions{admin: into.admin, tokenFile: into.tokenFile, flag: "--into"}.open()
	}
}

// loadMirror puts images into a running mirror under their own names, so that they are
// served from it without their registries.
func (o loadOptions) loadMirror(cmd *cobra.Command, a *archive.Archive, images []layout.Image, m *runningMirror, platforms []transfer.Platform) error {
	jobs, err := jobsInto(a, images)
	if err != nil {
		return err
	}
	for i := range jobs {
		jobs[i].Platforms = platforms
	}
	w, err := running.New(running.Options{Address: m.base, Token: m.token})
	if err != nil {
		return err
	}
	defer w.Close()
	ctx := cmd.Context()
	if !o.into.unpinned && !o.dryRun {
		if err := w.Pin(ctx, jobs); err != nil {
			return loadError(err)
		}
	}
	show := o.progress.show(cmd.ErrOrStderr(), o.quiet || o.json(), archiveStates())
	report, err := transfer.Copy(ctx, jobs, w, transfer.Options{DryRun: o.dryRun, Progress: show})
	if err == nil {
		err = w.PinReported(ctx, report)
	}
	show.Close()
	t := telling{json: o.json(), quiet: true, problem: loadProblem, dryRun: o.dryRun}
	if told := t.tell(cmd, report); told != nil {
		return told
	}
	if err == nil && !o.quiet && !o.json() {
		err = t.conclude(cmd.ErrOrStderr(), report)
	}
	return loadError(err)
}

// jobsInto has images go where they are from.
func jobsInto(a *archive.Archive, images []layout.Image) ([]transfer.Job, error) {
	var jobs []transfer.Job
	taken := make(map[string]oci.Digest)
	for _, i := range images {
		if isUnnamed(i) {
			continue
		}
		source := oci.Reference{Repository: i.Ref.Repository, Digest: i.Descriptor.Digest}
		named := i.Ref
		if named.Digest.IsZero() {
			source.Tag = named.Tag
		} else {
			named.Tag = oci.Tag{}
		}
		j := copyJob(source, named)
		j.Reader, j.Referrers, j.Partial = a, true, true
		name := nameInto(j)
		other, ok := taken[name]
		if ok && other != i.Descriptor.Digest {
			return nil, usagef(text("two images are called %s; name one of them", "有两个镜像都叫 %s；请只指定其中一个"), name)
		}
		if !ok {
			taken[name] = i.Descriptor.Digest
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		return nil, errors.New(text("the images have no names: give them one with --name", "镜像没有名字：请用 --name 指定"))
	}
	return jobs, nil
}

// nameInto is how an image is called that was loaded into a mirror.
func nameInto(j transfer.Job) string {
	if len(j.Tags) == 0 {
		return j.Target.String() + "@" + j.Source.Digest.String()
	}
	return j.Target.String() + ":" + j.Tags[0].String()
}
