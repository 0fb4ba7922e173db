package config

import (
	"net/url"
	"strings"

	"github.com/goccy/go-yaml"
)

// An Issuer is somebody whose tokens tell who a client is: an OpenID Connect
// provider for people, or a Kubernetes cluster for its workloads.
type Issuer struct {
	// Name is what the names of its users and groups begin with: NAME:user.
	Name string
	// URL is the issuer, as its tokens and its discovery document say. Its scheme is
	// https.
	URL string
	// Audience is what its tokens must be for.
	Audience string
	// UserClaim and GroupsClaim are the claims that name the user and the groups.
	// Default sub, and groups.
	UserClaim, GroupsClaim string
	// CAFile has the certificates of the authority for URL, in PEM. Empty means those
	// of the system.
	CAFile string
	// KeysFile has the keys of its tokens, a JWKS; then it is never asked for them.
	// Empty means that it is.
	KeysFile string
	// TokenFile has a bearer token with which it is asked for its keys; empty for
	// none.
	TokenFile string
}

func (d *decoder) readIssuers(n node) {
	seen := make(map[string]bool)
	for _, item := range d.list(n) {
		i := Issuer{UserClaim: "sub", GroupsClaim: "groups"}
		before := len(d.problems)
		file := func(to *string) func(node) {
			return d.value(func(s string) *complaint {
				if _, err := readBounded(s, MaxFileSize); err != nil {
					return complainf(msgUnreadable, err)
				}
				*to = s
				return nil
			})
		}
		d.fields(item, map[string]func(node){
			"name":         d.readText(&i.Name),
			"url":          d.value(func(s string) *complaint { return setIssuer(&i.URL, s) }),
			"audience":     d.readText(&i.Audience),
			"user_claim":   d.readText(&i.UserClaim),
			"groups_claim": d.readText(&i.GroupsClaim),
			"ca_file":      file(&i.CAFile),
			"keys_file":    file(&i.KeysFile),
			"token_file":   file(&i.TokenFile),
		})
		switch {
		case len(d.problems) > before:
		case i.Name == "" || i.URL == "" || i.Audience == "":
			d.complain(item.at, complainf(msgHalfIssuer))
		case !validLabel(i.Name) || seen[i.Name]:
			d.complain(item.at, complainf(msgBadIssuerName, i.Name))
		default:
			d.config.Issuers = append(d.config.Issuers, i)
		}
		seen[i.Name] = true
	}
}

func setIssuer(to *string, s string) *complaint {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Contains(s, "#") {
		return complainf(msgBadIssuer, redactURL(s))
	}
	*to = s
	return nil
}

// show is the issuer as the file has it.
func (i Issuer) show() yaml.MapSlice {
	m := yaml.MapSlice{{Key: "name", Value: i.Name}, {Key: "url", Value: escape(i.URL)}, {Key: "audience", Value: escape(i.Audience)}}
	add := func(key, value, usual string) {
		if value != usual {
			m = append(m, yaml.MapItem{Key: key, Value: escape(value)})
		}
	}
	add("user_claim", i.UserClaim, "sub")
	add("groups_claim", i.GroupsClaim, "groups")
	add("ca_file", i.CAFile, "")
	add("keys_file", i.KeysFile, "")
	add("token_file", i.TokenFile, "")
	return m
}
