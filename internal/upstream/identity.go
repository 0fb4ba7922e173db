package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// errMovedToken refuses to send an identity token anywhere but where the registry
// said.
var errMovedToken = errors.New("the token endpoint redirects")

// postToken asks the token endpoint with an identity token (distribution's token
// specification, "OAuth 2.0"). Redirects are not followed: the token is in the
// body.
func (r *Registry) postToken(ctx context.Context, realm *url.URL, service, scope, identity string) (*reply, error) {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {identity},
		"client_id": {"sampan"}, "service": {service}, "scope": {scope},
	}.Encode()
	if err := r.guard.checkURL(realm); err != nil {
		return nil, r.refusedAddress(realm, err)
	}
	hop, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(hop, http.MethodPost, realm.String(), strings.NewReader(form))
	if err != nil {
		cancel(nil)
		return nil, r.noAnswer(errBadLocation, "asks for a token at something that is not an address")
	}
	req.Header = http.Header{
		"User-Agent": {r.userAgent}, "Accept": {"application/json"}, "Accept-Encoding": {"identity"},
		"Content-Type": {"application/x-www-form-urlencoded"},
	}
	timer := time.AfterFunc(r.timeout, func() { cancel(errSlow) })
	start := time.Now()
	resp, err := r.transport.RoundTrip(req)
	took := time.Since(start)
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(hop), errSlow) {
			err = errSlow
		}
		cancel(nil)
		r.metrics.sent(kindToken, 0, took)
		return nil, r.broken(ctx, realm, err)
	}
	r.metrics.sent(kindToken, resp.StatusCode, took)
	rep := &reply{Response: resp, method: http.MethodPost, url: realm, ctx: hop, cancel: cancel}
	if isRedirect(resp.StatusCode) {
		rep.close()
		return nil, r.noAnswer(errMovedToken, "has a token endpoint that redirects, where an identity token is not sent")
	}
	return rep, nil
}
