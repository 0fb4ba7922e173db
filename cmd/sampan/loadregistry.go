package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// loadRegistry puts images into a registry. Names are looked at before anything is
// sent.
func (o loadOptions) loadRegistry(cmd *cobra.Command, a *archive.Archive, images []layout.Image, to target) error {
	jobs, names, err := jobsOf(a, images, to)
	if err != nil {
		return err
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
	show := showBlobs(cmd.ErrOrStderr(), o.quiet)
	_, err = transfer.Copy(cmd.Context(), jobs, w, transfer.Options{Hints: hints(a, to), Progress: show})
	show.Close()
	if err != nil {
		return archiveError(err)
	}
	for n, j := range jobs {
		if names[n].Repository.IsZero() {
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", names[n], j.Source.Digest); err != nil {
			return err
		}
	}
	return nil
}

// jobsOf names images at the target; what is attached to others goes along with them,
// and has the zero name.
func jobsOf(a *archive.Archive, images []layout.Image, to target) (jobs []transfer.Job, names []oci.Reference, err error) {
	taken := make(map[string]oci.Digest)
	for _, i := range images {
		if isUnnamed(i) {
			continue
		}
		name, err := to.name(i.Ref, mirror.Naming{})
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", i.Ref, plain(err))
		}
		if name.Tag.IsZero() {
			name.Digest = i.Descriptor.Digest
		}
		other, ok := taken[name.String()]
		if ok && other != i.Descriptor.Digest {
			return nil, nil, usagef(text("two images would be called %s; name one of them", "有两个镜像会使用名字 %s；请只指定其中一个"), name)
		}
		if ok {
			continue
		}
		taken[name.String()] = i.Descriptor.Digest
		j := transfer.Job{Source: oci.Reference{Repository: i.Ref.Repository, Digest: i.Descriptor.Digest}, Reader: a, Target: name.Repository, Referrers: true, Partial: true}
		if !name.Tag.IsZero() {
			j.Tags = []oci.Tag{name.Tag}
		}
		jobs, names = append(jobs, j), append(names, name)
	}
	if len(jobs) == 0 {
		return nil, nil, errors.New(text("the images have no names: give them one with --name", "镜像没有名字：请用 --name 指定"))
	}
	return jobs, names, nil
}

// hints are the repositories of the target where blobs should be that the archive lacks.
func hints(a *archive.Archive, to target) map[oci.Digest][]oci.Repository {
	at := make(map[oci.Digest][]oci.Repository)
	for digest, repo := range a.Before() {
		if name, err := to.name(oci.Reference{Repository: repo}, mirror.Naming{}); err == nil {
			at[digest] = []oci.Repository{name.Repository}
		}
	}
	return at
}

// isUnnamed tells whether nobody said what an image is called.
func isUnnamed(i layout.Image) bool {
	return !i.Named && i.Ref.Repository.String() == layout.Unnamed
}
