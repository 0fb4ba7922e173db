package config

import (
	"slices"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} by the environment's values, and
// $${ by ${. Values are not expanded again.
func (l *loader) expand(s string) (string, *complaint) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		if !found {
			b.WriteString(s)
			return b.String(), nil
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(literal + "${")
			s = rest
			continue
		}
		b.WriteString(before)
		inner, after, closed := strings.Cut(rest, "}")
		name, fallback, hasFallback := strings.Cut(inner, ":-")
		if !closed || !validVariable(name) {
			return "", complainf(msgBadVariable)
		}
		l.used[name] = true
		value, set := l.env[name]
		switch {
		case set:
			b.WriteString(value)
		case hasFallback:
			b.WriteString(fallback)
		default:
			return "", complainf(msgUnset, name)
		}
		s = after
	}
}

// escape makes text that expand leaves as s is.
func escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

func validVariable(s string) bool {
	if s == "" || '0' <= s[0] && s[0] <= '9' {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// environment applies SAMPAN_* and refuses those it does not know, except for
// those that the file mentions, and those that Kubernetes makes of a service
// called sampan.
func (l *loader) environment() {
	names := append([]string{"SAMPAN_CONFIG", "SAMPAN_UPSTREAMS"}, clientVariables()...)
	known := make(map[string]bool)
	for _, s := range settings() {
		name := s.variable()
		names = append(names, name)
		if value, set := l.env[name]; set {
			l.apply(s, value, place{field: name})
		}
	}
	for _, name := range names {
		known[name] = true
	}
	separator := func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }
	l.override("SAMPAN_UPSTREAMS", strings.FieldsFunc(l.env["SAMPAN_UPSTREAMS"], separator))

	var unknown []string
	for name := range l.env {
		if strings.HasPrefix(name, "SAMPAN_") && !known[name] && !l.used[name] && !serviceLink(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		c := complainf(msgUnknownVariable)
		c.meant = suggest(name, names)
		l.complain(place{field: name}, c)
	}
}

// clientVariables are for the tools of the same program, which may run in the same
// environment.
func clientVariables() []string {
	return []string{
		"SAMPAN_CLIENT_CONFIG", "SAMPAN_MIRROR", "SAMPAN_STYLE", "SAMPAN_CA",
		"SAMPAN_USERNAME", "SAMPAN_PASSWORD_FILE", "SAMPAN_CODE_FILE",
	}
}

// serviceLink tells whether Kubernetes makes such a variable of a service.
func serviceLink(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// flags applies the command line.
func (l *loader) flags(f Flags) {
	given := map[string]struct{ flag, value string }{
		"listen":       {"--listen", f.Listen},
		"admin.listen": {"--admin-listen", f.AdminListen},
		"data.dir":     {"--data", f.DataDir},
		"offline":      {"--offline", f.Offline},
	}
	for _, s := range settings() {
		if g := given[s.path]; g.value != "" {
			l.apply(s, g.value, place{field: g.flag})
		}
	}
	l.override("--upstream", f.Upstreams)
}

// apply sets one value and remembers where it came from.
func (l *loader) apply(s setting, value string, at place) {
	if c := s.set(l.config, value); c != nil {
		l.complain(at, c)
		return
	}
	l.places[s.path] = at
}
