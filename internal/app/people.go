package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sampan/internal/access"
	"sampan/internal/access/issuer"
	"sampan/internal/access/rate"
	"sampan/internal/config"
	"sampan/internal/edge"
	"sampan/internal/oci"
)

// tokenKeyFile is where the secret of tokens is kept, within the data directory.
const tokenKeyFile = "token.key"

// tokenKey reads the secret of tokens, and makes it where there is none.
func tokenKey(c *config.Config) ([]byte, error) {
	if c.TokenKeyFile != "" {
		return os.ReadFile(c.TokenKeyFile)
	}
	name := filepath.Join(c.Data.Dir, tokenKeyFile)
	key, err := os.ReadFile(name)
	if err == nil && len(key) >= access.MinTokenKey || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, 48)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	// One that is half there after a crash is made anew: tokens live for minutes.
	if err := os.WriteFile(name+".new", key, 0o600); err != nil {
		return nil, err
	}
	return key, os.Rename(name+".new", name)
}

// newDirectory is who clients may be, and the issuers among those who say so.
func (a *App) newDirectory(c *config.Config) (*access.Directory, []*issuer.Issuer, error) {
	key, err := tokenKey(c)
	if err != nil {
		return nil, nil, fmt.Errorf("the key of tokens: %w", err)
	}
	o := access.DirectoryOptions{Key: key, Guard: a.guard, Metrics: a.denials, Log: a.o.Log}
	for _, u := range c.Users {
		if u.File != "" {
			o.Files = append(o.Files, access.UserFile{Path: u.File, Groups: u.Groups})
			continue
		}
		o.Users = append(o.Users, access.User{Name: u.Name, Password: u.Password.Reveal(), File: u.PasswordFile, Groups: u.Groups})
	}
	for _, k := range c.Codes {
		o.Codes = append(o.Codes, access.Code{Name: k.Name, Code: k.Code.Reveal(), File: k.CodeFile, Expires: k.Expires})
	}
	list, err := a.newIssuers(c)
	if err != nil {
		return nil, nil, err
	}
	if len(list) > 0 {
		o.Issuers = issuer.Of(list, a.denials)
	}
	d, err := access.NewDirectory(o)
	return d, list, err
}

// newIssuers are those whose tokens count. Of those that are configured as before,
// the keys are known already.
func (a *App) newIssuers(c *config.Config) ([]*issuer.Issuer, error) {
	var list, before []*issuer.Issuer
	if s := a.serving.p.Load(); s != nil {
		before = s.issuers
	}
	for _, i := range c.Issuers {
		o := issuer.Options(i)
		old := slices.IndexFunc(before, func(old *issuer.Issuer) bool { return old.Still(o) })
		if old >= 0 {
			list = append(list, before[old])
			continue
		}
		one, err := issuer.New(o, a.o.Log)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

// rules are who may have what.
func rules(c *config.Config) access.Rules {
	if c.Access == nil {
		return nil
	}
	list := access.Rules{}
	for _, r := range c.Access {
		list = append(list, access.Rule{
			Allow: r.Allow, Reason: r.Reason,
			Networks: r.Networks, Users: r.Users, Groups: r.Groups, Codes: r.Codes,
			Hosts: r.Hosts, Upstreams: r.Upstreams, Content: selectors(r.Repositories),
		})
	}
	return list
}

// bounds are those of all clients, and whose word counts about who they are.
func bounds(c *config.Config) edge.Bounds {
	return edge.Bounds{
		Trusted:     c.TrustedProxies,
		Connections: c.Limits.Connections, ConnectionsPerClient: c.Limits.ConnectionsPerClient,
		MinRate: int64(c.Limits.MinRate),
	}
}

// clientLimits are what each client may take.
func clientLimits(c *config.Config) []rate.Rule {
	var list []rate.Rule
	for _, l := range c.Limits.Clients {
		list = append(list, rate.Rule{
			For: access.Rule{Networks: l.Rule.Networks, Users: l.Rule.Users, Groups: l.Rule.Groups, Codes: l.Rule.Codes, Hosts: l.Rule.Hosts},
			Limits: rate.Limits{
				RequestsPerSecond: l.RequestsPerSecond, BytesPerSecond: int64(l.BytesPerSecond),
				Pulls: l.ConcurrentPulls, BytesPerDay: int64(l.BytesPerDay),
				Cold: rate.Cold{RequestsPerHour: l.Cold.RequestsPerHour, Pulls: l.Cold.ConcurrentPulls, BytesPerDay: int64(l.Cold.BytesPerDay)},
			},
		})
	}
	return list
}

func selectors(list []config.Selector) []access.Selector {
	var out []access.Selector
	for _, s := range list {
		out = append(out, access.Selector(s))
	}
	return out
}

// contentPolicy is what may be had at all.
func contentPolicy(c *config.Config) access.Policy {
	p := access.Policy{Allow: selectors(c.Policy.Allow), ReportOnly: c.Policy.ReportOnly}
	for _, d := range c.Policy.Deny {
		for _, s := range selectors(d.Repositories) {
			p.Deny = append(p.Deny, access.Denial{Selector: s, Reason: d.Reason})
		}
	}
	return p
}

// reach tells what a client can have at all.
func reach(c *config.Config, rules access.Rules) func(access.Client) access.Reach {
	if rules == nil {
		return nil
	}
	private := slices.ContainsFunc(c.Upstreams, config.Upstream.ForSome)
	return func(client access.Client) access.Reach { return rules.Reach(client, private) }
}

// private tells the cache which repositories are not for everybody; nil when there
// are none.
func private(c *config.Config, levels func(oci.Repository) access.Level) func(oci.Repository) bool {
	if !slices.ContainsFunc(c.Upstreams, func(u config.Upstream) bool { return u.PassesThrough() || u.ForSome() }) {
		return nil
	}
	return func(repo oci.Repository) bool { return levels(repo) != access.Everybody }
}
