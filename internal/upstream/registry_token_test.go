package upstream

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestTokenLivesNineTenthsOfItsTimeOrAMinute(t *testing.T) {
	tests := map[string]struct {
		token registrytest.Token
		good  time.Duration // a request until here needs no new token
		renew time.Duration // one from here does
	}{
		"60 s":             {registrytest.Token{Lifetime: time.Minute}, 53 * time.Second, 55 * time.Second},
		"300 s":            {registrytest.Token{Lifetime: 5 * time.Minute}, 269 * time.Second, 271 * time.Second},
		"1 h":              {registrytest.Token{Lifetime: time.Hour}, 53 * time.Minute, 55 * time.Minute},
		"no end is told":   {registrytest.Token{Lifetime: time.Hour, Bare: true}, 59 * time.Second, 61 * time.Second},
		"only token":       {registrytest.Token{Field: registrytest.TokenOnly}, 269 * time.Second, 271 * time.Second},
		"only accesstoken": {registrytest.Token{Field: registrytest.AccessTokenOnly}, 269 * time.Second, 271 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg, r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
					Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer}, Token: test.token,
				}}, Options{})
				reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
				began := time.Now()
				for _, step := range []struct {
					at     time.Duration
					tokens int
				}{{0, 1}, {test.good, 1}, {test.renew, 2}} {
					time.Sleep(step.at - time.Since(began))
					if _, err := r.ResolveTag(t.Context(), repository(t, "library/app"), tag(t, "v1")); err != nil {
						t.Fatal(err)
					}
					if n := reg.TokensIssued(); n != step.tokens {
						t.Errorf("%d tokens after %v, want %d", n, step.at, step.tokens)
					}
				}
			})
		})
	}
}

func TestTokenThatEndsEarlyCostsOneMoreToken(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
	for range 3 {
		before := reg.Count("")
		if _, err := r.TaggedManifest(t.Context(), repository(t, "library/app"), tag(t, "v1")); err != nil {
			t.Fatal(err)
		}
		if n := reg.Count("") - before; n != 3 {
			t.Errorf("%d requests, want 401, token and answer", n)
		}
		reg.ExpireTokens()
	}
}

func TestStampedeSharesOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		behavior.Pace.Latency = 20 * time.Millisecond
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := r.ResolveTag(t.Context(), repository(t, "library/app"), tag(t, "v1")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := reg.TokensIssued(); n != 1 {
			t.Errorf("%d tokens", n)
		}
	})
}

func TestTokenOfACallerWhoLeavesServesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		gate := registrytest.NewGate()
		behavior.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindToken}, HangBeforeHeaders: gate}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
		ask := func(ctx context.Context) error {
			_, err := r.ResolveTag(ctx, repository(t, "library/app"), tag(t, "v1"))
			return err
		}
		ctx, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if err := ask(ctx); oci.CodeOf(err) != "" {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if err := ask(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		gate.Open()
		all.Wait()
		if n := reg.Count(registrytest.KindToken); n != 1 {
			t.Errorf("%d requests for tokens", n)
		}
	})
}

func TestErrorsOfTheTokenEndpointAreNotRemembered(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
	ask := func() error {
		_, err := r.ResolveTag(t.Context(), repository(t, "library/app"), tag(t, "v1"))
		return err
	}
	for _, answer := range []struct {
		status int
		code   oci.Code
	}{{500, oci.CodeUnavailable}, {429, oci.CodeTooManyRequests}, {403, oci.CodeNameUnknown}, {404, oci.CodeUnavailable}, {401, oci.CodeUnauthorized}} {
		reg.FailNext(registrytest.KindToken, 1, registrytest.Status(answer.status))
		wantCode(t, ask(), answer.code)
	}
	reg.FailNext(registrytest.KindToken, 1, registrytest.HTML)
	wantCode(t, ask(), oci.CodeUnavailable)
	reg.FailNext(registrytest.KindToken, -1, registrytest.EmptyReply) // the transport asks again on a new connection
	wantCode(t, ask(), oci.CodeUnavailable)
	reg.ClearFailures()
	if err := ask(); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsTokenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		behavior.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindToken}, HangBeforeHeaders: registrytest.NewGate()}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			_, err := r.ResolveTag(t.Context(), repository(t, "library/app"), tag(t, "v1"))
			wantCodeLater(t, err, oci.CodeUnavailable)
		})
		synctest.Wait()
		_ = r.Close()
		all.Wait()
		if d := time.Since(began); d > 0 {
			t.Errorf("took %v", d)
		}
	})
}

func wantCodeLater(t *testing.T, err error, code oci.Code) {
	t.Helper()
	if got := oci.CodeOf(err); got != code {
		t.Errorf("got code %q, want %q; error: %v", got, code, err)
	}
}

