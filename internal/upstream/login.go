package upstream

import (
	"context"
	"errors"
	"slices"

	"sampan/internal/oci"
)

// clientAccount is the place of the account of a client, which is none of the
// configured ones: what it has left to spend is its own.
const clientAccount = -1

// tell marks the endpoints that may know who clients are.
func tell(list []*endpoint, told []bool) error {
	found := false
	for i, ep := range list {
		if len(told) == 0 {
			ep.told = !found && !ep.blobsOnly
		} else {
			ep.told = i < len(told) && told[i]
		}
		found = found || ep.told && !ep.blobsOnly
	}
	if !found {
		return errors.New("no endpoint may know who asks")
	}
	return nil
}

// mayAsk tells whether an endpoint is asked in a context: as a client, only those
// that learn who it is.
func mayAsk(ctx context.Context, ep *endpoint) bool {
	_, client := oci.LoginFrom(ctx)
	return !client || ep.told
}

// passedOver marks the endpoints that are not asked in a context.
func (r *Registry) passedOver(ctx context.Context) []bool {
	over := make([]bool, len(r.endpoints))
	for i, ep := range r.endpoints {
		over[i] = !mayAsk(ctx, ep)
	}
	return over
}

// askable are the endpoints that are asked for everything in a context, in order.
func (r *Registry) askable(ctx context.Context) []*endpoint {
	if _, client := oci.LoginFrom(ctx); !client {
		return r.trusted
	}
	return slices.DeleteFunc(slices.Clone(r.trusted), func(ep *endpoint) bool { return !ep.told })
}

// asClient returns the endpoint as the client of the context sees it, if there is
// one. What it may ask is no budget of ours.
func asClient(ctx context.Context, ep *endpoint) (*endpoint, bool) {
	login, ok := oci.LoginFrom(ctx)
	if !ok {
		return nil, false
	}
	own := Static(Credential{Username: login.Username, Password: login.Password})
	return &endpoint{ep.site, &account{index: clientAccount, credentials: own}}, true
}

// chooseFor is choose, and the client of the context where there is one.
func (r *Registry) chooseFor(ctx context.Context, ep *endpoint, q question) (*endpoint, error) {
	if as, ok := asClient(ctx, ep); ok {
		return as, nil
	}
	return r.choose(ep, q)
}

type refusedKey struct{}

// withRefused makes a context of which [Refused] is true.
func withRefused(ctx context.Context) context.Context {
	return context.WithValue(ctx, refusedKey{}, true)
}

// Refused tells a [Credentials] that the registry has refused what it gave
// before.
func Refused(ctx context.Context) bool {
	refused, _ := ctx.Value(refusedKey{}).(bool)
	return refused
}

// tokenAnew is token, and once more with newer credentials where there are any
// and the token endpoint refuses those at hand.
func (r *Registry) tokenAnew(ctx context.Context, ep *endpoint, c challenge, cred Credential, scope string) (grant, error) {
	g, err := r.token(ctx, ep, c, cred, scope)
	if oci.CodeOf(err) != oci.CodeUnauthorized || !cred.named() {
		return g, err
	}
	newer, again := r.credential(withRefused(ctx), ep)
	if again != nil || newer == cred || newer.Token != "" || newer.IsZero() {
		return g, err
	}
	return r.token(ctx, ep, c, newer, scope)
}
