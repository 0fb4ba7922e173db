package config

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// ACME is how certificates are got from an authority such as Let's Encrypt. The
// zero value gets none.
type ACME struct {
	// Domains are the names to get certificates for. Empty means no ACME. A
	// wildcard needs the challenge dns.
	Domains []string
	// Email is where the authority writes to. Empty: nowhere.
	Email string
	// Directory is the URL of the authority's directory. Empty: Let's Encrypt.
	Directory string
	// CAFile holds further roots to trust when speaking to the authority.
	CAFile string
	// Challenge is tls-alpn, http or dns. Empty: tls-alpn and http.
	Challenge string
	// Hook is the program that sets the records of the challenge dns.
	Hook string
}

// Enabled tells whether certificates are got.
func (a ACME) Enabled() bool { return len(a.Domains) > 0 }

func (d *decoder) readACME(a *ACME, n node) {
	var domains, hook, challenge node
	d.fields(n, map[string]func(node){
		"domains": func(n node) { domains = n; d.readACMEDomains(a, n) },
		"email": d.value(func(s string) *complaint {
			a.Email = s
			return nil
		}),
		"directory": d.value(func(s string) *complaint {
			u, err := url.Parse(s)
			if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
				return complainf(msgBadDirectory, redactURL(s))
			}
			a.Directory = s
			return nil
		}),
		"ca_file": d.value(func(s string) *complaint {
			if _, err := readBounded(s, MaxFileSize); err != nil {
				return complainf(msgUnreadable, err)
			}
			a.CAFile = s
			return nil
		}),
		"challenge": func(n node) {
			challenge = n
			d.value(func(s string) *complaint { return setChoice(&a.Challenge, s, "tls-alpn", "http", "dns") })(n)
		},
		"hook": func(n node) {
			hook = n
			d.value(func(s string) *complaint {
				if !filepath.IsAbs(s) {
					return complainf(msgBadHook, s)
				}
				a.Hook = s
				return nil
			})(n)
		},
	})
	wildcard := slices.ContainsFunc(a.Domains, func(s string) bool { return strings.HasPrefix(s, "*.") })
	switch {
	case domains.Node == nil:
		d.complain(n.at, complainf(msgNoACMEDomain))
	case wildcard && a.Challenge != "dns":
		d.complain(domains.at, complainf(msgWildcardNeedsDNS))
	case a.Challenge == "dns" && a.Hook == "" && hook.Node == nil:
		d.complain(challenge.at, complainf(msgDNSNeedsHook))
	case a.Challenge != "dns" && a.Hook != "":
		d.complain(hook.at, complainf(msgHookNeedsDNS))
	}
}

func (d *decoder) readACMEDomains(a *ACME, n node) {
	items := d.list(n)
	if len(items) == 0 {
		d.complain(n.at, complainf(msgNoACMEDomain))
	}
	for _, item := range items {
		s, _, ok := d.scalar(item)
		if !ok {
			continue
		}
		var c Config
		if bad := setDomain(&c, strings.TrimPrefix(s, "*.")); bad != nil || c.Domain == "" {
			d.complain(item.at, complainf(msgBadDomain, s))
			continue
		}
		a.Domains = append(a.Domains, strings.ToLower(s))
	}
}

func (a ACME) show() yaml.MapSlice {
	m := yaml.MapSlice{{Key: "domains", Value: a.Domains}}
	for _, f := range []struct{ key, value string }{
		{"email", a.Email}, {"directory", a.Directory}, {"ca_file", a.CAFile}, {"challenge", a.Challenge}, {"hook", a.Hook},
	} {
		if f.value != "" {
			m = append(m, yaml.MapItem{Key: f.key, Value: escape(f.value)})
		}
	}
	return m
}
