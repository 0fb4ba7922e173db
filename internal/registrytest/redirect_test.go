package registrytest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/registrytest"
)

func TestRedirectLeadsToTheBlob(t *testing.T) {
	for name, tt := range map[string]struct {
		redirect registrytest.Redirect
		prefix   string // of the Location
		kinds    [2]int // blob and CDN requests
	}{
		"CDN":            {registrytest.Redirect{Status: 307}, "CDN/registry-v2/docker", [2]int{1, 1}},
		"302":            {registrytest.Redirect{Status: 302}, "CDN/registry-v2/docker", [2]int{1, 1}},
		"308":            {registrytest.Redirect{Status: 308}, "CDN/registry-v2/docker", [2]int{1, 1}},
		"relative":       {registrytest.Redirect{Status: 302, Target: registrytest.TargetRelative}, "/artifacts-downloads/", [2]int{1, 1}},
		"the same host":  {registrytest.Redirect{Status: 307, Target: registrytest.TargetSelf}, "SELF/artifacts-downloads/", [2]int{1, 1}},
		"sub-domain":     {registrytest.Redirect{Status: 307, Target: registrytest.TargetSubdomain}, "http://cdn.registry.test:5001/", [2]int{1, 1}},
		"another host":   {registrytest.Redirect{Status: 307, Target: registrytest.TargetOtherHost}, "http://cdn.test:5001/", [2]int{1, 1}},
		"a double slash": {registrytest.Redirect{Status: 307, DoubleSlash: true}, "CDN/registry-v2//docker", [2]int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Redirect: tt.redirect}})
			d := r.AddBlob("a", 100_000, 1)
			first := do(t, direct(r), "GET", blobURL(r, "a", d))
			want := strings.NewReplacer("CDN", r.CDNURL(), "SELF", r.URL()).Replace(tt.prefix)
			if location := first.header.Get("Location"); first.status != tt.redirect.Status || !strings.HasPrefix(location, want) {
				t.Errorf("%d %s", first.status, location)
			}
			r.ResetCounts()
			a := do(t, r.Client(), "GET", blobURL(r, "a", d), "Range", "bytes=10-")
			if a.status != 206 || string(a.body) != string(bytesOf(t, r, d)[10:]) {
				t.Errorf("blob: %d, %d bytes", a.status, len(a.body))
			}
			if got := [2]int{r.Count(registrytest.KindBlob), r.Count(registrytest.KindCDN)}; got != tt.kinds {
				t.Errorf("requests: %v", got)
			}
			if head := do(t, direct(r), "HEAD", blobURL(r, "a", d)); head.status != 200 || head.length != d.Size {
				t.Errorf("HEAD: %d %d", head.status, head.length)
			}
		})
	}
}

func TestTheTargetRejects(t *testing.T) {
	strict := registrytest.Redirect{Status: 307, DoubleSlash: true, RejectAuthorization: true, RejectHead: true, RejectMultiRange: true}
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Redirect: strict}})
	d := r.AddBlob("a", 1000, 1)
	location := do(t, direct(r), "GET", blobURL(r, "a", d)).header.Get("Location")
	reencode := func(s string) string {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = u.Query().Encode()
		return u.String()
	}
	for name, tt := range map[string]struct {
		method, url string
		header      []string
		want        int
	}{
		"nothing that is right":       {"GET", location, nil, 200},
		"Authorization":               {"GET", location, []string{"Authorization", "Bearer x"}, 400},
		"HEAD":                        {"HEAD", location, nil, 403},
		"several ranges":              {"GET", location, []string{"Range", "bytes=0-1,4-5"}, 400},
		"a cleaned path":              {"GET", strings.Replace(location, "v2//docker", "v2/docker", 1), nil, 403},
		"a query in another order":    {"GET", reencode(location), nil, 403},
		"no signature":                {"GET", strings.Split(location, "&sig=")[0], nil, 403},
		"an address nobody gave away": {"GET", r.CDNURL() + "/", nil, 403},
	} {
		t.Run(name, func(t *testing.T) {
			if a := do(t, r.Client(), tt.method, tt.url, tt.header...); a.status != tt.want {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestRedirectsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			Redirect: registrytest.Redirect{Status: 307, Lifetime: 10 * time.Minute},
		}})
		d := r.AddBlob("a", 1000, 1)
		locate := func() string { return do(t, direct(r), "GET", blobURL(r, "a", d)).header.Get("Location") }
		location := locate()
		<-time.After(10*time.Minute - time.Second)
		if a := do(t, r.Client(), "GET", location); a.status != 200 {
			t.Errorf("in time: %d", a.status)
		}
		<-time.After(time.Second)
		if a := do(t, r.Client(), "GET", location); a.status != 403 {
			t.Errorf("late: %d", a.status)
		}
		location = locate()
		r.ExpireRedirects()
		if a := do(t, r.Client(), "GET", location); a.status != 403 {
			t.Errorf("revoked: %d", a.status)
		}
	})
}

func TestARedirectLoopHasNoEnd(t *testing.T) {
	for _, target := range []registrytest.Target{registrytest.TargetCDN, registrytest.TargetRelative} {
		r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			Redirect: registrytest.Redirect{Status: 307, Loop: true, Target: target},
		}})
		d := r.AddBlob("a", 1000, 1)
		if _, err := try(r.Client(), "GET", blobURL(r, "a", d)); err == nil || !strings.Contains(err.Error(), "10 redirects") {
			t.Errorf("%v", err)
		}
	}
}

func TestManifestsAreRedirectedWithoutTheirQuery(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.K8s()})
	img := r.AddImage("pause", "3.9", registrytest.ImageSpec{})
	first := do(t, direct(r), "GET", r.URL()+"/v2/pause/tags/list?n=1")
	if location := first.header.Get("Location"); first.status != 307 || location != r.CDNURL()+"/v2/k8s-artifacts-prod/images/pause/tags/list" {
		t.Errorf("%d %s", first.status, location)
	}
	a := do(t, r.Client(), "GET", r.URL()+"/v2/pause/manifests/3.9")
	if a.status != 200 || !img.Manifest.Descriptor.Digest.Verify(a.body) {
		t.Errorf("%d", a.status)
	}
	if ping := do(t, r.Client(), "GET", r.URL()+"/v2/"); ping.status != http.StatusOK {
		t.Errorf("ping: %d", ping.status)
	}
}
