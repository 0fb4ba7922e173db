package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"sampan/internal/oci"
)

// A Rule allows or denies what it matches: all that it does not mention. Of those
// that it mentions, one of each has to match; Users, Groups and Codes count as one.
type Rule struct {
	Allow bool // action: allow or deny
	// Reason is what a client is told that is denied.
	Reason string
	// Networks are those of the client's address.
	Networks []netip.Prefix
	// Users, Groups and Codes are names; "*" is any.
	Users, Groups, Codes []string
	// Hosts are names by which clients call this mirror, without port.
	Hosts []string
	// Upstreams are registries.
	Upstreams []oci.Registry
	// Repositories are what is asked for.
	Repositories []Selector
}

// names tells whether the rule allows somebody by name.
func (r Rule) names() bool { return r.Allow && len(r.Users)+len(r.Groups)+len(r.Codes) > 0 }

// A Selector matches repositories and, of those, tags: "docker.io/library/*",
// "quay.io/**", "docker.io/library/alpine:3.*". The registry may be "*", and "**"
// alone is everything.
type Selector struct {
	Registry oci.Registry // zero for any
	Path     oci.Pattern  // zero for any
	Tag      oci.Pattern  // zero for any, and for what is asked for by digest
}

// ParseSelector reads a Selector.
func ParseSelector(s string) (sel Selector, ok bool) {
	if s == "**" {
		return Selector{}, true
	}
	name, rest, nested := strings.Cut(s, "/")
	if !nested {
		return sel, false
	}
	var err error
	if name != "*" {
		if sel.Registry, err = oci.ParseRegistry(name); err != nil {
			return sel, false
		}
	}
	path, tag, tagged := strings.Cut(rest, ":")
	if sel.Path, err = oci.ParsePattern(path); err != nil {
		return sel, false
	}
	if tagged {
		if sel.Tag, err = oci.ParsePattern(tag); err != nil || strings.Contains(tag, "/") {
			return sel, false
		}
	}
	return sel, true
}

// String is the selector as it is written.
func (s Selector) String() string {
	if s == (Selector{}) {
		return "**"
	}
	text := "*"
	if !s.Registry.IsZero() {
		text = s.Registry.String()
	}
	text += "/" + s.Path.String()
	if !s.Tag.IsZero() {
		text += ":" + s.Tag.String()
	}
	return text
}

// A Policy says which content may be had, whoever asks.
type Policy struct {
	// ReportOnly logs what would be refused, and refuses nothing.
	ReportOnly bool
	// Deny is refused, with its reason.
	Deny []Denial
	// Allow is all that may be had; empty is everything.
	Allow []Selector
}

// A Denial is content that nobody gets.
type Denial struct {
	Repositories []Selector
	Reason       string
}

// A written thing is looked at when all is read.
type written[T any] struct {
	value T
	at    place
}

func (d *decoder) readRules(n node) {
	d.config.Access = []Rule{}
	for _, item := range d.list(n) {
		var r Rule
		var action string
		before := len(d.problems)
		fields := d.whoFields(&r)
		fields["action"] = d.value(func(s string) *complaint { return setChoice(&action, s, "allow", "deny") })
		fields["reason"] = d.readText(&r.Reason)
		fields["upstreams"] = func(n node) { r.Upstreams = d.readRegistries(n) }
		fields["repositories"] = func(n node) { r.Repositories = d.readSelectors(n) }
		d.fields(item, fields)
		if action == "" && len(d.problems) == before {
			d.complain(item.at, complainf(msgNoAction))
		}
		r.Allow = action == "allow"
		d.config.Access = append(d.config.Access, r)
	}
}

