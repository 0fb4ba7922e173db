package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/admin"
	"sampan/internal/cache"
	"sampan/internal/oci"
)

// explaining asks an admin for an image.
func explaining(t *testing.T, x *admin.Explainer, image string) (int, string) {
	t.Helper()
	a, err := admin.New(admin.Options{
		Upstreams: func() []admin.Upstream { return nil },
		Gatherer:  prometheus.NewRegistry(), Fills: func() []admin.Fill { return nil }, Explainer: x,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/explain?image="+url.QueryEscape(image), nil))
	return w.Code, w.Body.String()
}

func explainer(t *testing.T) *admin.Explainer {
	t.Helper()
	return &admin.Explainer{
		Locate: func(image string) (oci.Reference, admin.Named, error) {
			if strings.HasPrefix(image, "other.example/") {
				return oci.Reference{}, admin.Named{}, oci.Errorf(oci.CodeDenied, "not served: add it")
			}
			ref, err := oci.ParseReference(image)
			return ref, admin.Named{By: "name"}, err
		},
		Cached: func(_ context.Context, ref oci.Reference) (cache.Explanation, error) {
			if ref.Repository.Path() == "library/broken" {
				return cache.Explanation{}, errors.New("the disk is broken")
			}
			return cache.Explanation{Next: cache.Next{Result: cache.NextHit, Reason: cache.CauseFresh}}, nil
		},
		Settings: func(repo oci.Repository) []admin.Setting {
			return []admin.Setting{{Key: "fresh_for", Value: "1m0s", From: repo.Registry().String()}}
		},
	}
}

func TestImagesAreExplainedAsJSON(t *testing.T) {
	x := explainer(t)
	status, body := explaining(t, x, "nginx:1")
	var e admin.Explanation
	if err := json.Unmarshal([]byte(body), &e); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if e.Image != "nginx:1" || e.Reference != "docker.io/library/nginx:1" || e.Named.By != "name" || e.Cache == nil ||
		e.Next.Result != cache.NextHit || len(e.Settings) != 1 || e.Settings[0].From != "docker.io" || e.Upstream != nil {
		t.Errorf("got %s", body)
	}
	x.Upstream = func(r oci.Registry) (admin.Upstream, bool) {
		return admin.Upstream{Registry: r.String()}, r == oci.DockerHub
	}
	if _, body := explaining(t, x, "nginx:1"); !strings.Contains(body, `"upstream":{"registry":"docker.io"`) {
		t.Errorf("no upstream in %s", body)
	}
	if _, body := explaining(t, x, "quay.io/a/b"); strings.Contains(body, `"upstream"`) {
		t.Errorf("an upstream of which nothing is known: %s", body)
	}
}

func TestRefusedNamesAreExplainedAndBrokenOnesAreMistakes(t *testing.T) {
	x := explainer(t)
	if status, body := explaining(t, x, "other.example/a"); status != http.StatusOK ||
		!strings.Contains(body, `"refused":"not served: add it"`) || !strings.Contains(body, `"result":"denied","reason":"name"`) {
		t.Errorf("%d %s", status, body)
	}
	for image, want := range map[string]int{"": http.StatusBadRequest, "Not/A/Name": http.StatusBadRequest, "broken": http.StatusInternalServerError} {
		if status, body := explaining(t, x, image); status != want || len(body) < 5 {
			t.Errorf("%q: %d %s", image, status, body)
		}
	}
	if status, _ := explaining(t, nil, "nginx"); status != http.StatusNotFound {
		t.Errorf("without an explainer: %d", status)
	}
}
