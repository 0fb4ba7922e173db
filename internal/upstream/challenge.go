package upstream

import (
	"net/http"
	"strings"
)

// A challenge is one of the schemes that a WWW-Authenticate header offers
// (RFC 9110, section 11.6.1). The zero value offers nothing.
type challenge struct {
	scheme string // in lower case: "bearer", "basic", or what the registry sent
	realm  string
	params map[string]string // keys in lower case
}

// usable tells whether sampan can answer the challenge.
func (c challenge) usable() bool {
	return c.scheme == "basic" || c.scheme == "bearer" && c.realm != ""
}

// scope returns what to ask a token for: want, which is for the repository at
// hand, unless the registry names a scope that is not about a repository at all
// (public.ecr.aws: "aws"). A registry's own repository scope is not taken: on a
// ping it is a placeholder (ghcr.io: "repository:user/image:pull").
func (c challenge) scope(want string) string {
	for _, s := range strings.Fields(c.params["scope"]) {
		if !strings.HasPrefix(s, "repository:") && !strings.HasPrefix(s, "registry:") {
			return s
		}
	}
	return want
}

// same tells whether another challenge leads to the same tokens. Nil is none.
func (c challenge) same(other *challenge) bool {
	return other != nil && c.scheme == other.scheme && c.realm == other.realm &&
		c.params["service"] == other.params["service"] && c.scope("") == other.scope("")
}

// chooseChallenge returns the challenge of an answer to respond to: Bearer
// before Basic. The zero challenge means that there is none that sampan speaks;
// others then names the schemes there are.
func chooseChallenge(h http.Header) (c challenge, others []string) {
	for _, each := range parseChallenges(h.Values("WWW-Authenticate")) {
		switch {
		case !each.usable():
			others = append(others, each.scheme)
		case c.scheme == "" || c.scheme == "basic" && each.scheme == "bearer":
			c = each
		}
	}
	return c, others
}

// parseChallenges reads the values of WWW-Authenticate. It takes what
// registries send: several challenges in one value or in several, values quoted
// or not (gcr.io), blanks around "=", empty list elements, parameters in any
// case. What it cannot read it leaves out.
func parseChallenges(values []string) []challenge {
	var all []challenge
	for _, v := range values {
		p := challengeParser{s: v}
		all = append(all, p.parse()...)
	}
	return all
}

type challengeParser struct {
	s string // what is still to be read
}

func (p *challengeParser) parse() []challenge {
	var all []challenge
	for {
		p.skip(" \t,")
		word := p.token()
		if word == "" {
			if p.s == "" {
				return all
			}
			p.s = p.s[1:] // nothing that belongs here
			continue
		}
		value, isParam := p.value()
		switch {
		case !isParam:
			all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
		case len(all) > 0:
			c := &all[len(all)-1]
			key := strings.ToLower(word)
			if _, twice := c.params[key]; !twice {
				c.params[key] = value
			}
			if key == "realm" && c.realm == "" {
				c.realm = value
			}
		}
	}
}

// value reads "= value" after a parameter's name; without "=" the name was a
// scheme.
func (p *challengeParser) value() (string, bool) {
	rest := strings.TrimLeft(p.s, " \t")
	if !strings.HasPrefix(rest, "=") {
		return "", false
	}
	p.s = strings.TrimLeft(rest[1:], " \t")
	if strings.HasPrefix(p.s, `"`) {
		return p.quoted(), true
	}
	end := strings.IndexAny(p.s, ", \t")
	if end < 0 {
		end = len(p.s)
	}
	value := p.s[:end]
	p.s = p.s[end:]
	return value, true
}

// quoted reads a quoted string with its escapes; a missing closing quote is
// forgiven.
func (p *challengeParser) quoted() string {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.s = p.s[i+1:]
			return b.String()
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	p.s = ""
	return b.String()
}

func (p *challengeParser) skip(chars string) { p.s = strings.TrimLeft(p.s, chars) }

// token reads a token of RFC 9110, section 5.6.2.
func (p *challengeParser) token() string {
	end := 0
	for end < len(p.s) && isTokenByte(p.s[end]) {
		end++
	}
	word := p.s[:end]
	p.s = p.s[end:]
	return word
}

func isTokenByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
