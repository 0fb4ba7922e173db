package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// ask finds out where the keys are, and gets them.
func (k *keys) ask(ctx context.Context) (jose.JSONWebKeySet, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	text, err := k.get(ctx, strings.TrimSuffix(k.o.URL, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return jose.JSONWebKeySet{}, fmt.Errorf("its description cannot be read: %w", err)
	}
	if doc.Issuer != k.o.URL {
		return jose.JSONWebKeySet{}, fmt.Errorf("it calls itself %.200q", doc.Issuer)
	}
	u, err := url.Parse(doc.JWKSURI)
	if err != nil || u.Scheme != "https" {
		return jose.JSONWebKeySet{}, errors.New("its keys are not at an https address")
	}
	if text, err = k.get(ctx, k.near(u)); err != nil {
		return jose.JSONWebKeySet{}, err
	}
	return parseKeys(text)
}

// near is where the keys are asked for. Where the issuer is asked with a token, that is
// its own host, whichever host it names: an API server of Kubernetes names itself as it
// is known outside of the cluster, and nobody else may learn the token.
func (k *keys) near(keys *url.URL) string {
	own, err := url.Parse(k.o.URL)
	if k.token == nil || err != nil {
		return keys.String()
	}
	near := *keys
	near.Host = own.Host
	return near.String()
}

func (k *keys) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if k.token != nil {
		token, err := k.token.Get(false)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", req.URL.Redacted(), resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("%s says more than %d bytes", req.URL.Redacted(), maxAnswer)
	}
	return text, err
}
