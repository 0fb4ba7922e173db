package oci

import (
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"library/*", "library/nginx", true},
		{"library/*", "library/a/b", false},
		{"library/*", "library", false},
		{"team/**", "team/a/b/c", true},
		{"team/**", "team", true},
		{"team/**", "teams/a", false},
		{"**", "a/b", true},
		{"*", "a/b", false},
		{"*", "a", true},
		{"**/proxy", "a/b/proxy", true},
		{"**/proxy", "proxy", true},
		{"v1.*", "v1.31.0", true},
		{"v1.*", "v2.1.0", false},
		{"v1.?", "v1.2", true},
		{"v[0-9]*", "v3.1", true},
		{"v[0-9]*", "vx", false},
		{"{stable,v*}", "stable", true},
		{"{stable,v*}", "v1", true},
		{"{stable,v*}", "edge", false},
		{"nginx", "nginx", true},
		{"nginx", "nginx2", false},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := p.Match(c.s); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.s, got, c.want)
		}
		if p.String() != c.pattern || p.IsZero() {
			t.Errorf("%q is %q after parsing", c.pattern, p)
		}
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "[a", "{a", "[]a", `a\`, strings.Repeat("a", maxPattern+1)} {
		if p, err := ParsePattern(s); err == nil || !p.IsZero() {
			t.Errorf("%.20q is taken for a pattern", s)
		}
	}
	if (Pattern{}).Match("") || (Pattern{}).Match("a") {
		t.Error("the zero pattern matches")
	}
}

// Whatever is taken for a pattern can be asked about anything.
func FuzzPattern(f *testing.F) {
	f.Add("library/*", "library/nginx")
	f.Add("{a,[b-d]}/**", "c/d")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if p, err := ParsePattern(pattern); err == nil {
			p.Match(s)
		}
	})
}
