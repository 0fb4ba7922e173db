package access

import (
	"net/netip"
	"slices"

	"sampan/internal/oci"
)

// A Rule allows or denies what it matches. What it does not mention matches all.
type Rule struct {
	Allow bool
	// Reason is what a client is told that is denied; empty is a general sentence.
	Reason string

	// Networks are those of the client's address.
	Networks []netip.Prefix
	// Users, Groups and Codes are names, of which the client has to have one; "*"
	// is any.
	Users, Groups, Codes []string
	// Hosts are the names by which the client calls this mirror, in lower case,
	// without port and code.
	Hosts []string
	// Upstreams are registries.
	Upstreams []oci.Registry
	// Content is what is asked for; a rule of which it is empty is about all of it.
	Content []Selector
}

// A Selector matches repositories and, of those, tags. The zero value matches
// everything.
type Selector struct {
	// Registry is the one; zero is any.
	Registry oci.Registry
	// Path matches that of the repository; zero is any.
	Path oci.Pattern
	// Tag matches tags; zero is any, and whatever is asked for without a tag.
	Tag oci.Pattern
}

// Match tells whether what is asked for is selected; tag is zero where none is
// named.
func (s Selector) Match(repo oci.Repository, tag oci.Tag) bool {
	return s.matchRepository(repo) && (s.Tag.IsZero() || !tag.IsZero() && s.Tag.Match(tag.String()))
}

func (s Selector) matchRepository(repo oci.Repository) bool {
	return (s.Registry.IsZero() || s.Registry == repo.Registry()) && (s.Path.IsZero() || s.Path.Match(repo.Path()))
}

// About tells whether the rule is about a client, whatever it asks for.
func (r Rule) About(c Client) bool { return r.place(c) && r.who(c) }

// namesWho tells whether the rule is about clients that are known.
func (r Rule) namesWho() bool { return len(r.Users)+len(r.Groups)+len(r.Codes) > 0 }

// everything tells whether the rule is about all content.
func (r Rule) everything() bool { return len(r.Upstreams) == 0 && len(r.Content) == 0 }

// place tells whether the rule is about where the client is and what it calls this
// mirror.
func (r Rule) place(c Client) bool {
	return (len(r.Networks) == 0 || c.In(r.Networks)) && (len(r.Hosts) == 0 || slices.Contains(r.Hosts, c.Host))
}

// who tells whether the rule is about who the client is.
func (r Rule) who(c Client) bool {
	return !r.namesWho() || named(r.Users, c.User) || named(r.Codes, c.Code) ||
		slices.ContainsFunc(c.Groups, func(g string) bool { return named(r.Groups, g) })
}

func named(names []string, name string) bool {
	return name != "" && slices.ContainsFunc(names, func(n string) bool { return n == "*" || n == name })
}

// logins tells whether a client that the rule is not about might be, if it proved
// who it is.
func (r Rule) logins(c Client) bool {
	return c.User == "" && len(r.Users)+len(r.Groups) > 0 && !r.who(c)
}

func (r Rule) content(repo oci.Repository, tag oci.Tag) bool {
	return (len(r.Upstreams) == 0 || slices.Contains(r.Upstreams, repo.Registry())) &&
		(len(r.Content) == 0 || slices.ContainsFunc(r.Content, func(s Selector) bool { return s.Match(repo, tag) }))
}

// Rules decide in their order: the first one that matches counts, and what none
// matches is denied. Nil allows everything.
type Rules []Rule

// A verdict is what rules say of one question.
type verdict struct {
	allowed bool
	// login tells that it is denied to somebody who has not shown to be a user, and
	// might not be to one who has.
	login  bool
	reason string
}

// noRule is what a client is told that no rule mentions.
const noRule = "no rule of this mirror allows it"

func (rs Rules) decide(c Client, repo oci.Repository, tag oci.Tag) verdict {
	if rs == nil {
		return verdict{allowed: true}
	}
	v := verdict{reason: noRule}
	login := false
	for _, r := range rs {
		if !r.place(c) || !r.content(repo, tag) {
			continue
		}
		if r.who(c) {
			v = verdict{allowed: r.Allow, reason: r.Reason}
			break
		}
		login = login || r.Allow && r.logins(c)
	}
	v.login = login && !v.allowed
	return v
}

// A Reach is what a client can have at all, whatever it asks for.
type Reach struct {
	// Something tells that it can have something as it is.
	Something bool
	// Login tells that it might have more if it showed to be a user.
	Login bool
	// Reason is why it can have nothing.
	Reason string
}

// Reach tells what a client can have. Where private is true, there is content that
// rules alone allow which name who may have it.
func (rs Rules) Reach(c Client, private bool) Reach {
	if rs == nil {
		return Reach{Something: true}
	}
	reach := Reach{Reason: noRule}
	for _, r := range rs {
		switch {
		case !r.place(c):
		case !r.who(c):
			reach.Login = reach.Login || r.Allow && r.logins(c)
		case r.Allow:
			reach.Something = true
			if r.everything() && (!private || r.namesWho()) {
				return reach
			}
		case r.everything():
			if !reach.Something {
				reach.Reason = r.Reason
			}
			return reach
		}
	}
	return reach
}

// naming is the rules without those that allow whoever it may be.
func (rs Rules) naming() Rules {
	list := Rules{} // not nil: nothing is allowed by itself
	for _, r := range rs {
		if !r.Allow || r.namesWho() {
			list = append(list, r)
		}
	}
	return list
}

// Personal tells whether any rule looks at who or where a client is.
func (rs Rules) Personal() bool {
	return slices.ContainsFunc(rs, func(r Rule) bool { return r.namesWho() || len(r.Networks) > 0 || len(r.Hosts) > 0 })
}

// A Policy says which content may be had, whoever asks. The zero value allows all.
type Policy struct {
	// Deny are refused, even if they are also among Allow.
	Deny []Denial
	// Allow are the only ones that may be had; empty is all. A selector with a tag
	// allows the tags that match; what is named by digest alone is allowed in the
	// repositories of all selectors, for it is what a tag leads to.
	Allow []Selector
	// ReportOnly tells of what would be refused, and refuses nothing.
	ReportOnly bool
}

// A Denial is content that is refused.
type Denial struct {
	Selector
	// Reason is what the client is told; empty is a general sentence.
	Reason string
}

// refuses tells whether content may not be had, and why.
func (p Policy) refuses(repo oci.Repository, tag oci.Tag) (reason string, refused bool) {
	for _, d := range p.Deny {
		if d.Match(repo, tag) {
			return d.Reason, true
		}
	}
	if len(p.Allow) == 0 {
		return "", false
	}
	allowed := slices.ContainsFunc(p.Allow, func(s Selector) bool {
		return s.Match(repo, tag) || tag.IsZero() && s.matchRepository(repo)
	})
	return "it is not among what this mirror carries", !allowed
}
