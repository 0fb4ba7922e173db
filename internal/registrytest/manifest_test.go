package registrytest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestManifestForms(t *testing.T) {
	exact := []string{"Accept", oci.MediaTypeDockerManifest + ";q=1, " + oci.MediaTypeImageManifest}
	for name, tt := range map[string]struct {
		form        registrytest.ManifestForm
		method      string
		header      []string
		contentType string // "-" for absent
		digest      string // "right", "wrong" or "none"
		bodyRight   bool
	}{
		"plain":                         {registrytest.ManifestForm{}, "GET", nil, oci.MediaTypeImageManifest, "right", true},
		"HEAD":                          {registrytest.ManifestForm{}, "HEAD", nil, oci.MediaTypeImageManifest, "right", false},
		"no digest on HEAD":             {registrytest.ManifestForm{NoDigestOnHead: true}, "HEAD", nil, oci.MediaTypeImageManifest, "none", false},
		"but on GET":                    {registrytest.ManifestForm{NoDigestOnHead: true}, "GET", nil, oci.MediaTypeImageManifest, "right", true},
		"no digest":                     {registrytest.ManifestForm{NoDigest: true}, "GET", nil, oci.MediaTypeImageManifest, "none", true},
		"a wrong digest":                {registrytest.ManifestForm{WrongDigest: true}, "GET", nil, oci.MediaTypeImageManifest, "wrong", true},
		"parameters on the type":        {registrytest.ManifestForm{ContentTypeSuffix: "; charset=utf-8"}, "GET", nil, oci.MediaTypeImageManifest + "; charset=utf-8", "right", true},
		"a wrong type":                  {registrytest.ManifestForm{ContentType: "text/plain"}, "GET", nil, "text/plain", "right", true},
		"no type":                       {registrytest.ManifestForm{NoContentType: true}, "GET", nil, "-", "right", true},
		"chunked":                       {registrytest.ManifestForm{Chunked: true}, "GET", nil, oci.MediaTypeImageManifest, "right", true},
		"schema 1 for any type":         {registrytest.ManifestForm{Schema1: true}, "GET", []string{"Accept", "*/*"}, oci.MediaTypeDockerSchema1JWS, "wrong", false},
		"schema 1 for none":             {registrytest.ManifestForm{Schema1: true}, "GET", nil, oci.MediaTypeDockerSchema1JWS, "wrong", false},
		"no schema 1 for the exact one": {registrytest.ManifestForm{Schema1: true}, "GET", exact, oci.MediaTypeImageManifest, "right", true},
		"oversized":                     {registrytest.ManifestForm{PadTo: 9 << 20}, "GET", nil, oci.MediaTypeImageManifest, "right", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Manifest: tt.form}})
			m := r.AddImage("a", "v1", registrytest.ImageSpec{}).Manifest
			a := do(t, r.Client(), tt.method, r.URL()+"/v2/a/manifests/v1", tt.header...)
			contentType := "-"
			if values := a.header.Values("Content-Type"); len(values) > 0 {
				contentType = values[0]
			}
			digest := "wrong"
			switch a.header.Get("Docker-Content-Digest") {
			case m.Descriptor.Digest.String():
				digest = "right"
			case "":
				digest = "none"
			}
			if a.status != 200 || contentType != tt.contentType || digest != tt.digest || m.Descriptor.Digest.Verify(a.body) != tt.bodyRight {
				t.Errorf("%d %s %s %v", a.status, contentType, digest, a.header)
			}
			if tt.form.Chunked != (a.length < 0) {
				t.Errorf("length %d", a.length)
			}
			if int64(len(a.body)) < tt.form.PadTo {
				t.Errorf("%d bytes", len(a.body))
			}
		})
	}
}

func TestAManifestThatIsKnownIsNotSentAgain(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	m := r.AddImage("a", "v1", registrytest.ImageSpec{}).Manifest
	a := do(t, r.Client(), "GET", r.URL()+"/v2/a/manifests/v1", "If-None-Match", `"`+m.Descriptor.Digest.String()+`"`)
	if a.status != 304 {
		t.Errorf("%d", a.status)
	}
	r.SetBehavior(registrytest.Quay())
	a = do(t, r.Client(), "GET", r.URL()+"/v2/a/manifests/v1")
	if a.header.Get("Etag") != "" {
		t.Errorf("an ETag: %v", a.header)
	}
}

func TestRateLimitCountsGETsOfManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			RateLimit: registrytest.RateLimit{Pulls: 2, RetryAfter: 1500 * time.Millisecond},
		}})
		r.AddImage("a", "v1", registrytest.ImageSpec{})
		u := r.URL() + "/v2/a/manifests/v1"
		for i, want := range []struct {
			method, remaining string
			status            int
		}{{"HEAD", "2;w=21600", 200}, {"GET", "1;w=21600", 200}, {"GET", "0;w=21600", 200}, {"HEAD", "0;w=21600", 200}, {"GET", "0;w=21600", 429}} {
			a := do(t, r.Client(), want.method, u)
			if a.status != want.status || a.header.Get("RateLimit-Remaining") != want.remaining || a.header.Get("RateLimit-Limit") != "2;w=21600" {
				t.Errorf("request %d: %d %v", i, a.status, a.header)
			}
			if a.status == 429 && (a.header.Get("Retry-After") != "2" || !strings.Contains(string(a.body), "TOOMANYREQUESTS")) {
				t.Errorf("429: %v %s", a.header, a.body)
			}
		}
		<-time.After(6*time.Hour + 1)
		if a := do(t, r.Client(), "GET", u); a.status != 200 {
			t.Errorf("in the next window: %d", a.status)
		}
	})
}

func TestRateLimitThatIsNotToldAndCountsHEAD(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
		RateLimit: registrytest.RateLimit{Pulls: 1, Form: registrytest.TooManyECR, Untold: true, Heads: true},
	}})
	r.AddImage("a", "v1", registrytest.ImageSpec{})
	for i, want := range []int{200, 429} {
		a := do(t, r.Client(), "HEAD", r.URL()+"/v2/a/manifests/v1")
		if a.status != want || a.header.Get("RateLimit-Limit") != "" || a.header.Get("RateLimit-Remaining") != "" {
			t.Errorf("request %d: %d %v", i, a.status, a.header)
		}
	}
}

func TestFormsOf429(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	for form, want := range map[registrytest.TooManyForm]string{
		registrytest.TooManyHub: "TOOMANYREQUESTS", registrytest.TooManyGHCR: "retry-after: 43.988µs, allowed: 44000/minute", registrytest.TooManyBare: "",
		registrytest.TooManyECR: "Rate exceeded",
	} {
		r.FailNext(registrytest.KindPing, 1, registrytest.TooMany(form, 0))
		a := do(t, r.Client(), "GET", r.URL()+"/v2/")
		if a.status != 429 || !strings.Contains(string(a.body), want) || want == "" && len(a.body) > 0 || a.header.Get("Retry-After") != "" {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	}
}
