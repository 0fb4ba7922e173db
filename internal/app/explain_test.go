package app_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestExplainTellsWhatAPullMeetsAndAsksNobody(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	img := up.AddImage("team/web", "v1", threeLayers(2))
	c := load(t, dataDir(t), "example.test="+up.URL())
	pattern, err := oci.ParsePattern("team/*")
	if err != nil {
		t.Fatal(err)
	}
	never := config.Duration(0)
	for i := range c.Upstreams {
		if c.Upstreams[i].Registry.String() == "example.test" {
			c.Upstreams[i].Repositories = []config.RepositoryRule{{Pattern: pattern, Tags: config.TagRule{FreshFor: &never}}}
		}
	}
	m := serve(t, c)
	explain := func(image string, status int) (e app.Explanation) {
		t.Helper()
		r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/api/v1/explain?image="+url.QueryEscape(image))
		if r.status != status {
			t.Fatalf("%s: %d %s", image, r.status, r.body)
		}
		if status == http.StatusOK {
			if err := json.Unmarshal(r.body, &e); err != nil {
				t.Fatalf("%v: %s", err, r.body)
			}
		}
		return e
	}
	if e := explain("example.test/team/web:v1", http.StatusOK); e.Next.Result != "miss" || e.Next.Reason != "never_asked" || e.Named.By != "name" {
		t.Errorf("before the first pull: %+v", e.Next)
	}
	if n := up.Connections(); n != 0 {
		t.Errorf("explaining made %d connections", n)
	}
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	for len(m.fills(t)) > 0 && t.Context().Err() == nil { // until all is committed
		continue
	}
	up.ResetCounts()
	e := explain("localhost:0/example.test/team/web:v1", http.StatusOK)
	if e.Reference != "example.test/team/web:v1" || e.Named.By != "path" || e.Next.Result != "hit" || e.Next.Reason != "expired" ||
		e.Cache.Tag.Digest != img.Manifest.Descriptor.Digest || len(e.Cache.Platforms) != 2 || e.Cache.Platforms[1].Missing != 0 {
		t.Errorf("got %+v, cache %+v", e, e.Cache)
	}
	if s := e.Settings[0]; s.Key != "tags.fresh_for" || s.Value != "0s" || s.From != "upstreams.example.test.repositories.team/*.tags" {
		t.Errorf("setting %+v", s)
	}
	if e := explain("other.test/a:1", http.StatusOK); e.Next.Result != "denied" || e.Refused == "" || e.Cache != nil {
		t.Errorf("a registry that is not served: %+v", e)
	}
	explain("Not/A/Name", http.StatusBadRequest)
	if n := len(up.Requests()); n != 0 {
		t.Errorf("explaining asked %d times", n)
	}
}

// fills are the fetches that run.
func (m *mirror) fills(t *testing.T) []any {
	t.Helper()
	var doc struct{ Fills []any }
	if err := json.Unmarshal(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/api/v1/fills").body, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Fills
}
