package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestStatusBecomesTheSpecificationsCode(t *testing.T) {
	const html = "<html><body>go away</body></html>"
	spec := func(code string) string {
		return `{"errors":[{"code":"` + code + `","message":"because\u001b[31m\nso"}]}`
	}
	tests := map[string]struct {
		status   int
		body     string
		manifest oci.Code
		blob     oci.Code
		tags     oci.Code
		answer   bool
	}{
		"404 empty":        {404, "", oci.CodeManifestUnknown, oci.CodeBlobUnknown, oci.CodeNameUnknown, true},
		"404 html":         {404, html, oci.CodeManifestUnknown, oci.CodeBlobUnknown, oci.CodeNameUnknown, true},
		"404 name":         {404, spec("NAME_UNKNOWN"), oci.CodeNameUnknown, oci.CodeNameUnknown, oci.CodeNameUnknown, true},
		"404 other code":   {404, spec("DENIED"), oci.CodeManifestUnknown, oci.CodeBlobUnknown, oci.CodeNameUnknown, true},
		"410":              {410, "", oci.CodeManifestUnknown, oci.CodeBlobUnknown, oci.CodeNameUnknown, true},
		"403":              {403, spec("DENIED"), oci.CodeDenied, oci.CodeDenied, oci.CodeDenied, true},
		"403 html":         {403, html, oci.CodeDenied, oci.CodeDenied, oci.CodeDenied, true},
		"403 rate":         {403, spec("TOOMANYREQUESTS"), oci.CodeTooManyRequests, oci.CodeTooManyRequests, oci.CodeTooManyRequests, false},
		"451":              {451, "", oci.CodeDenied, oci.CodeDenied, oci.CodeDenied, true},
		"405":              {405, "", oci.CodeUnsupported, oci.CodeUnsupported, oci.CodeUnsupported, true},
		"400 with a code":  {400, spec("NAME_INVALID"), oci.CodeNameInvalid, oci.CodeNameInvalid, oci.CodeNameInvalid, true},
		"400 without":      {400, html, oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"429":              {429, "", oci.CodeTooManyRequests, oci.CodeTooManyRequests, oci.CodeTooManyRequests, false},
		"500":              {500, spec("DENIED"), oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"502 html":         {502, html, oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"503":              {503, "", oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"418":              {418, "", oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"304":              {304, "", oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"300":              {300, "", oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"302, no Location": {302, "", oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"204":              {204, "", oci.CodeUnavailable, oci.CodeUnavailable, oci.CodeUnavailable, false},
		"200 html":         {200, html, oci.CodeUnavailable, "", oci.CodeUnavailable, false},
		"200 empty":        {200, "", oci.CodeUnavailable, "", oci.CodeUnavailable, false},
		"401 unknown kind": {401, "", oci.CodeUnauthorized, oci.CodeUnauthorized, oci.CodeUnauthorized, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.status == 401 {
					w.Header().Set("WWW-Authenticate", "Negotiate")
				}
				if strings.HasPrefix(test.body, "<") {
					w.Header().Set("Content-Type", "text/html")
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			r := open(t, Options{}, f.URL)
			ctx, repo, digest := t.Context(), repository(t, "a/b"), oci.DigestOf([]byte("x"))
			_, manifestErr := r.Manifest(ctx, repo, digest)
			_, resolveErr := r.ResolveTag(ctx, repo, tag(t, "v1"))
			if test.manifest == oci.CodeNameUnknown && errors.Is(resolveErr, oci.ErrManifestUnknown) {
				resolveErr = manifestErr // the answer to HEAD has no body that tells them apart
			}
			b, blobErr := r.Blob(ctx, repo, digest)
			if blobErr == nil {
				_ = b.Close()
			}
			_, tagsErr := r.Tags(ctx, repo)
			for _, each := range []struct {
				err  error
				want oci.Code
			}{{manifestErr, test.manifest}, {resolveErr, test.manifest}, {blobErr, test.blob}, {tagsErr, test.tags}} {
				if oci.CodeOf(each.err) != each.want || each.err != nil && oci.IsAnswer(each.err) != test.answer {
					t.Errorf("got %v, want %s", each.err, each.want)
				}
				if each.err != nil && strings.ContainsAny(each.err.Error(), "\x1b\n<") {
					t.Errorf("message is not clean: %q", each.err)
				}
			}
		})
	}
}

func TestRateLimitTellsWhenToComeBack(t *testing.T) {
	for name, test := range map[string]struct {
		form   registrytest.TooManyForm
		header time.Duration
		want   time.Duration
	}{
		"hub":            {registrytest.TooManyHub, 0, untoldPause},
		"hub, seconds":   {registrytest.TooManyHub, 90 * time.Second, 90 * time.Second},
		"ghcr":           {registrytest.TooManyGHCR, 0, leastPause},
		"neither":        {registrytest.TooManyBare, 0, untoldPause},
		"bare, a header": {registrytest.TooManyBare, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
			img := reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
			reg.FailNext(registrytest.KindManifest, 1, registrytest.TooMany(test.form, test.header))
			_, err := r.Manifest(t.Context(), repository(t, "a/b"), img.Manifest.Descriptor.Digest)
			var e *oci.Error
			if !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || e.RetryAfter != test.want {
				t.Errorf("got %v, after %v", err, e.RetryAfter)
			}
		})
	}
}

func TestEndpointsAreTriedInOrderUntilOneAnswers(t *testing.T) {
	good := func(w http.ResponseWriter, _ *http.Request) { writeManifest(w) }
	dead := newFake(t, good)
	dead.Close()
	for name, test := range map[string]struct {
		first http.HandlerFunc // nil is a dead host
		want  oci.Code
		moves bool
	}{
		"dead":        {nil, "", true},
		"500":         {registrytest.Status(500), "", true},
		"429":         {registrytest.Status(429), "", true},
		"empty reply": {registrytest.EmptyReply, "", true},
		"a web page":  {registrytest.HTML, "", true},
		"good":        {good, "", false},
		"404":         {http.NotFound, oci.CodeManifestUnknown, false},
		"403":         {registrytest.Status(403), oci.CodeDenied, false},
		"wrong digest": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", oci.MediaTypeImageManifest)
			_, _ = io.WriteString(w, manifestText+" ")
		}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := dead.URL, newFake(t, good)
			if test.first != nil {
				first = newFake(t, test.first).URL
			}
			r := open(t, Options{}, first, second.URL)
			_, err := r.Manifest(t.Context(), repository(t, "a/b"), oci.DigestOf([]byte(manifestText)))
			wantCode(t, err, test.want)
			if moved := len(second.all()) > 0; moved != test.moves {
				t.Errorf("the second was asked: %v", moved)
			}
		})
	}
}

func TestSilentEndpointLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "first.example" {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			body := io.NopCloser(strings.NewReader(manifestText))
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, ContentLength: -1}, nil
		}
		r := open(t, Options{Transport: roundTripper(hang)}, "https://first.example", "https://second.example")
		if _, err := r.Manifest(t.Context(), repository(t, "a/b"), oci.DigestOf([]byte(manifestText))); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlineOfTheCallerIsTheCallersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			Faults: []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, HangBeforeHeaders: registrytest.NewGate()}},
		}}, Options{})
		reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := r.ResolveTag(ctx, repository(t, "a/b"), tag(t, "v1"))
		if !errors.Is(err, context.DeadlineExceeded) || oci.CodeOf(err) != "" {
			t.Errorf("got %v", err)
		}
	})
}

