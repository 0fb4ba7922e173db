package admin

import (
	"context"
	"errors"
	"net/http"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

// An Explanation is what the operator is told about an image: what its name
// means here, what is cached of it, and what the next pull would meet.
type Explanation struct {
	Image     string     `json:"image"`               // as it was asked for
	Reference string     `json:"reference,omitempty"` // the image at its registry; empty when the name is refused
	Named     Named      `json:"named"`
	Settings  []Setting  `json:"settings"`
	Upstream  *Upstream  `json:"upstream,omitempty"` // nil when nothing is known of it
	Next      cache.Next `json:"next"`
	// Refused says why the name is; empty when it is not.
	Refused string `json:"refused,omitempty"`
	// Cache is nil for a name that is refused.
	Cache *cache.Explanation `json:"cache,omitempty"`
}

// Named says how a name chose its registry.
type Named struct {
	By    string `json:"by,omitempty"`    // name, host, path or default
	Alias string `json:"alias,omitempty"` // "from → to"; empty when none applied
}

// A Setting is a value of the configuration that applies to a repository.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"` // the path of the section that it is written in, or would be
}

// An Explainer puts an [Explanation] together. All but Upstream are needed.
type Explainer struct {
	// Locate says what an image name means here. Its errors are those for clients.
	Locate func(image string) (oci.Reference, Named, error)
	// Cached looks into the cache, and asks nobody.
	Cached func(context.Context, oci.Reference) (cache.Explanation, error)
	// Settings are those that apply to a repository.
	Settings func(oci.Repository) []Setting
	// Upstream tells how a registry is; nil, or false, when that is not known.
	Upstream func(oci.Registry) (Upstream, bool)
}

// Explain fails with an [oci.Error] for what is no image name at all.
func (x *Explainer) Explain(ctx context.Context, image string) (Explanation, error) {
	e := Explanation{Image: image, Settings: []Setting{}}
	ref, named, err := x.Locate(image)
	e.Named = named
	switch {
	case oci.CodeOf(err) == oci.CodeDenied:
		var refusal *oci.Error
		errors.As(err, &refusal)
		e.Refused = refusal.Message
		e.Next = cache.Next{Result: cache.NextDenied, Reason: cache.CauseName}
		return e, nil
	case err != nil:
		return Explanation{}, err
	}
	e.Reference = ref.String()
	e.Settings = append(e.Settings, x.Settings(ref.Repository)...)
	if x.Upstream != nil {
		if u, ok := x.Upstream(ref.Repository.Registry()); ok {
			e.Upstream = &u
		}
	}
	cached, err := x.Cached(ctx, ref)
	if err != nil {
		return Explanation{}, err
	}
	e.Cache, e.Next = &cached, cached.Next
	return e, nil
}

// serveExplain answers GET /api/v1/explain?image=NAME.
func (x *Explainer) serveExplain(w http.ResponseWriter, r *http.Request) {
	e, err := x.Explain(r.Context(), r.URL.Query().Get("image"))
	if err == nil {
		sayJSON(w, e)
		return
	}
	status, message := http.StatusInternalServerError, err.Error()
	if answer := (*oci.Error)(nil); errors.As(err, &answer) && oci.IsAnswer(err) {
		status, message = http.StatusBadRequest, answer.Message
	}
	say(w, status, message)
}
