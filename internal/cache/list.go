package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// Tags implements [oci.Reader].
func (c *Cache) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	keep := func(ctx context.Context, names []string) error {
		listed := make([]question, len(names))
		for i, name := range names {
			listed[i] = question{repo, askTag, name}
		}
		c.missing.forget(listed...)
		return c.storeList(ctx, repo, "tags", names)
	}
	names, err := list(ctx, c, question{repo, askTags, ""}, "tags", keep, func(ctx context.Context, up oci.Reader) ([]string, error) {
		tags, err := up.Tags(ctx, repo)
		names := make([]string, len(tags))
		for i, t := range tags {
			names[i] = t.String()
		}
		return names, err
	})
	if err != nil {
		return nil, err
	}
	tags := make([]oci.Tag, 0, len(names))
	for _, name := range names {
		if t, err := oci.ParseTag(name); err == nil {
			tags = append(tags, t)
		}
	}
	return tags, nil
}

// Referrers implements [oci.Reader]. Every registry says of a digest that it has
// never seen that nothing refers to it: that is kept only for digests that the
// repository is known to hold, so that nobody fills the index with made-up ones.
func (c *Cache) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest) ([]oci.Descriptor, error) {
	key := "referrers " + d.String()
	keep := func(ctx context.Context, found []oci.Descriptor) error {
		if len(found) == 0 {
			if _, ok, err := c.linked(ctx, repo, d); err != nil || !ok {
				return err
			}
		}
		return c.storeList(ctx, repo, key, found)
	}
	return list(ctx, c, question{repo, askReferrers, d.String()}, key, keep, func(ctx context.Context, up oci.Reader) ([]oci.Descriptor, error) {
		return up.Referrers(ctx, repo, d)
	})
}

// list answers a question whose answer is a list: from the index while it is
// fresh, from upstream when not, and from the index again when upstream gives
// no answer. What upstream said is given to keep.
func list[T any](ctx context.Context, c *Cache, q question, key string,
	keep func(context.Context, []T) error, get func(context.Context, oci.Reader) ([]T, error),
) ([]T, error) {
	p := c.o.Policy(q.repo)
	look := func(ctx context.Context) (known[[]T], error) {
		k, err := storedList[T](ctx, c, q.repo, key)
		k.fresh = k.ok && p.fresh(k.checked)
		return k, err
	}
	return recall(ctx, c, q, look, func(ctx context.Context, _ known[[]T]) (answer[[]T], error) {
		up, err := c.upstream(q.repo)
		if err != nil {
			return answer[[]T]{}, err
		}
		values, err := get(ctx, up)
		if c.heard(ctx, q.repo, err) != nil {
			return answer[[]T]{}, err
		}
		return answer[[]T]{values, oci.ResultMiss}, keep(ctx, values)
	})
}

func storedList[T any](ctx context.Context, c *Cache, repo oci.Repository, key string) (known[[]T], error) {
	e, err := c.o.Refs.List(ctx, repo, key)
	if errors.Is(err, refs.ErrNotFound) {
		return known[[]T]{}, nil
	}
	k := known[[]T]{checked: e.Checked, ok: true}
	if err == nil {
		err = json.Unmarshal(e.Body, &k.value)
	}
	if err != nil {
		return known[[]T]{}, fmt.Errorf("cache %s %s: %w", repo, key, err)
	}
	return k, nil
}

func (c *Cache) storeList(ctx context.Context, repo oci.Repository, key string, values any) error {
	return c.storeListOf(ctx, repo, key, values, time.Now())
}

// storeListOf keeps an answer that was confirmed at that time.
func (c *Cache) storeListOf(ctx context.Context, repo oci.Repository, key string, values any, checked time.Time) error {
	body, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("cache %s %s: %w", repo, key, err)
	}
	return c.o.Refs.PutList(ctx, repo, key, refs.ListEntry{Body: body, Checked: checked})
}