func TestCredentials(t *testing.T) {
	account := Credential{Username: "me", Password: "secret"}
	wrong := Credential{Username: "me", Password: "wrong"}
	bearer := registrytest.Challenge{Scheme: registrytest.SchemeBearer}
	tests := map[string]struct {
		challenge registrytest.Challenge
		forbid    bool
		missing   registrytest.Missing
		cred      Credential
		repo      string
		want      oci.Code
		requests  int // at most
	}{
		"bearer, own private":               {challenge: bearer, cred: account, repo: "my/app", requests: 3},
		"bearer, own public":                {challenge: bearer, cred: account, repo: "library/app", requests: 3},
		"bearer, challenge on ping":         {challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer, PingOnly: true}, cred: account, repo: "my/app", requests: 4},
		"bearer, wrong password":            {challenge: bearer, cred: wrong, repo: "my/app", want: oci.CodeUnauthorized, requests: 2},
		"bearer, anonymous":                 {challenge: bearer, repo: "my/app", want: oci.CodeNameUnknown, requests: 3},
		"bearer, anonymous, 403 token":      {challenge: bearer, forbid: true, repo: "my/app", want: oci.CodeNameUnknown, requests: 2},
		"bearer, missing":                   {challenge: bearer, missing: registrytest.MissingUnauthorized, cred: account, repo: "my/none", want: oci.CodeNameUnknown, requests: 3},
		"bearer, missing, 403 token":        {challenge: bearer, forbid: true, missing: registrytest.MissingUnauthorized, cred: account, repo: "my/none", want: oci.CodeDenied, requests: 2},
		"basic, own private":                {challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic}, cred: account, repo: "my/app", requests: 2},
		"basic, challenge on ping":          {challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic, PingOnly: true}, cred: account, repo: "my/app", requests: 3},
		"basic, wrong password":             {challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic}, cred: wrong, repo: "my/app", want: oci.CodeUnauthorized, requests: 2},
		"basic, anonymous":                  {challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic}, repo: "my/app", want: oci.CodeUnauthorized, requests: 1},
		"basic, missing":                    {challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic}, missing: registrytest.MissingUnauthorized, cred: account, repo: "my/none", want: oci.CodeUnauthorized, requests: 2},
		"open registry that hides: missing": {missing: registrytest.MissingUnauthorized, repo: "my/none", want: oci.CodeNameUnknown, requests: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: registrytest.Behavior{
				Challenge: test.challenge,
				Missing:   test.missing,
				Token:     registrytest.Token{Username: "me", Password: "secret", Private: []string{"my/app"}, Forbid: test.forbid},
			}}, Options{Credentials: Static(test.cred)})
			reg.AddImage("my/app", "v1", registrytest.ImageSpec{})
			reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
			_, err := r.TaggedManifest(t.Context(), repository(t, test.repo), tag(t, "v1"))
			wantCode(t, err, test.want)
			if n := reg.Count(""); n > test.requests {
				t.Errorf("%d requests, want at most %d", n, test.requests)
			}
		})
	}
}

func TestPrivateAndPublicRepositoriesOfOneRegistryHaveTheirOwnTokens(t *testing.T) {
	behavior := registrytest.GCR()
	behavior.Token.Username, behavior.Token.Password, behavior.Token.Private = "me", "secret", []string{"my/app"}
	reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{Credentials: Static(Credential{Username: "me", Password: "secret"})})
	for range 2 {
		for _, path := range []string{"library/app", "my/app"} {
			reg.AddImage(path, "v1", registrytest.ImageSpec{})
			if _, err := r.ResolveTag(t.Context(), repository(t, path), tag(t, "v1")); err != nil {
				t.Error(err)
			}
		}
	}
	if n := reg.TokensIssued(); n != 2 {
		t.Errorf("%d tokens, want one per repository", n)
	}
}

func TestChangedCredentialsAreUsed(t *testing.T) {
	for _, scheme := range []registrytest.Scheme{registrytest.SchemeBasic, registrytest.SchemeBearer} {
		behavior := registrytest.Behavior{
			Challenge: registrytest.Challenge{Scheme: scheme},
			Token:     registrytest.Token{Username: "me", Password: "old", Private: []string{"*"}},
		}
		password := "old"
		reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{
			Credentials: func(context.Context, *url.URL) (Credential, error) {
				return Credential{Username: "me", Password: password}, nil
			},
		})
		reg.AddImage("my/app", "v1", registrytest.ImageSpec{})
		for _, password = range []string{"old", "new"} {
			behavior.Token.Password = password
			reg.SetBehavior(behavior)
			if _, err := r.ResolveTag(t.Context(), repository(t, "my/app"), tag(t, "v1")); err != nil {
				t.Errorf("%s, password %s: %v", scheme, password, err)
			}
		}
	}
}
