package upstream

import (
	"context"

	"sampan/internal/oci"
)

// ask sends a question to one endpoint and returns an answer of status 2xx; everything
// else is an error. What the repository does not have may be in another ([Options.Moved]).
func (r *Registry) ask(ctx context.Context, ep *endpoint, q question) (*reply, error) {
	rep, err := r.askOne(ctx, ep, q)
	other, moved := r.moved[q.repo.Path()]
	if !moved || !oci.IsUnknown(err) || q.kind == kindTags || q.url != nil {
		return rep, err
	}
	q.repo = other
	rep, otherErr := r.askOne(ctx, ep, q)
	if oci.IsUnknown(otherErr) {
		return nil, err
	}
	return rep, otherErr
}

// newMoved parses [Options.Moved].
func newMoved(o Options) (map[string]oci.Repository, error) {
	moved := make(map[string]oci.Repository, len(o.Moved))
	for path, to := range o.Moved {
		repo, err := o.Registry.Repository(to)
		if err != nil {
			return nil, err
		}
		moved[path] = repo
	}
	return moved, nil
}
