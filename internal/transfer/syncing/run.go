package syncing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A Target is a registry that is written to.
type Target interface {
	transfer.Writer
	transfer.TagResolver
	// Tags are all of a repository, in lexical order. It fails with NAME_UNKNOWN where
	// there is no such repository.
	Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error)
	// DeleteTag takes a tag away; one that is not there is no error. It fails with
	// UNSUPPORTED where the registry cannot do that.
	DeleteTag(ctx context.Context, repo oci.Repository, tag oci.Tag) error
}

// Options of [Run]. Reader and Target are needed.
type Options struct {
	Reader func(oci.Registry) (oci.Reader, error)
	Target func(oci.Registry) (Target, error)
	// Prune deletes, in repositories of which the list chooses tags, those that it does
	// not have, once all images are there. A dry run tells of them where some are not, too.
	Prune bool
	// Agreed are the tags that somebody has been shown and has agreed to; others are not
	// pruned. Nil means that nobody was asked, and all may go.
	Agreed []oci.Reference
	// Verify asks the targets for all manifests below a tag that points where it should;
	// otherwise these are taken to be there ([transfer.Options.Trust]).
	Verify bool
	// Tell says an error for the report; nil means the error as it is, without the causes
	// that are for logs.
	Tell func(error) string
	// Copy is how images are carried; its DryRun is that of the run.
	Copy transfer.Options
}

// maxTargets are how many registries are written to at once.
const maxTargets = 4

// Run brings the targets in step with items, which [Expand] made; failed is what it
// could not. An image that fails keeps no other from going. What was cut off is
// finished by the next run. Several targets are written to at the same time, so that a
// slow one holds up no other; Reader, Target and what Copy has are called concurrently.
func Run(ctx context.Context, items []Item, failed []Failure, o Options) *Report {
	r := &Report{Began: time.Now(), DryRun: o.Copy.DryRun, Images: []Outcome{}, tell: o.Tell} // [] in JSON, not null
	unsure := make(map[oci.Repository]bool)
	for _, f := range failed {
		if errors.Is(f.Err, ErrEmpty) {
			r.Empty = append(r.Empty, f.Source)
			continue
		}
		for _, repo := range f.Targets {
			unsure[repo] = true
		}
		r.fail(ctx, Outcome{Source: f.Source}, f.Err)
	}
	targets := registries(items)
	parts := make([]Report, len(targets))
	var g errgroup.Group
	g.SetLimit(maxTargets)
	for i, registry := range targets {
		parts[i].tell = o.Tell
		of := slices.DeleteFunc(slices.Clone(items), func(it Item) bool { return it.Target.Registry() != registry })
		g.Go(func() error {
			parts[i].copy(ctx, registry, of, o)
			return nil
		})
	}
	_ = g.Wait() // each image has its own error
	for i := range parts {
		r.add(&parts[i])
	}
	r.Withheld = o.Prune && r.Count(Failed) > 0
	if o.Prune && ctx.Err() == nil && (!r.Withheld || r.DryRun) {
		r.prune(ctx, certain(items, unsure), o)
	}
	r.Ended = time.Now()
	r.Complete = r.Count(Failed) == 0 && ctx.Err() == nil
	return r
}

// certain are items that prune nothing where it is not known what the list has.
func certain(items []Item, unsure map[oci.Repository]bool) []Item {
	items = slices.Clone(items)
	for i := range items {
		items[i].Pruned = items[i].Pruned && !unsure[items[i].Target]
	}
	return items
}

// registries are those that items go to, in order.
func registries(items []Item) []oci.Registry {
	var list []oci.Registry
	for _, it := range items {
		if !slices.Contains(list, it.Target.Registry()) {
			list = append(list, it.Target.Registry())
		}
	}
	return list
}

// copy carries what goes to one registry.
func (r *Report) copy(ctx context.Context, registry oci.Registry, items []Item, o Options) {
	fail := func(it Item, err error) {
		r.fail(ctx, Outcome{Source: it.Source.String(), Target: it.name()}, err)
	}
	target, err := o.Target(registry)
	var jobs []transfer.Job
	var of []Item
	for _, it := range items {
		if err != nil {
			fail(it, err)
			continue
		}
		job, err := it.job(o.Reader)
		if err != nil {
			fail(it, err)
			continue
		}
		jobs, of = append(jobs, job), append(of, it)
	}
	if len(jobs) == 0 {
		return
	}
	options := o.Copy
	options.KeepGoing, options.Trust = true, !o.Verify
	report, err := transfer.Copy(ctx, jobs, target, options)
	r.Blobs, r.Bytes = r.Blobs+report.Sent.Blobs, r.Bytes+report.Sent.Bytes
	for i, it := range of {
		switch {
		case i >= len(report.Images):
			fail(it, err)
		case report.Images[i].Err != nil:
			fail(it, report.Images[i].Err)
		default:
			done := report.Images[i]
			r.keep(it.Target, done.Descriptor)
			out := Outcome{Source: it.Source.String(), Target: it.name(), Digest: done.Descriptor.Digest.String(), Result: Copied}
			if done.Unchanged {
				out.Result = Unchanged
			}
			r.Images = append(r.Images, out)
		}
	}
}

// job is what transfer is to do for an item.
func (it Item) job(reader func(oci.Registry) (oci.Reader, error)) (transfer.Job, error) {
	from, err := reader(it.Source.Repository.Registry())
	if err != nil {
		return transfer.Job{}, err
	}
	job := transfer.Job{Source: it.Source, Reader: from, Target: it.Target, Referrers: it.Referrers}
	if !it.Tag.IsZero() {
		job.Tags = []oci.Tag{it.Tag}
	}
	for _, s := range it.Platforms {
		p, err := transfer.ParsePlatform(s)
		if err != nil {
			return transfer.Job{}, err
		}
		job.Platforms = append(job.Platforms, p)
	}
	return job, nil
}

// name is what the image is called at its target.
func (it Item) name() string {
	ref := oci.Reference{Repository: it.Target, Tag: it.Tag}
	if it.Tag.IsZero() {
		ref.Digest = it.Source.Digest
	}
	return ref.String()
}

// add puts what was done at one target behind what was done at others.
func (r *Report) add(part *Report) {
	r.Images = append(r.Images, part.Images...)
	r.Blobs, r.Bytes = r.Blobs+part.Blobs, r.Bytes+part.Bytes
	for repo, images := range part.kept {
		for _, d := range images {
			r.keep(repo, d)
		}
	}
}

// keep notes what an image is at its target, for pruning.
func (r *Report) keep(repo oci.Repository, d oci.Descriptor) {
	if r.kept == nil {
		r.kept = make(map[oci.Repository]map[oci.Digest]oci.Descriptor)
	}
	if r.kept[repo] == nil {
		r.kept[repo] = make(map[oci.Digest]oci.Descriptor)
	}
	r.kept[repo][d.Digest] = d
}

// fail notes why there is nothing of an image, or of a tag that was to go: an error, or that
// the run was ended.
func (r *Report) fail(ctx context.Context, out Outcome, err error) {
	tell := r.tell
	if tell == nil {
		tell = told
	}
	out.Result, out.Error = Failed, tell(err)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		out.Result, out.Error = Interrupted, ""
	}
	r.Images = append(r.Images, out)
}

// told is an error for a report.
func told(err error) string {
	var e *oci.Error
	if errors.As(err, &e) && e.Message != "" {
		return strings.Replace(err.Error(), e.Error(), fmt.Sprintf("%s: %s", e.Code, e.Message), 1)
	}
	return err.Error()
}
