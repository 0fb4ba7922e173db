package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"sampan/internal/oci"
)

// root reads the whole file.
func (d *decoder) root(n node) {
	top := map[string]func(node){
		"egress":    func(n node) { d.readEgress(&d.config.Egress, n) },
		"upstreams": d.readUpstreams,
		"aliases":   d.readAliases,
	}
	sections := make(map[string]map[string]func(node))
	deeper := make(map[string]map[string]func(node))
	for _, s := range settings() {
		read := func(n node) {
			if text, _, ok := d.scalar(n); ok {
				d.apply(s, text, n.at)
			}
		}
		section, key, nested := strings.Cut(s.path, ".")
		if !nested {
			top[s.path] = read
			continue
		}
		if sections[section] == nil {
			sections[section] = make(map[string]func(node))
		}
		if sub, key, deep := strings.Cut(key, "."); deep {
			below := section + "." + sub
			if deeper[below] == nil {
				deeper[below] = make(map[string]func(node))
				sections[section][sub] = func(n node) { d.fields(n, deeper[below]) }
			}
			deeper[below][key] = read
			continue
		}
		sections[section][key] = read
	}
	sections["tags"]["immutable"] = d.readImmutable
	sections["limits"]["clients"] = d.readClientLimits
	sections["admin"]["token"] = func(n node) { d.config.Admin.Token = d.readSecret(n) }
	sections["admin"]["token_file"] = func(n node) {
		d.config.Admin.TokenFile, d.config.Admin.Token = d.readSecretFile(n, d.config.Admin.Token)
	}
	for section, known := range sections {
		top[section] = func(n node) { d.fields(n, known) }
	}
	top["listen"] = d.readListen
	top["tls"] = d.readTLS
	top["trusted_proxies"] = d.readTrusted
	top["cors_origins"] = d.readOrigins
	top["users"] = d.readUsers
	top["codes"] = d.readCodes
	top["issuers"] = d.readIssuers
	top["token_key_file"] = d.readTokenKey
	top["access"] = d.readRules
	top["policy"] = d.readPolicy
	top["schedule"] = d.readSchedule
	d.fields(n, top)
}

func (d *decoder) readUpstreams(n node) {
	for _, p := range d.mapping(n) {
		if p.key == "*" {
			d.config.Open = true
			if v, ok := d.bare(p.value); ok && !empty(v) {
				d.complain(p.value.at, complainf(msgStarTakesNothing))
			}
			continue
		}
		r, err := oci.ParseRegistry(p.key)
		if err != nil {
			d.complain(p.at, complainf(msgBadRegistry, p.key))
			continue
		}
		e := d.entry(r)
		if e.at.line > 0 {
			d.complain(p.at, complainf(msgSameUpstream, p.key))
			continue
		}
		e.at = p.at
		d.readUpstream(e, p.value)
	}
}

// empty tells whether a value is nothing, or a mapping without entries.
func empty(n node) bool {
	switch m := n.Node.(type) {
	case *ast.NullNode:
		return true
	case *ast.MappingNode:
		return len(m.Values) == 0
	default:
		return false
	}
}

// entry returns the upstream of that name, a new one if need be.
func (l *loader) entry(r oci.Registry) *entry {
	e := l.upstreams[r]
	if e == nil {
		e = &entry{Upstream: newUpstream(r)}
		l.upstreams[r] = e
	}
	return e
}