func TestSchema1IsNamed(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", oci.MediaTypeDockerSchema1JWS)
		_, _ = io.WriteString(w, `{"schemaVersion":1,"fsLayers":[]}`)
	})
	r := open(t, Options{}, f.URL)
	_, err := r.ResolveTag(t.Context(), repository(t, "a/b"), tag(t, "v1"))
	wantCode(t, err, oci.CodeUnsupported)
}

func TestHEADThatIsNotLikedBecomesGET(t *testing.T) {
	for _, status := range []int{400, 403, 405, 501} {
		f := newFake(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodHead {
				w.WriteHeader(status)
				return
			}
			writeManifest(w)
		})
		r := open(t, Options{}, f.URL)
		d, err := r.ResolveTag(t.Context(), repository(t, "a/b"), tag(t, "v1"))
		if err != nil || d.Digest != oci.DigestOf([]byte(manifestText)) {
			t.Errorf("%d: got %+v, %v", status, d, err)
		}
	}
}

func TestListsThatMisbehave(t *testing.T) {
	const tags = `{"tags":["b","a","b","","-x","` + "\u00e9" + `"]}`
	for name, test := range map[string]struct {
		link func(n int) string
		body string
		want oci.Code
	}{
		"invalid tags are left out": {func(int) string { return "" }, tags, ""},
		"null":                      {func(int) string { return "" }, `{"tags":null}`, ""},
		"circle":                    {func(int) string { return `</v2/a/b/tags/list?last=x>; rel=next` }, tags, oci.CodeUnavailable},
		"endless":                   {func(n int) string { return fmt.Sprintf(`</v2/a/b/tags/list?last=%d>; rel=next`, n) }, tags, oci.CodeUnavailable},
		"other host":                {func(int) string { return `<http://evil.example/>; rel=next` }, tags, oci.CodeUnavailable},
		"not JSON":                  {func(int) string { return "" }, "hello", oci.CodeUnavailable},
		"too long":                  {func(int) string { return "" }, `{"x":"` + strings.Repeat("x", maxListBytes) + `"}`, oci.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			transport := func(req *http.Request) (*http.Response, error) {
				if req.URL.Host != "registry.example" {
					t.Errorf("%s was asked", req.URL.Host)
				}
				n++
				header := http.Header{"Link": {test.link(n)}}
				return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(test.body)), ContentLength: -1}, nil
			}
			r := open(t, Options{Transport: roundTripper(transport)}, "https://registry.example")
			list, err := r.Tags(t.Context(), repository(t, "a/b"))
			wantCode(t, err, test.want)
			var got []string
			for _, each := range list {
				got = append(got, each.String())
			}
			if test.body == tags && err == nil && !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("got %q", got)
			}
			if n > maxPages {
				t.Errorf("%d pages", n)
			}
		})
	}
}

func TestMetricsCountWhatWasAsked(t *testing.T) {
	metrics := prometheus.NewRegistry()
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{Registerer: metrics})
	blob := reg.AddBlob("a/b", 1000, 1)
	b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, b)
	other, err := oci.ParseRegistry("quay.io")
	if err != nil {
		t.Fatal(err)
	}
	open(t, Options{Registry: other, Registerer: metrics}, reg.URL()) // shares them

	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got[f.GetName()+" "+strings.Join(labels, " ")] = m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"sampan_upstream_requests_total blob docker.io 4xx":   1,
		"sampan_upstream_requests_total token docker.io 2xx":  1,
		"sampan_upstream_requests_total blob docker.io 3xx":   1,
		"sampan_upstream_requests_total blob docker.io 2xx":   1,
		"sampan_upstream_received_bytes_total blob docker.io": 1000,
		"sampan_upstream_tokens_total docker.io ok":           1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
