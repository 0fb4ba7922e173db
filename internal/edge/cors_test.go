package edge_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sampan/internal/edge"
)

func TestCORS(t *testing.T) {
	const ui, other = "https://ui.example.com", "https://other.example"
	for _, tc := range []struct {
		name      string
		origins   []string
		method    string
		origin    string
		preflight bool
		allowed   string // Access-Control-Allow-Origin
		withLogin bool
		asked     bool // the handler
	}{
		{name: "off", method: "GET", origin: ui, asked: true},
		{name: "a page of ours", origins: []string{ui}, method: "GET", origin: ui, allowed: ui, withLogin: true, asked: true},
		{name: "its question before", origins: []string{ui}, method: "OPTIONS", preflight: true, origin: ui, allowed: ui, withLogin: true},
		{name: "OPTIONS that is no such question", origins: []string{ui}, method: "OPTIONS", origin: ui, allowed: ui, withLogin: true, asked: true},
		{name: "a page of somebody else", origins: []string{ui}, method: "GET", origin: other, asked: true},
		{name: "its question before, too", origins: []string{ui}, method: "OPTIONS", preflight: true, origin: other, asked: true},
		{name: "no page", origins: []string{ui}, method: "GET", asked: true},
		{name: "anybody, without login", origins: []string{"*"}, method: "GET", origin: other, allowed: "*", asked: true},
		{name: "anybody, and one of ours", origins: []string{"*", ui}, method: "HEAD", origin: ui, allowed: ui, withLogin: true, asked: true},
		{name: "a page that names itself *", origins: []string{ui}, method: "GET", origin: "*", asked: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := false
			h := edge.CORS(tc.origins, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked = true
				w.WriteHeader(http.StatusTeapot)
			}))
			r := httptest.NewRequest(tc.method, "/v2/", nil)
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			if tc.preflight {
				r.Header.Set("Access-Control-Request-Method", "GET")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := w.Header()
			if asked != tc.asked || got.Get("Access-Control-Allow-Origin") != tc.allowed || (got.Get("Access-Control-Allow-Credentials") == "true") != tc.withLogin {
				t.Errorf("asked %v, %d, %v", asked, w.Code, got)
			}
			if len(tc.origins) > 0 && !slices.Contains(got.Values("Vary"), "Origin") {
				t.Error("caches are not told that answers differ by origin")
			}
			exposed := got.Get("Access-Control-Expose-Headers")
			if seen := strings.Contains(exposed, "Docker-Content-Digest") && strings.Contains(exposed, "Link"); seen != (asked && tc.allowed != "") {
				t.Errorf("exposed %q", exposed)
			}
			if !asked && (w.Code != http.StatusNoContent || got.Get("Access-Control-Allow-Methods") == "" || !strings.Contains(got.Get("Access-Control-Allow-Headers"), "Authorization")) {
				t.Errorf("%d, %v", w.Code, got)
			}
		})
	}
}
