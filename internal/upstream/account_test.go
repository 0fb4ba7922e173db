package upstream

import (
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// account is an account named as its user.
func basicAccount(user string, match func(oci.Repository) bool) Account {
	return Account{Name: user, Credentials: Static(Credential{Username: user, Password: "pw"}), Match: match}
}

func below(prefix string) func(oci.Repository) bool {
	return func(r oci.Repository) bool { return strings.HasPrefix(r.Path(), prefix) }
}

func TestARepositoryIsAskedForAsTheAccountThatMatches(t *testing.T) {
	f := newFake(t, registrytest.Status(404))
	r := open(t, Options{Accounts: []Account{basicAccount("team", below("team/")), basicAccount("library", below("library/"))}}, f.URL)
	for path, want := range map[string]string{"team/app": "team", "library/app": "library", "other/app": ""} {
		q := manifestQuestion(repository(t, path), "v1")
		ep, err := r.choose(r.endpoints[0], q)
		if err != nil || ep.account.name != want {
			t.Fatalf("%s is asked for as %q, want %q; %v", path, ep.account.name, want, err)
		}
		if cred, err := r.credential(t.Context(), ep); err != nil || cred.Username != want {
			t.Errorf("%s is asked for with %v, %v", path, cred, err)
		}
	}
	if _, err := New(Options{
		Registry: oci.DockerHub, Endpoints: urls(t, f.URL),
		Credentials: Static(Credential{}), Accounts: []Account{{}},
	}); err == nil {
		t.Error("accounts and credentials at the same time are not refused")
	}
}