func (d *decoder) readUpstream(e *entry, n node) {
	var at struct{ password, passwordFile, token, tokenFile place }
	d.fields(n, map[string]func(node){
		"hosts":     func(n node) { d.readHosts(e, n) },
		"endpoints": func(n node) { d.readEndpoints(e, n) },
		"egress":    func(n node) { d.readEgress(&e.Egress, n) },
		"username":  d.readText(&e.Username),
		"password":  func(n node) { at.password = n.at; e.Password = d.readSecret(n) },
		"hedge":     func(n node) { d.readHedge(e, n) },
		"rate_limit_wait": func(n node) {
			if s, _, ok := d.scalar(n); ok {
				if c := setDuration(&e.RateLimitWait, s); c != nil {
					d.complain(n.at, c)
				}
			}
		},
		"password_file": func(n node) {
			at.passwordFile = n.at
			e.PasswordFile, e.Password = d.readSecretFile(n, e.Password)
		},
		"repositories": func(n node) { d.readRepositories(e, n) },
		"tags":         d.readTagRule(&e.Tags),
		"token":        func(n node) { at.token = n.at; e.Token = d.readSecret(n) },
		"token_file": func(n node) {
			at.tokenFile = n.at
			e.TokenFile, e.Token = d.readSecretFile(n, e.Token)
		},
		"max_size":     d.readShare(&e.MaxSize, &e.maxSize),
		"min_size":     d.readShare(&e.MinSize, &e.minSize),
		"max_age":      d.readAge(&e.MaxAge),
		"accounts":     func(n node) { e.Accounts = d.readAccounts(n) },
		"public":       d.readBool(&e.Public),
		"pass_through": d.readBool(&e.PassThrough),
	})
	if at.password.line > 0 && at.passwordFile.line > 0 {
		d.complain(at.passwordFile, complainf(msgTwoSecrets, "password", "password_file"))
	}
	if at.token.line > 0 && at.tokenFile.line > 0 {
		d.complain(at.tokenFile, complainf(msgTwoSecrets, "token", "token_file"))
	}
	password := at.password.line > 0 || at.passwordFile.line > 0
	switch {
	case (e.Username != "") != password:
		d.complain(e.at, complainf(msgHalfLogin))
	case e.Username != "" && (at.token.line > 0 || at.tokenFile.line > 0):
		d.complain(e.at, complainf(msgTokenAndLogin))
	default:
		e.accounts = true
	}
}

func (d *decoder) readBool(to *bool) func(node) {
	return func(n node) {
		if s, _, ok := d.scalar(n); ok {
			if c := setBool(to, s); c != nil {
				d.complain(n.at, c)
			}
		}
	}
}

func (d *decoder) readHosts(e *entry, n node) {
	e.labels, e.Hosts = n.at, []string{}
	for _, item := range d.list(n) {
		label, _, ok := d.scalar(item)
		if !ok {
			continue
		}
		label = strings.ToLower(label)
		if !validLabel(label) {
			d.complain(item.at, complainf(msgBadLabel, label))
			continue
		}
		if other := d.owner(label); other != nil {
			d.complain(item.at, complainf(msgTakenLabel, label, other.Registry))
			continue
		}
		e.Hosts = append(e.Hosts, label)
	}
}

// owner returns the upstream for which the file claims a label already.
func (l *loader) owner(label string) *entry {
	for _, e := range l.upstreams {
		if e.labels.line > 0 && slices.Contains(e.Hosts, label) {
			return e
		}
	}
	return nil
}

func (d *decoder) readSecret(n node) Secret {
	text, source, ok := d.scalar(n)
	switch {
	case !ok:
		return Secret{}
	case text == "":
		d.complain(n.at, complainf(msgEmpty))
		return Secret{}
	case isVariable(source):
		return Secret{text, source}
	default:
		return Secret{value: text}
	}
}

// isVariable tells whether a text is one variable and nothing else: what stands
// beside one, or as its default, is the secret itself.
func isVariable(source string) bool {
	name, open := strings.CutPrefix(source, "${")
	name, closed := strings.CutSuffix(name, "}")
	return open && closed && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// readSecretFile reads the file that a value names; other is kept when it
// cannot.
func (d *decoder) readSecretFile(n node, other Secret) (string, Secret) {
	name, _, ok := d.scalar(n)
	if !ok {
		return "", other
	}
	text, err := readBounded(name, maxSecretSize)
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case errors.Is(err, errTooLarge):
		d.complain(n.at, complainf(msgUnreadable, err))
	case err != nil:
		d.complain(n.at, complainf(msgUnreadable, err))
	case secret == "":
		d.complain(n.at, complainf(msgEmptySecret, name))
	default:
		return name, Secret{value: secret}
	}
	return name, other
}

// override applies NAME=URL: the first for a name replaces its endpoints, those
// that follow are added.
func (l *loader) override(flag string, list []string) {
	replaced := make(map[oci.Registry]bool)
	for _, s := range list {
		at := place{field: flag}
		name, address, ok := strings.Cut(s, "=")
		if !ok {
			l.complain(at, complainf(msgBadUpstreamFlag, redactURL(s)))
			continue
		}
		r, err := oci.ParseRegistry(name)
		if err != nil {
			l.complain(at, complainf(msgBadRegistry, name))
			continue
		}
		endpoint, c := l.endpoint(address)
		if c != nil {
			l.complain(at, c)
			continue
		}
		e := l.entry(r)
		e.given = true
		if !replaced[r] {
			e.Endpoints = nil
		}
		replaced[r] = true
		e.Endpoints = append(e.Endpoints, endpoint)
	}
}
