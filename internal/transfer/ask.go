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
		have, err := ask(ctx, c, targetOf(job), func() (oci.Descriptor, error) { return r.ResolveTag(ctx, job.Target, tag) })
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
	return ask(ctx, c, party{repo.Registry(), true}, func() (bool, error) { return c.w.Has(ctx, repo, d) })
}

// A party is who is asked: where something comes from, or where it goes to.
type party struct {
	registry oci.Registry
	target   bool
}

func sourceOf(job Job) party { return party{job.Source.Repository.Registry(), false} }
func targetOf(job Job) party { return party{job.Target.Registry(), true} }

// ask asks as [again] does, no more than Options.Lookups questions at once.
func ask[T any](ctx context.Context, c *copier, who party, question func() (T, error)) (T, error) {
	return again(ctx, c, who, func() (T, error) {
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

// again asks as [Again] does. Whoever has answered anything in this run is there.
func again[T any](ctx context.Context, c *copier, who party, question func() (T, error)) (T, error) {
	return Again(ctx, c.o.Pause, func() bool { return c.heardOf(who) }, func() (T, error) {
		v, err := question()
		if err == nil || isThere(err) {
			c.hear(who)
		}
		return v, err
	})
}

func (c *copier) hear(who party) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[who] = true
}

func (c *copier) heardOf(who party) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard[who]
}

// maxAsked is how many times who may not be there at all is asked, where nobody says when
// to come back: a person who has mistyped a host waits for it.
const maxAsked = 3

// Again asks until there is an answer, for as long as pause allows, which is as for
// [Options]. Who gives no sign of life is asked three times, unless known tells that they
// are there; nil means that nobody knows.
func Again[T any](ctx context.Context, pause func(ctx context.Context, n int, err error) error, known func() bool, question func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := question()
		if err == nil || oci.IsAnswer(err) || ctx.Err() != nil {
			return v, err
		}
		if n >= maxAsked && !isThere(err) && (known == nil || !known()) {
			return v, err
		}
		if err := pause(ctx, n, err); err != nil {
			return v, err
		}
	}
}

// isThere tells whether an error comes from who was asked: it is an answer, it says when to
// come back, or it knows itself that somebody has answered (Answered).
func isThere(err error) bool {
	var e *oci.Error
	if oci.IsAnswer(err) || errors.As(err, &e) && (e.RetryAfter > 0 || e.Code == oci.CodeTooManyRequests) {
		return true
	}
	var answer interface{ Answered() bool }
	return errors.As(err, &answer) && answer.Answered()
}