// whoFields are the keys that say about whom something is.
func (d *decoder) whoFields(r *Rule) map[string]func(node) {
	return map[string]func(node){
		"networks": func(n node) {
			for _, item := range d.oneOrMore(n) {
				if p, ok := d.readNetwork(item); ok {
					r.Networks = append(r.Networks, p)
				}
			}
		},
		"users":  d.readReferences(&r.Users, &d.userNames),
		"groups": d.readReferences(&r.Groups, &d.groupNames),
		"codes":  d.readReferences(&r.Codes, &d.codeNames),
		"hosts":  func(n node) { r.Hosts = d.readHostNames(n) },
	}
}

// readReferences reads names that have to be known when all is read.
func (d *decoder) readReferences(to *[]string, used *[]written[string]) func(node) {
	return func(n node) {
		*to = d.readNames(n)
		for _, name := range *to {
			*used = append(*used, written[string]{name, n.at})
		}
	}
}

func (d *decoder) readHostNames(n node) []string {
	hosts := d.readNames(n)
	for i, h := range hosts {
		hosts[i] = strings.ToLower(h)
		if strings.ContainsAny(h, ":/*") {
			d.complain(n.at, complainf(msgBadHost, h))
		}
	}
	return hosts
}

func (d *decoder) readRegistries(n node) []oci.Registry {
	var list []oci.Registry
	for _, name := range d.readNames(n) {
		r, err := oci.ParseRegistry(name)
		if err != nil {
			d.complain(n.at, complainf(msgBadRegistry, name))
			continue
		}
		list = append(list, r)
		d.registries = append(d.registries, written[oci.Registry]{r, n.at})
	}
	return list
}

func (d *decoder) readSelectors(n node) []Selector {
	var list []Selector
	for _, item := range d.oneOrMore(n) {
		s, _, ok := d.scalar(item)
		if !ok {
			continue
		}
		sel, ok := ParseSelector(s)
		if !ok {
			d.complain(item.at, complainf(msgBadSelector, s))
			continue
		}
		list = append(list, sel)
		if !sel.Registry.IsZero() {
			d.registries = append(d.registries, written[oci.Registry]{sel.Registry, item.at})
		}
	}
	return list
}

func (d *decoder) readPolicy(n node) {
	p := &d.config.Policy
	d.fields(n, map[string]func(node){
		"report_only": d.readBool(&p.ReportOnly),
		"allow":       func(n node) { p.Allow = d.readSelectors(n) },
		"deny": func(n node) {
			for _, item := range d.list(n) {
				var denial Denial
				before := len(d.problems)
				d.fields(item, map[string]func(node){
					"repositories": func(n node) { denial.Repositories = d.readSelectors(n) },
					"reason":       d.readText(&denial.Reason),
				})
				if len(denial.Repositories) == 0 && len(d.problems) == before {
					d.complain(item.at, complainf(msgNoRepositories))
				}
				p.Deny = append(p.Deny, denial)
			}
		},
	})
}

// oneOrMore are the entries of a list, or the value alone.
func (d *decoder) oneOrMore(n node) []node {
	v, ok := d.bare(n)
	if !ok {
		return nil
	}
	switch v.Node.(type) {
	case *ast.SequenceNode:
		return d.list(n)
	case *ast.NullNode:
		return nil
	default:
		return []node{n}
	}
}

// finishRules refuses what rules mention and nobody knows.
func (l *loader) finishRules() {
	users, groups, codes := map[string]bool{"*": true}, map[string]bool{"*": true}, map[string]bool{"*": true}
	files := len(l.config.Issuers) > 0
	for _, u := range l.config.Users {
		users[u.Name] = true
		files = files || u.File != ""
		for _, g := range u.Groups {
			groups[g] = true
		}
	}
	for _, c := range l.config.Codes {
		codes[c.Name] = true
	}
	for _, w := range l.userNames {
		if !files && !users[w.value] {
			l.complain(w.at, complainf(msgNoSuchUser, w.value))
		}
	}
	for _, w := range l.groupNames {
		if len(l.config.Issuers) == 0 && !groups[w.value] {
			l.complain(w.at, complainf(msgNoSuchGroup, w.value))
		}
	}
	for _, w := range l.codeNames {
		if !codes[w.value] {
			l.complain(w.at, complainf(msgNoSuchCode, w.value))
		}
	}
	for _, w := range l.registries {
		if l.upstreams[w.value] != nil || l.config.Open {
			continue
		}
		if to, ok := l.config.Aliases[w.value.String()]; ok {
			l.complain(w.at, complainf(msgIsAlias, w.value, to))
			continue
		}
		l.complain(w.at, complainf(msgNotUpstream, w.value))
	}
	named := slices.ContainsFunc(l.config.Access, Rule.names)
	for _, e := range l.upstreams {
		if e.accounts && !named {
			l.checkAccess(e)
		}
	}
}

