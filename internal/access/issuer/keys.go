package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sampan/internal/follow"
)

const (
	// askAgain is how long an issuer is not asked again, and fresh for how long its
	// keys are used without asking: a key that it takes back is out by then.
	askAgain = 10 * time.Second
	fresh    = time.Hour
	// askTimeout bounds one question to it.
	askTimeout = 5 * time.Second
	// maxAnswer bounds what it says, in bytes.
	maxAnswer = 1 << 20
	// maxRedirects bounds those that are followed, at the same host.
	maxRedirects = 3
)

// unreachable is that the keys of an issuer cannot be had.
type unreachable struct{ err error }

func (u *unreachable) Error() string { return "its keys cannot be had: " + u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }

// keys are those of an issuer; they are an oidc.KeySet.
type keys struct {
	o      Options
	log    *slog.Logger
	client *http.Client
	file   *follow.File[jose.JSONWebKeySet] // nil without
	token  *follow.File[string]             // nil without

	mu      sync.Mutex
	set     jose.JSONWebKeySet
	got     time.Time // when set was; zero for never
	asked   time.Time
	failure error // of the last question
}

func newKeys(o Options, log *slog.Logger) (*keys, error) {
	k := &keys{o: o, log: log}
	if o.KeysFile != "" {
		k.file = follow.New(o.KeysFile, log, parseKeys)
		_, err := k.file.Get(false)
		return k, err
	}
	if o.TokenFile != "" {
		k.token = follow.Secret(o.TokenFile, "", log)
	}
	roots, err := rootsOf(o.CAFile)
	if err != nil {
		return nil, err
	}
	k.client = &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: askTimeout, ResponseHeaderTimeout: askTimeout, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || r.URL.Host != via[0].URL.Host || r.URL.Scheme != "https" {
				return errors.New("it leads elsewhere")
			}
			return nil
		},
	}
	return k, nil
}

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // those of the system
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return roots, nil
}

func parseKeys(text []byte) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return set, fmt.Errorf("not a set of keys: %w", err)
	}
	public := set.Keys[:0]
	for _, key := range set.Keys {
		if key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			public = append(public, key)
		}
	}
	if set.Keys = public; len(public) == 0 {
		return set, errors.New("there is no public key for signatures in it")
	}
	return set, nil
}

// parse reads a token that has one signature, of an algorithm that counts.
func parse(token string) (*jose.JSONWebSignature, error) {
	var allowed []jose.SignatureAlgorithm
	for _, a := range algorithms() {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	return jose.ParseSignedCompact(token, allowed)
}

// ready tells why the keys for a token cannot be had. The library that verifies says
// it only in words.
func (k *keys) ready(ctx context.Context, token string) error {
	jws, err := parse(token)
	if err != nil {
		return nil //nolint:nilerr // it will be told by who verifies
	}
	_, err = k.of(ctx, jws.Signatures[0].Header.KeyID)
	return err
}

// VerifySignature implements oidc.KeySet.
func (k *keys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := parse(token)
	if err != nil {
		return nil, err
	}
	id := jws.Signatures[0].Header.KeyID
	set, err := k.of(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, key := range set.Keys {
		if id != "" && key.KeyID != id || key.Algorithm != "" && key.Algorithm != jws.Signatures[0].Header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(&key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer has signed it")
}

// of returns the keys, in which that of the id is if the issuer has it.
func (k *keys) of(ctx context.Context, id string) (jose.JSONWebKeySet, error) {
	if k.file != nil {
		set, err := k.file.Get(false)
		if err != nil {
			return set, &unreachable{err}
		}
		return set, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	known := !k.got.IsZero() && (id == "" || len(k.set.Key(id)) > 0)
	if known && now.Sub(k.got) < fresh {
		return k.set, nil
	}
	if k.asked.IsZero() || now.Sub(k.asked) >= askAgain {
		k.asked = now
		set, err := k.ask(context.WithoutCancel(ctx)) // it is everybody's who waits
		if k.failure = err; err == nil {
			k.set, k.got = set, now
			return set, nil
		}
		k.log.Warn("the issuer of tokens does not answer", "issuer", k.o.Name, "err", err)
	}
	if k.got.IsZero() {
		return k.set, &unreachable{k.failure}
	}
	return k.set, nil
}

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
	if text, err = k.get(ctx, doc.JWKSURI); err != nil {
		return jose.JSONWebKeySet{}, err
	}
	return parseKeys(text)
}

func (k *keys) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if own, err := url.Parse(k.o.URL); k.token != nil && err == nil && own.Host == req.URL.Host {
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
