package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// loadRegistry puts images into a registry. Names, and what the registry has, are looked
// at before anything is sent.
func (o loadOptions) loadRegistry(cmd *cobra.Command, a *archive.Archive, images []layout.Image, to target, platforms []transfer.Platform) error {
	jobs, err := o.jobsOf(a, images, to)
	if err != nil {
		return err
	}
	for i := range jobs {
		jobs[i].Platforms = platforms
	}
	r, err := o.registries.open()
	if err != nil {
		return err
	}
	defer r.close()
	w, err := r.get(to.registry, true)
	if err != nil {
		return err
	}
	show := o.progress.show(cmd.ErrOrStderr(), o.quiet || o.json(), archiveStates())
	report, err := transfer.Copy(cmd.Context(), jobs, w, transfer.Options{
		Hints: o.hints(a, to), DryRun: o.dryRun, Progress: show,
		Noted: func(notes []transfer.Note) {
			for _, n := range notes {
				show.Say(noteText(n))
			}
		},
	})
	show.Close()
	t := telling{json: o.json(), quiet: o.quiet, dryRun: o.dryRun, problem: loadProblem}
	if told := t.tell(cmd, report); told != nil {
		return told
	}
	return loadError(err)
}

// jobsOf names images at the target. What has no name goes along with what it is attached
// to; one image alone may get its name from the target. Where the target tells the tag,
// signatures that have tags go along in the same way.
func (o loadOptions) jobsOf(a *archive.Archive, images []layout.Image, to target) ([]transfer.Job, error) {
	var jobs []transfer.Job
	taken := make(map[string]oci.Reference)
	var first oci.Repository
	for _, i := range images {
		if isUnnamed(i) && (to.isPlace() || len(images) > 1) {
			continue
		}
		if !to.tag.IsZero() && isAttachedTag(i.Ref.Tag) && len(images) > 1 {
			continue
		}
		name, err := to.name(i.Ref, o.naming)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.Ref, plain(err))
		}
		if name.Tag.IsZero() {
			name.Digest = i.Descriptor.Digest
		}
		source := oci.Reference{Repository: i.Ref.Repository, Tag: i.Ref.Tag, Digest: i.Descriptor.Digest}
		if isUnnamed(i) {
			source.Tag = oci.Tag{} // of no name that anybody could type
		}
		switch other, ok := taken[name.String()]; {
		case ok && other.Digest == source.Digest:
			continue
		case ok && to.isPlace():
			return nil, copyError(&transfer.Collision{Target: name, Sources: [2]oci.Reference{other, source}})
		case ok:
			return nil, usagef(text("two images would be called %s; name one of them", "有两个镜像会使用名字 %s；请只指定其中一个"), name)
		}
		if first.IsZero() {
			first = i.Ref.Repository
		}
		if !to.isPlace() && i.Ref.Repository != first {
			return nil, usagef(text("%s and %s would both become %s: to load them below a place, write %s/, or name the images of one", "%s 与 %s 都会成为 %s：如要载入到某个位置之下，请写 %s/，或只指定其中一个的镜像"), first, i.Ref.Repository, to.one, o.to)
		}
		taken[name.String()] = source
		job := copyJob(source, name)
		job.Reader, job.Referrers, job.Partial = a, true, true
		jobs = append(jobs, job)
	}
	if len(jobs) == 0 {
		return nil, errors.New(text("the images have no names: give them one with --name", "镜像没有名字：请用 --name 指定"))
	}
	return jobs, nil
}

// hints are the repositories of the target where blobs should be that the archive lacks.
func (o loadOptions) hints(a *archive.Archive, to target) map[oci.Digest][]oci.Repository {
	at := make(map[oci.Digest][]oci.Repository)
	for digest, repo := range a.Before() {
		if name, err := to.name(oci.Reference{Repository: repo}, o.naming); err == nil {
			at[digest] = []oci.Repository{name.Repository}
		}
	}
	return at
}

// isUnnamed tells whether nobody said what an image is called.
func isUnnamed(i layout.Image) bool {
	return !i.Named && i.Ref.Repository.String() == layout.Unnamed
}

// loadError says what a person can do about the errors of a load.
func loadError(err error) error {
	if err == nil {
		return nil
	}
	var list []error
	for _, one := range eachOf(err) {
		list = append(list, loadProblem(one))
	}
	if errors.As(err, new(*transfer.Lacks)) {
		list = append(list, errors.New(text("it is a bundle of what was new: load first what it was made to follow", "这是只含新增内容的归档：请先载入它所依据的归档")))
	}
	return errors.Join(list...)
}

// loadProblem is the error of one image for people.
func loadProblem(err error) error {
	var (
		lacks  *transfer.Lacks
		sparse *transfer.Sparse
	)
	switch {
	case errors.Is(err, context.Canceled):
		return interruption(err)
	case errors.As(err, &sparse):
		there := fmt.Sprintf(text("the archive has only a part of %s: %s", "归档中 %s 只有一部分平台：%s"), sparse.Source, sparse.List())
		return &told{there + "\n" + partText(), err}
	case errors.As(err, &lacks):
		return &told{strings.Replace(worded(err), lacks.Error(), lacksText(lacks), 1), err}
	}
	return archiveError(hinted(err))
}

// partText is what a person can do about an archive of some platforms of an image, such
// as engines write that have pulled the image for one.
func partText() string {
	return text("choose a platform that the archive has, such as --platform linux/amd64", "请选择归档中有的平台，例如 --platform linux/amd64")
}

// lacksText says which blob is nowhere.
func lacksText(e *transfer.Lacks) string {
	s := fmt.Sprintf(text("the archive lacks a blob that the target does not have either: %s", "归档和目标都缺少某个 blob：%s"), e.Digests[0])
	if more := len(e.Digests) - 1; more > 0 {
		s += fmt.Sprintf(text(" and %d more", "，另有 %d 个"), more)
	}
	return s
}
