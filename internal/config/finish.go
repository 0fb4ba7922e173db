package config

import (
	"maps"
	"slices"
	"strings"

	"sampan/internal/oci"
)

func (d *decoder) readAliases(n node) {
	for _, p := range d.mapping(n) {
		to, _, ok := d.scalar(p.value)
		if !ok {
			continue
		}
		from, ok := parseAlias(p.key)
		if !ok {
			d.complain(p.at, complainf(msgBadAlias, p.key))
			continue
		}
		if _, ok := parseAlias(to); !ok {
			d.complain(p.value.at, complainf(msgBadAlias, to))
			continue
		}
		key := from.written
		d.config.Aliases[key] = to
		d.aliases[key] = p.value.at
	}
}

// A location is one side of an alias.
type location struct {
	registry oci.Registry
	path     string // empty for the whole registry
	written  string // with the registry in lower case
}

func parseAlias(s string) (location, bool) {
	name, path, nested := strings.Cut(s, "/")
	r, err := oci.ParseRegistry(name)
	if err != nil {
		return location{}, false
	}
	written := strings.ToLower(name)
	if nested {
		if _, err := r.Repository(path); err != nil {
			return location{}, false
		}
		written += "/" + path
	}
	return location{r, path, written}, true
}

// covers tells whether an alias from a would move b.
func (a location) covers(b location) bool {
	return a.registry == b.registry &&
		(a.path == "" || a.path == b.path || strings.HasPrefix(b.path, a.path+"/"))
}

// finish checks what spans several settings and puts the upstreams in order.
func (l *loader) finish() {
	l.finishUpstreams()
	l.finishAliases()
	l.finishShares()
	c := l.config
	if c.Data.Dir == "" {
		l.complain(place{field: "data.dir"}, complainf(msgNoDataDir))
	}
	if _, ok := c.Upstream(c.Default); !ok {
		l.complain(l.places["default"], complainf(msgNotUpstream, c.Default))
	}
	l.finishListen()
	l.finishRules()
}

func (l *loader) finishUpstreams() {
	claimed := make(map[string]bool)
	for _, e := range l.upstreams {
		if e.labels.line > 0 {
			for _, label := range e.Hosts {
				claimed[label] = true
			}
		}
	}
	l.config.Upstreams = nil
	for _, e := range l.upstreams {
		l.checkLocals(e)
		u := e.Upstream
		if e.labels.line == 0 { // a label of the file wins over a built-in one
			u.Hosts = slices.DeleteFunc(slices.Clone(u.Hosts), func(label string) bool { return claimed[label] })
		}
		l.config.Upstreams = append(l.config.Upstreams, u)
	}
	slices.SortFunc(l.config.Upstreams, func(a, b Upstream) int {
		return strings.Compare(a.Registry.String(), b.Registry.String())
	})
}

// finishAliases drops the aliases that an explicit upstream replaces, and
// refuses those that would do nothing or lead nowhere.
func (l *loader) finishAliases() {
	all := make(map[string][2]location)
	names := slices.Sorted(maps.Keys(l.config.Aliases))
	for _, from := range names {
		a, _ := parseAlias(from)
		b, _ := parseAlias(l.config.Aliases[from])
		e := l.upstreams[a.registry]
		if a.path == "" && e != nil && a.registry != b.registry {
			if at, written := l.aliases[from]; written && !e.given {
				l.complain(at, complainf(msgAliasIsUpstream, a.registry))
			}
			delete(l.config.Aliases, from)
			continue
		}
		all[from] = [2]location{a, b}
	}
	for _, from := range names {
		sides, kept := all[from]
		if !kept {
			continue
		}
		to, at := sides[1], l.aliases[from]
		if at.line == 0 {
			at = place{field: "aliases." + from}
		}
		if l.upstreams[to.registry] == nil && !l.config.Open {
			l.complain(at, complainf(msgAliasTarget, to.registry))
			continue
		}
		for _, other := range all {
			identity := other[0].registry == other[1].registry && other[0].path == other[1].path
			if !identity && other[0].covers(to) {
				l.complain(at, complainf(msgAliasChain, to.written))
				break
			}
		}
	}
}
