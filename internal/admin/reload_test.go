package admin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/admin"
)

func TestReload(t *testing.T) {
	asked := 0
	var refusal error
	a, err := admin.New(admin.Options{
		Gatherer:  prometheus.NewRegistry(),
		Fills:     func() []admin.Fill { return nil },
		Upstreams: func() []admin.Upstream { return nil },
		Reload:    func() error { asked++; return refusal },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, method, origin string
		refusal              error
		status, asked        int
	}{
		{"by curl", "POST", "", nil, http.StatusOK, 1},
		{"with a mistake", "POST", "", errors.New("sampan.yaml:3: unknown key"), http.StatusUnprocessableEntity, 1},
		{"by a page of somebody else", "POST", "https://evil.example", nil, http.StatusForbidden, 0},
		{"by looking", "GET", "", nil, http.StatusMethodNotAllowed, 0},
	} {
		asked, refusal = 0, tc.refusal
		r := httptest.NewRequest(tc.method, "http://127.0.0.1:5001/api/v1/reload", nil)
		r.RemoteAddr = "127.0.0.1:4321"
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != tc.status || asked != tc.asked {
			t.Errorf("%s: %d, asked %d times", tc.name, w.Code, asked)
		}
		if tc.refusal != nil && !strings.Contains(w.Body.String(), tc.refusal.Error()) {
			t.Errorf("%s: %s", tc.name, w.Body)
		}
	}
}
