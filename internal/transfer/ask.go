package transfer

import (
	"context"
	"errors"

	"sampan/internal/oci"
)

// pointing is where the tags of a job point at the target; those that are not there are
// not in it.
func (c *copier) pointing(ctx context.Context, job Job) (map[oci.Tag]oci.Descriptor, error) {
	at := map[oci.Tag]oci.Descriptor{}
	r, ok := c.w.(TagResolver)
	if !ok {
		return at, nil
	}
	for _, tag := range job.Tags {
		have, err := ask(ctx, c, func() (oci.Descriptor, error) { return r.ResolveTag(ctx, job.Target, tag) })
		if err != nil && !oci.IsUnknown(err) {
			return nil, err
		}
		if err == nil {
			at[tag] = have
		}
	}
	return at, nil
}

// unlike are the tags that do not point at a digest.
func unlike(tags []oci.Tag, at map[oci.Tag]oci.Descriptor, digest oci.Digest) []oci.Tag {
	var list []oci.Tag
	for _, tag := range tags {
		if at[tag].Digest != digest {
			list = append(list, tag)
		}
	}
	return list
}

// hasManifest tells whether the target has a manifest, and asks where that is not known.
func (c *copier) hasManifest(ctx context.Context, im *image, d oci.Descriptor) (bool, error) {
	if here, known := im.held[d.Digest]; known {
		return here, nil
	}
	return c.has(ctx, im.job.Target, d)
}

// has asks whether a repository of the target holds what d names.
func (c *copier) has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	return ask(ctx, c, func() (bool, error) { return c.w.Has(ctx, repo, d) })
}

// ask asks as [again] does, no more than Options.Lookups questions at once.
func ask[T any](ctx context.Context, c *copier, question func() (T, error)) (T, error) {
	return again(ctx, c, func() (T, error) {
		select {
		case c.lookups <- struct{}{}:
			defer func() { <-c.lookups }()
			return question()
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	})
}

// maxAsked is how many times a question is asked that nobody answers, where nobody says
// when to come back: a person who has mistyped a host waits for it.
const maxAsked = 3

// again asks until there is an answer, for as long as Options.Pause allows.
func again[T any](ctx context.Context, c *copier, ask func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := ask()
		if err == nil || oci.IsAnswer(err) || ctx.Err() != nil {
			return v, err
		}
		if n >= maxAsked && !saysWhen(err) {
			return v, err
		}
		if err := c.o.Pause(ctx, n, err); err != nil {
			return v, err
		}
	}
}

func saysWhen(err error) bool {
	var e *oci.Error
	return errors.As(err, &e) && e.RetryAfter > 0
}
