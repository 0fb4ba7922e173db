package registrytest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func guarded(scheme Scheme) Behavior {
	return Behavior{
		Challenge: Challenge{Scheme: scheme},
		Token: Token{
			Private: []string{"team/a", "team/b"},
			Users: []User{
				{Name: "alice", Password: "wonder", IdentityToken: "identity", Repos: []string{"team/a"}},
				{Name: "bob", Password: "builder", Repos: []string{"team/b"}},
			},
		},
	}
}

func TestEachUserReadsTheirOwnRepositories(t *testing.T) {
	r := StartTest(t, Options{Behavior: guarded(SchemeBasic)})
	for _, repo := range []string{"team/a", "team/b", "open/pub"} {
		r.AddImage(repo, "v1", ImageSpec{Layers: []int64{10}})
	}
	for _, c := range []struct {
		user, password, repo string
		status               int
	}{
		{"alice", "wonder", "team/a", 200},
		{"alice", "wonder", "team/b", 403},
		{"alice", "wonder", "open/pub", 200},
		{"alice", "x", "team/a", 401},
		{"bob", "builder", "team/b", 200},
		{"mallory", "", "open/pub", 401},
	} {
		req, err := http.NewRequest(http.MethodHead, r.URL()+"/v2/"+c.repo+"/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(c.user, c.password)
		resp, err := r.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s:%s, %s: %d, want %d", c.user, c.password, c.repo, resp.StatusCode, c.status)
		}
	}
	if a, b, n := r.CountUser(KindManifest, "alice"), r.CountUser(KindAny, "bob"), r.CountUser(KindAny, ""); a != 4 || b != 1 || n != 0 {
		t.Errorf("counted %d, %d and %d", a, b, n)
	}
}

func TestTokensAreForWhomTheyWereIssued(t *testing.T) {
	r := StartTest(t, Options{Behavior: guarded(SchemeBearer)})
	r.AddImage("team/a", "v1", ImageSpec{Layers: []int64{10}})
	resp, err := r.Client().PostForm(r.TokenURL(), url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {"identity"}, "scope": {"repository:team/a:pull"},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("an identity token: %d", resp.StatusCode)
	}
	resp, err = r.Client().Post(r.TokenURL(), "application/x-www-form-urlencoded", strings.NewReader("grant_type=refresh_token&refresh_token=x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an identity token of nobody: %d", resp.StatusCode)
	}
}
