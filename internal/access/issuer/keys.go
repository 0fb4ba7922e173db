package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
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
	// moment is how long a key that is known and not fresh waits for the answer.
	moment = time.Second
	// maxAnswer bounds what it says, in bytes.
	maxAnswer = 1 << 20
	// maxRedirects bounds those that are followed, at the same host.
	maxRedirects = 3
)

// unreachable is that the keys of an issuer cannot be had.
type unreachable struct{ err error }

func (u *unreachable) Error() string { return "its keys cannot be had: " + u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }

// errLate is that the answer has not come yet.
var errLate = errors.New("no answer yet")

// keys are those of an issuer; they are an oidc.KeySet.
type keys struct {
	o      Options
	log    *slog.Logger
	client *http.Client
	ca     []byte                           // content of CAFile
	file   *follow.File[jose.JSONWebKeySet] // nil without
	token  *follow.File[string]             // nil without

	mu      sync.Mutex
	set     jose.JSONWebKeySet
	got     time.Time // when set was; zero for never
	asked   time.Time
	asking  chan struct{} // closed when the question that runs has ended; nil: none runs
	failure error         // of the last question
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
	roots, err := k.roots()
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

// roots are the authorities that are believed; nil for those of the system.
func (k *keys) roots() (*x509.CertPool, error) {
	if k.o.CAFile == "" {
		return nil, nil //nolint:nilnil // those of the system
	}
	var err error
	if k.ca, err = os.ReadFile(k.o.CAFile); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(k.ca) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", k.o.CAFile)
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

// of returns the keys, in which that of the id is if the issuer has it. A key that is
// known and fresh counts at once, also while the issuer is asked about another; one that
// is not fresh waits a moment for the answer.
func (k *keys) of(ctx context.Context, id string) (jose.JSONWebKeySet, error) {
	if k.file != nil {
		set, err := k.file.Get(false)
		if err != nil {
			return set, &unreachable{err}
		}
		return set, nil
	}
	k.mu.Lock()
	now := time.Now()
	known := k.knows(id)
	if known && now.Sub(k.got) < fresh {
		defer k.mu.Unlock()
		return k.set, nil
	}
	if k.asking == nil && (k.asked.IsZero() || now.Sub(k.asked) >= askAgain) {
		k.asked, k.asking = now, make(chan struct{})
		go k.update(context.WithoutCancel(ctx), k.asking) // it is everybody's who waits
	}
	asking, patience := k.asking, 2*askTimeout
	if known {
		patience = k.asked.Add(moment).Sub(now)
	}
	k.mu.Unlock()
	if asking != nil && patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-asking:
		case <-timer.C:
		case <-ctx.Done():
			return jose.JSONWebKeySet{}, context.Cause(ctx)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.got.IsZero() {
		if k.failure == nil {
			return k.set, &unreachable{errLate}
		}
		return k.set, &unreachable{k.failure}
	}
	return k.set, nil
}

// knows tells whether a key is known. The caller holds mu.
func (k *keys) knows(id string) bool {
	return !k.got.IsZero() && (id == "" || len(k.set.Key(id)) > 0)
}

// update asks, and closes done when it has ended.
func (k *keys) update(ctx context.Context, done chan struct{}) {
	set, err := k.ask(ctx)
	if err != nil {
		k.log.Warn("the issuer of tokens does not answer", "issuer", k.o.Name, "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure = err; err == nil {
		k.set, k.got = set, time.Now()
	}
	k.asking = nil
	close(done)
}
