package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/upstream/failure"
)

// The facts of an error say what its message says. The registry is asked so often.
func TestWhatWentWrongIsTold(t *testing.T) {
	answer := func(status int, header, body string) roundTripper {
		return func(req *http.Request) (*http.Response, error) {
			rep := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}
			if name, value, ok := strings.Cut(header, ": "); ok {
				rep.Header.Set(name, value)
			}
			return rep, nil
		}
	}
	silent := func(err error) roundTripper {
		return func(*http.Request) (*http.Response, error) { return nil, &net.OpError{Op: "dial", Err: err} }
	}
	const because = `{"errors":[{"code":"X","message":"because"}]}`
	me := Credential{Username: "me", Password: "secret"}
	for fact, c := range map[string]struct {
		transport roundTripper
		user      Credential
		asked     int
		want      failure.Facts
	}{
		"unknown":         {answer(404, "", because), Credential{}, 1, failure.Facts{Kind: failure.NotThere, Said: "because"}},
		"denied":          {answer(403, "", because), Credential{}, 1, failure.Facts{Kind: failure.Forbidden, Said: "because"}},
		"limited":         {answer(429, "Retry-After: 60", because), Credential{}, 1, failure.Facts{Kind: failure.Limited, Said: "because"}},
		"an error of it":  {answer(502, "", because), Credential{}, 1, failure.Facts{Kind: failure.BadStatus, Status: 502, Said: "because"}},
		"no login":        {answer(401, `WWW-Authenticate: Basic realm="x"`, ""), Credential{}, 1, failure.Facts{Kind: failure.LoginNeeded}},
		"a refused login": {answer(401, `WWW-Authenticate: Basic realm="x"`, ""), me, 2, failure.Facts{Kind: failure.LoginRefused}},
		"a strange login": {answer(401, "WWW-Authenticate: Negotiate", ""), Credential{}, 1, failure.Facts{Kind: failure.LoginUnknown, What: "negotiate"}},
		"a web page":      {answer(200, "Content-Type: text/html", "<html>"), Credential{}, 1, failure.Facts{What: "answered with a web page instead of a list"}},
		"a private address": {
			answer(307, "Location: https://10.0.0.1/x", ""),
			Credential{},
			1,
			failure.Facts{Kind: failure.PrivateAddress, Host: "10.0.0.1"},
		},
		"refused":           {silent(syscall.ECONNREFUSED), Credential{}, 1, failure.Facts{Kind: failure.ConnectionRefused, Host: "registry.example"}},
		"no such name":      {silent(&net.DNSError{IsNotFound: true}), Credential{}, 1, failure.Facts{Kind: failure.NoSuchName, Host: "registry.example"}},
		"a name unresolved": {silent(&net.DNSError{}), Credential{}, 1, failure.Facts{Kind: failure.NameUnresolved, Host: "registry.example"}},
		"untrusted": {
			silent(&tls.CertificateVerificationError{Err: errors.New("signed by nobody")}),
			Credential{},
			1,
			failure.Facts{Kind: failure.CertUntrusted, Host: "registry.example"},
		},
		"no TLS":            {silent(tls.RecordHeaderError{}), Credential{}, 1, failure.Facts{Kind: failure.NoTLS, Host: "registry.example"}},
		"silence":           {silent(syscall.ETIMEDOUT), Credential{}, 1, failure.Facts{Kind: failure.Silent, Host: "registry.example"}},
		"broken off":        {silent(syscall.ECONNRESET), Credential{}, 1, failure.Facts{Kind: failure.BrokenOff, Host: "registry.example"}},
		"unreachable":       {silent(syscall.EHOSTUNREACH), Credential{}, 1, failure.Facts{Kind: failure.Unreachable, Host: "registry.example"}},
		"a proxy's login":   {silent(&proxyError{status: 407}), Credential{}, 1, failure.Facts{Kind: failure.ProxyLogin, Host: "registry.example"}},
		"a proxy's refusal": {silent(&proxyError{status: 403}), Credential{}, 1, failure.Facts{Kind: failure.ProxyStatus, Status: 403, Host: "registry.example"}},
		"a SOCKS proxy":     {silent(&proxyError{err: errSOCKS}), Credential{}, 1, failure.Facts{Kind: failure.ProxySOCKS, Host: "registry.example"}},
		"no proxy": {
			silent(&proxyError{err: syscall.ECONNREFUSED}),
			Credential{},
			1,
			failure.Facts{Kind: failure.ConnectionRefused, Proxy: true, Host: "registry.example"},
		},
	} {
		t.Run(fact, func(t *testing.T) {
			asked := 0
			counting := func(req *http.Request) (*http.Response, error) { asked++; return c.transport(req) }
			r := open(t, Options{
				Transport: roundTripper(counting), Credentials: Static(c.user),
			}, "https://registry.example")
			_, err := r.Tags(t.Context(), repository(t, "a/b"))
			got := failureIn(t, err)
			c.want.Registry = oci.DockerHub
			if bare := withoutCause(got); bare != c.want {
				t.Errorf("got %+v, want %+v", bare, c.want)
			}
			if e := (*oci.Error)(nil); !errors.As(err, &e) || e.Message != got.Sentence() {
				t.Errorf("%q, and the facts say %q", e.Message, got.Sentence())
			}
			if asked != c.asked {
				t.Errorf("asked %d times, not %d", asked, c.asked)
			}
		})
	}
}

// failureIn is what an error is about.
func failureIn(t *testing.T, err error) *failure.Facts {
	t.Helper()
	var e *oci.Error
	errors.As(err, &e)
	f := failure.Of(e)
	if f == nil {
		t.Fatalf("no facts in %v", err)
	}
	return f
}

func withoutCause(f *failure.Facts) failure.Facts {
	bare := *f
	bare.Err = nil
	return bare
}

// Somebody who is left alone is so for a reason, which is told with it.
func TestWhyARegistryIsLeftAloneIsTold(t *testing.T) {
	asked := 0
	r := open(t, Options{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		asked++
		return nil, syscall.ECONNREFUSED
	})}, "https://registry.example")
	var err error
	for range failuresToOpen + 1 {
		_, err = r.Tags(t.Context(), repository(t, "a/b"))
	}
	f := failureIn(t, err)
	if f.Kind != failure.LeftAlone || f.Again != firstPause || f.Last == nil || f.Last.Kind != failure.ConnectionRefused || asked != failuresToOpen {
		t.Errorf("got %+v of %+v, asked %d times", f, f.Last, asked)
	}
	if got, want := f.Sentence(), "docker.io cannot be reached: connection refused (registry.example); it is asked again in 1s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A blob that breaks off says so, by whom, and where.
func TestABlobThatBreaksOffSaysWhere(t *testing.T) {
	reg := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: 1000}},
	}})
	layer := reg.AddImage("a/b", "1", registrytest.ImageSpec{Layers: []int64{5000}}).Layers[0][0].Digest
	r := open(t, Options{}, reg.URL())
	b, err := r.FetchBlob(repository(t, "a/b"), layer).Part(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	n, err := io.Copy(io.Discard, b.Body)
	var f *failure.Facts
	if !errors.As(err, &f) || f.Kind != failure.BrokenOff || !errors.Is(err, io.ErrUnexpectedEOF) || oci.CodeOf(err) != "" || n != 1000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if want := fmt.Sprintf("upstream docker.io: blob %s broke off at 1000 bytes: unexpected EOF", layer); err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if u, _ := url.Parse(reg.URL()); f.Host != u.Host {
		t.Errorf("at %q", f.Host)
	}
}
