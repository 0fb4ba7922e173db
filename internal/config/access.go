package config

import (
	"maps"
	"slices"

	"github.com/goccy/go-yaml"
)

// An AccessRule is what an upstream, or a rule for some of its repositories, says
// about who may read and as whom its registry is asked. What it does not mention
// is nil.
type AccessRule struct {
	// Accounts is nil when it is not mentioned; empty is nobody.
	Accounts []Account
	// Public tells that what these accounts can read may be given to everybody who
	// can reach this mirror.
	Public *bool
	// PassThrough asks the registry as the client itself, and gives to it what the
	// registry would.
	PassThrough *bool
}

// An Access is who may read a repository, and as whom its registry is asked.
type Access struct {
	// Accounts are empty for nobody.
	Accounts []Account
	// From is the rule that the accounts come from: its place among the upstream's
	// Repositories, or -1 for the upstream itself.
	From int
	// Public and PassThrough are as in AccessRule. PassThrough counts before all.
	Public, PassThrough bool
}

// Everybody tells whether whoever reaches the mirror may read.
func (a Access) Everybody() bool { return !a.PassThrough && (a.Public || len(a.Accounts) == 0) }

// AccessTo decides about a path of a repository: of the rules that match, the
// first one that says something counts, or else the upstream.
func (u Upstream) AccessTo(path string) Access {
	own := u.accessRule()
	a := Access{Accounts: own.Accounts, From: -1, Public: *own.Public, PassThrough: *own.PassThrough}
	var accounts, public, pass bool // said by a rule
	for i, r := range u.Repositories {
		if accounts && public && pass {
			break
		}
		if r.Access.isZero() || !r.Pattern.Match(path) {
			continue
		}
		if r.Access.Accounts != nil && !accounts {
			a.Accounts, a.From, accounts = r.Access.Accounts, i, true
		}
		if r.Access.Public != nil && !public {
			a.Public, public = *r.Access.Public, true
		}
		if r.Access.PassThrough != nil && !pass {
			a.PassThrough, pass = *r.Access.PassThrough, true
		}
	}
	return a
}

// isZero tells whether nothing is said.
func (r AccessRule) isZero() bool {
	return r.Accounts == nil && r.Public == nil && r.PassThrough == nil
}

// accessRule is what the upstream itself says; nothing in it is nil.
func (u Upstream) accessRule() AccessRule {
	return AccessRule{Accounts: u.AllAccounts(), Public: &u.Public, PassThrough: &u.PassThrough}
}

// AllAccounts are the accounts of the upstream itself: Accounts, and the one that
// stands beside them in Username, Password and Token.
func (u Upstream) AllAccounts() []Account {
	own := Account{
		Username: u.Username, Password: u.Password, PasswordFile: u.PasswordFile,
		Token: u.Token, TokenFile: u.TokenFile,
	}
	if own.IsZero() {
		return u.Accounts
	}
	return append([]Account{own}, u.Accounts...)
}

// RulesAccess tells whether any repository of the upstream is not for everybody
// or asked for as somebody.
func (u Upstream) RulesAccess() bool {
	return u.PassThrough || len(u.AllAccounts()) > 0 ||
		slices.ContainsFunc(u.Repositories, func(r RepositoryRule) bool { return !r.Access.isZero() })
}

// PassesThrough tells whether some repository of the upstream is asked for as the
// client.
func (u Upstream) PassesThrough() bool {
	return u.PassThrough || slices.ContainsFunc(u.Repositories, func(r RepositoryRule) bool {
		return r.Access.PassThrough != nil && *r.Access.PassThrough
	})
}

// ForSome tells whether some repository of the upstream is read with accounts that
// are not everybody's, so that rules have to name who may have it.
func (u Upstream) ForSome() bool {
	some := func(a Access) bool { return !a.PassThrough && !a.Everybody() }
	own := u.accessRule()
	if some(Access{Accounts: own.Accounts, Public: *own.Public, PassThrough: *own.PassThrough}) {
		return true
	}
	return slices.ContainsFunc(u.Repositories, func(r RepositoryRule) bool {
		return len(r.Access.Accounts) > 0 && (r.Access.Public == nil || !*r.Access.Public)
	})
}

// accessFields are the keys of a rule.
func (d *decoder) accessFields(r *AccessRule) map[string]func(node) {
	return map[string]func(node){
		"accounts":     func(n node) { r.Accounts = d.readAccounts(n) },
		"public":       d.readOptionalBool(&r.Public),
		"pass_through": d.readOptionalBool(&r.PassThrough),
	}
}

// readOptionalBool leaves nil what is not written.
func (d *decoder) readOptionalBool(to **bool) func(node) {
	return func(n node) {
		s, _, ok := d.scalar(n)
		if !ok {
			return
		}
		var v bool
		if c := setBool(&v, s); c != nil {
			d.complain(n.at, c)
			return
		}
		*to = &v
	}
}

// A verdict is what rules have said so far: -1 for nothing, 0 for no, 1 for yes.
type verdict struct{ accounts, public, pass int8 }

func (v verdict) with(r AccessRule) verdict {
	say := func(old *int8, said, yes bool) {
		if *old < 0 && said {
			*old = 0
			if yes {
				*old = 1
			}
		}
	}
	say(&v.accounts, r.Accounts != nil, len(r.Accounts) > 0)
	say(&v.public, r.Public != nil, r.Public != nil && *r.Public)
	say(&v.pass, r.PassThrough != nil, r.PassThrough != nil && *r.PassThrough)
	return v
}

// checkAccess refuses accounts that nobody is known to be allowed to use. Any of
// the rules may match the same repository, so that each subset of them counts; of
// those that lead to the same, one is enough.
func (l *loader) checkAccess(e *entry) {
	reached := map[verdict]place{{-1, -1, -1}: e.at}
	for i, r := range e.Repositories {
		if r.Access.isZero() {
			continue
		}
		for v := range maps.Clone(reached) {
			if next := v.with(r.Access); next != v {
				if _, known := reached[next]; !known {
					reached[next] = e.rules[i]
				}
			}
		}
	}
	bad := make(map[place]bool)
	for v, at := range reached {
		v = v.with(e.accessRule())
		if v.accounts == 1 && v.public != 1 && v.pass != 1 {
			bad[at] = true
		}
	}
	if bad[e.at] { // what the rules inherit needs to be said once
		bad = map[place]bool{e.at: true}
	}
	for at := range bad {
		l.complain(at, complainf(msgNotPublic))
	}
}

// show adds what is said, as the file has it.
func (r AccessRule) show() yaml.MapSlice {
	var m yaml.MapSlice
	if r.Accounts != nil {
		m = append(m, yaml.MapItem{Key: "accounts", Value: showAccounts(r.Accounts)})
	}
	if r.Public != nil {
		m = append(m, yaml.MapItem{Key: "public", Value: *r.Public})
	}
	if r.PassThrough != nil {
		m = append(m, yaml.MapItem{Key: "pass_through", Value: *r.PassThrough})
	}
	return m
}