// showPeople adds who may do what, as the file has it.
func (c *Config) showPeople(doc yaml.MapSlice) yaml.MapSlice {
	add := func(key string, list []yaml.MapSlice) {
		if len(list) > 0 {
			doc = append(doc, yaml.MapItem{Key: key, Value: list})
		}
	}
	add("users", shown(c.Users, User.show))
	add("codes", shown(c.Codes, Code.show))
	add("issuers", shown(c.Issuers, Issuer.show))
	if c.TokenKeyFile != "" {
		doc = append(doc, yaml.MapItem{Key: "token_key_file", Value: escape(c.TokenKeyFile)})
	}
	if c.Access != nil {
		doc = append(doc, yaml.MapItem{Key: "access", Value: shown(c.Access, Rule.show)})
	}
	if p := c.Policy.show(); len(p) > 0 {
		doc = append(doc, yaml.MapItem{Key: "policy", Value: p})
	}
	return doc
}

func shown[T any](list []T, show func(T) yaml.MapSlice) []yaml.MapSlice {
	out := []yaml.MapSlice{}
	for _, v := range list {
		out = append(out, show(v))
	}
	return out
}

// show is the rule as the file has it.
func (r Rule) show() yaml.MapSlice {
	action := "deny"
	if r.Allow {
		action = "allow"
	}
	m := r.showWho(yaml.MapSlice{{Key: "action", Value: action}})
	m = showList(m, "upstreams", texts(r.Upstreams))
	m = showList(m, "repositories", texts(r.Repositories))
	if r.Reason != "" {
		m = append(m, yaml.MapItem{Key: "reason", Value: escape(r.Reason)})
	}
	return m
}

// showWho adds about whom the rule is.
func (r Rule) showWho(m yaml.MapSlice) yaml.MapSlice {
	m = showList(m, "networks", showNetworks(r.Networks))
	m = showList(m, "users", r.Users)
	m = showList(m, "groups", r.Groups)
	m = showList(m, "codes", r.Codes)
	return showList(m, "hosts", r.Hosts)
}

// showList adds a list that is not empty.
func showList(m yaml.MapSlice, key string, list []string) yaml.MapSlice {
	if len(list) == 0 {
		return m
	}
	return append(m, yaml.MapItem{Key: key, Value: escaped(list)})
}

// show is the policy as the file has it.
func (p Policy) show() yaml.MapSlice {
	var m yaml.MapSlice
	if p.ReportOnly {
		m = append(m, yaml.MapItem{Key: "report_only", Value: true})
	}
	if len(p.Allow) > 0 {
		m = append(m, yaml.MapItem{Key: "allow", Value: escaped(texts(p.Allow))})
	}
	if len(p.Deny) > 0 {
		m = append(m, yaml.MapItem{Key: "deny", Value: shown(p.Deny, func(d Denial) yaml.MapSlice {
			m := yaml.MapSlice{{Key: "repositories", Value: escaped(texts(d.Repositories))}}
			if d.Reason != "" {
				m = append(m, yaml.MapItem{Key: "reason", Value: escape(d.Reason)})
			}
			return m
		})})
	}
	return m
}
