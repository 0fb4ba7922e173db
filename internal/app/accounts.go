package app

import (
	"context"
	"net/url"
	"slices"

	"sampan/internal/access"
	"sampan/internal/config"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/proof"
	"sampan/internal/upstream"
	"sampan/internal/upstream/credential"
)

// accounts are those of an upstream: its own, and those of its rules, each for the
// repositories whose accounts come from there. Where the client's own credentials
// are used, none of them is.
func (u *upstreams) accounts(cu config.Upstream) []upstream.Account {
	var list []upstream.Account
	add := func(from int, accounts []config.Account) {
		match := func(repo oci.Repository) bool {
			a := cu.AccessTo(repo.Path())
			return a.From == from && !a.PassThrough
		}
		for _, a := range accounts {
			list = append(list, upstream.Account{
				Name:        a.Name(),
				Credentials: pinned(told(cu), cu, u.credentials(cu.Registry, a)),
				Match:       match,
			})
		}
	}
	for i, r := range cu.Repositories {
		add(i, r.Access.Accounts)
	}
	add(-1, cu.AllAccounts())
	return list
}

// credentials is where those of one account come from.
func (u *upstreams) credentials(registry oci.Registry, a config.Account) upstream.Credentials {
	switch log := u.o.Log; {
	case a.DockerConfig != "":
		return credential.DockerConfig(a.DockerConfig, registry, log)
	case a.Helper != "":
		return credential.Helper(a.Helper, registry, log)
	case a.PasswordFile != "":
		return credential.PasswordFile(a.Username, a.PasswordFile, a.Password.Reveal(), log)
	case a.TokenFile != "":
		return credential.TokenFile(a.TokenFile, a.Token.Reveal(), log)
	default:
		return upstream.Static(upstream.Credential{Username: a.Username, Password: a.Password.Reveal(), Token: a.Token.Reveal()})
	}
}

// told tells of each endpoint whether credentials are sent there: what the
// configuration says, or else the first one that is asked for everything and about
// which it says nothing. The others may be somebody else's mirrors of it.
func told(cu config.Upstream) []bool {
	list := make([]bool, len(cu.Endpoints))
	first := slices.IndexFunc(cu.Endpoints, func(e config.Endpoint) bool { return !e.BlobsOnly && e.Credentials == nil })
	for i, e := range cu.Endpoints {
		list[i] = i == first
		if e.Credentials != nil {
			list[i] = *e.Credentials
		}
	}
	return list
}

// pinned gives credentials to the endpoints that are told.
func pinned(told []bool, cu config.Upstream, c upstream.Credentials) upstream.Credentials {
	own := make(map[string]bool)
	for i, e := range cu.Endpoints {
		if told[i] {
			own[e.URL.Scheme+"://"+e.URL.Host] = true
		}
	}
	return func(ctx context.Context, endpoint *url.URL) (upstream.Credential, error) {
		if !own[endpoint.Scheme+"://"+endpoint.Host] {
			return upstream.Credential{}, nil
		}
		return c(ctx, endpoint)
	}
}

// levels tells who may read a repository. It is asked on every request: registries
// without rules of their own cost a look into a map.
func levels(c *config.Config) func(oci.Repository) access.Level {
	ruled := make(map[oci.Registry]func(path string) access.Level)
	for _, u := range c.Upstreams {
		if !u.RulesAccess() {
			continue
		}
		ruled[u.Registry] = func(path string) access.Level { return level(u.AccessTo(path)) }
		if len(u.Repositories) == 0 {
			all := level(u.AccessTo(""))
			ruled[u.Registry] = func(string) access.Level { return all }
		}
	}
	return func(repo oci.Repository) access.Level {
		if of := ruled[repo.Registry()]; of != nil {
			return of(repo.Path())
		}
		return access.Everybody
	}
}

func level(a config.Access) access.Level {
	switch {
	case a.PassThrough:
		return access.Own
	case a.Everybody():
		return access.Everybody
	default:
		return access.Named
	}
}

// newGate puts the gate before the cache. Offline, no permission can be asked for.
func (a *App) newGate(s *serving) (*access.Gate, error) {
	up := s.upstreams.reader
	if a.o.Config.Offline {
		up = func(oci.Registry) (oci.Reader, error) {
			return nil, oci.Errorf(oci.CodeUnavailable, "this mirror is offline and cannot ask the registry whether this is for you")
		}
	}
	level := func(repo oci.Repository) access.Level {
		if proof.Serves(repo) {
			return access.Everybody // no registry knows of it
		}
		return s.levels(repo)
	}
	return access.New(access.Options{
		Reader: proof.New(a.cache), Upstream: up, Level: level,
		Rules: s.rules, Policy: contentPolicy(s.config), Metrics: a.denials, Log: a.o.Log,
	})
}

// distrust makes names worth nothing where the marks of what is private were lost
// with the index.
func (a *App) distrust(private func(oci.Repository) bool) error {
	if private == nil || !a.index.IsNew() || a.store.IsNew() {
		return nil
	}
	return a.index.Distrust(context.Background())
}

// vouches tells the registries whose word counts: those that the operator chose.
func (u *upstreams) vouches(r oci.Registry) bool { return u.configured[r] != nil }

// challenges tells of which addresses clients are asked who they are before they
// name a repository: of those that choose an upstream whose clients' credentials
// are used, and, where there is one, of those that choose none.
func challenges(c *config.Config, names *mirror.Names) func(mirror.Address) bool {
	passes := make(map[oci.Registry]bool)
	for _, u := range c.Upstreams {
		if u.PassesThrough() {
			passes[u.Registry] = true
		}
	}
	if len(passes) == 0 {
		return nil
	}
	return func(a mirror.Address) bool {
		r, chosen := names.Chosen(a)
		return !chosen || passes[r]
	}
}
