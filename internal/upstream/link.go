package upstream

import (
	"net/url"
	"strings"
)

// nextLink returns the target of the first link with the relation "next" among
// the values of a Link header (RFC 8288), or "" when there is none.
func nextLink(values []string) string {
	for _, v := range values {
		for v != "" {
			var target, params string
			target, params, v = cutLink(v)
			if target != "" && isNext(params) {
				return target
			}
		}
	}
	return ""
}

// cutLink reads one link value: its target, its parameters, and what follows
// the comma after it.
func cutLink(s string) (target, params, rest string) {
	_, s, found := strings.Cut(s, "<")
	if !found {
		return "", "", ""
	}
	target, s, found = strings.Cut(s, ">")
	if !found {
		return "", "", ""
	}
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return strings.TrimSpace(target), s[:i], s[i+1:]
		}
	}
	return strings.TrimSpace(target), s, ""
}

// isNext tells whether link parameters contain rel=next, quoted or not, alone
// or among other relations.
func isNext(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(key), "rel") {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		for rel := range strings.FieldsSeq(value) {
			if strings.EqualFold(rel, "next") {
				return true
			}
		}
	}
	return false
}

// nextPage returns the address of the page that follows the one at base, nil
// when it was the last. A page on another host is refused: credentials and
// trust end at the host. The scheme is kept, because a registry behind a TLS
// proxy often writes http into its own links.
func nextPage(base *url.URL, link []string) (*url.URL, error) {
	target := nextLink(link)
	if target == "" {
		return nil, nil
	}
	u, err := resolve(base, target)
	if err != nil {
		return nil, err
	}
	if u.Host != base.Host {
		return nil, errOtherHost
	}
	u.Scheme = base.Scheme
	return u, nil
}
