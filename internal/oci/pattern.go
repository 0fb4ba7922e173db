package oci

import (
	"fmt"

	"github.com/bmatcuk/doublestar/v4"
)

// A Pattern matches paths of repositories, or tags: "*" stands for any
// characters but a slash, "**" as a whole component for any number of
// components, "?" for one character, "[…]" for one of several, "{a,b}" for
// either. A pattern matches the whole: "library/*", "team/**", "v1.*". The zero
// value matches nothing. Patterns are comparable.
type Pattern struct{ s string }

// maxPattern bounds a pattern, in bytes.
const maxPattern = 512

// ParsePattern fails for an empty pattern, for one of more than 512 bytes, and
// for brackets and braces without their other half.
func ParsePattern(s string) (Pattern, error) {
	if s == "" || len(s) > maxPattern || !doublestar.ValidatePattern(s) {
		return Pattern{}, fmt.Errorf("%s is not a pattern", clip(s))
	}
	return Pattern{s}, nil
}

// Match tells whether the whole of s is matched.
func (p Pattern) Match(s string) bool {
	return p.s != "" && doublestar.MatchUnvalidated(p.s, s)
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.s }

// IsZero tells whether p matches nothing because it was never set.
func (p Pattern) IsZero() bool { return p.s == "" }
