package config

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"sampan/internal/oci"
)

// Forever is a Duration without end, written "forever".
const Forever Duration = math.MaxInt64

// Tags is how answers about tags age.
type Tags struct {
	// FreshFor is how long a tag is served without asking its registry again.
	// Zero means that it is always asked. Default 1m.
	FreshFor Duration
	// StaleIfError is how old an answer may be, since its registry last confirmed
	// it, that is served because the registry gives none. Zero means that none is
	// served, [Forever] any. Default Forever: what was served once is served again
	// while it is here.
	StaleIfError Duration
	// MissingFor is how long a registry's "there is no such thing" and "you may
	// not" are repeated without asking. Zero means that it is always asked.
	// Default 30s.
	MissingFor Duration
	// Immutable are patterns of tags that never move: they are not asked for again
	// while they are here. Default none.
	Immutable []oci.Pattern
	// Refresh asks for the tags in use again in the background, shortly before
	// they are no longer fresh. Default false.
	Refresh bool
}

func defaultTags() Tags {
	return Tags{FreshFor: Duration(time.Minute), StaleIfError: Forever, MissingFor: Duration(30 * time.Second)}
}

// A TagRule is what an upstream, or a rule for some of its repositories, says
// about tags. What it does not mention is nil.
type TagRule struct {
	FreshFor, StaleIfError, MissingFor *Duration
	// Immutable is nil when it is not mentioned, and not nil when it is empty.
	Immutable []oci.Pattern
	Refresh   *bool
}

// A Setting is one value with the place in the configuration that it comes from.
type Setting struct {
	Key   string // "fresh_for"
	Value string // as it may be written
	From  string // "upstreams.quay.io.tags"; "tags" for the section, which has the defaults too
}

// TagsOf returns how answers about a repository age, and where each setting
// comes from: of the rules of its upstream that match, the first one that says
// something about it, or else the upstream, or else the section tags.
func (c *Config) TagsOf(repo oci.Repository) (Tags, []Setting) {
	type layer struct {
		from string
		rule TagRule
	}
	var layers []layer
	if u, ok := c.Upstream(repo.Registry()); ok {
		at := "upstreams." + u.Registry.String()
		for _, r := range u.Repositories {
			if r.Pattern.Match(repo.Path()) {
				layers = append(layers, layer{at + ".repositories." + r.Pattern.String() + ".tags", r.Tags})
			}
		}
		layers = append(layers, layer{at + ".tags", u.Tags})
	}
	tags := c.Tags
	var settings []Setting
	for _, s := range tagSettings() {
		from := "tags"
		for _, l := range layers {
			if s.take(&tags, l.rule) {
				from = l.from
				break
			}
		}
		settings = append(settings, Setting{s.key, s.text(tags), from})
	}
	return tags, settings
}

// RulesTags tells whether anything about the tags of the upstream may differ from
// the section tags.
func (u Upstream) RulesTags() bool {
	return len(u.Tags.show()) > 0 ||
		slices.ContainsFunc(u.Repositories, func(r RepositoryRule) bool { return len(r.Tags.show()) > 0 })
}

// A tagSetting is one key below tags, wherever that is.
type tagSetting struct {
	key  string
	take func(*Tags, TagRule) bool // what the rule says, if it says anything
	text func(Tags) string         // as it may be written
	show func(TagRule) (any, bool) // as the file has it, if it has it
	read func(*decoder, *TagRule, node)
}

// tagSettings lists them in the order of the manual.
func tagSettings() []tagSetting {
	return []tagSetting{
		durationSetting("fresh_for", setDuration,
			func(t *Tags) *Duration { return &t.FreshFor }, func(r *TagRule) **Duration { return &r.FreshFor }),
		durationSetting("stale_if_error", setLongDuration,
			func(t *Tags) *Duration { return &t.StaleIfError }, func(r *TagRule) **Duration { return &r.StaleIfError }),
		durationSetting("missing_for", setDuration,
			func(t *Tags) *Duration { return &t.MissingFor }, func(r *TagRule) **Duration { return &r.MissingFor }),
		{
			key: "immutable",
			take: func(t *Tags, r TagRule) bool {
				if r.Immutable != nil {
					t.Immutable = r.Immutable
				}
				return r.Immutable != nil
			},
			text: func(t Tags) string { return "[" + strings.Join(patternTexts(t.Immutable), ", ") + "]" },
			show: func(r TagRule) (any, bool) { return patternTexts(r.Immutable), r.Immutable != nil },
			read: func(d *decoder, r *TagRule, n node) { r.Immutable = d.readTagPatterns(n) },
		},
		{
			key: "refresh",
			take: func(t *Tags, r TagRule) bool {
				if r.Refresh != nil {
					t.Refresh = *r.Refresh
				}
				return r.Refresh != nil
			},
			text: func(t Tags) string {
				if t.Refresh {
					return "true"
				}
				return "false"
			},
			show: func(r TagRule) (any, bool) { return r.Refresh != nil && *r.Refresh, r.Refresh != nil },
			read: func(d *decoder, r *TagRule, n node) { r.Refresh = readValue(d, n, setBool) },
		},
	}
}

func durationSetting(key string, set func(*Duration, string) *complaint, of func(*Tags) *Duration, in func(*TagRule) **Duration) tagSetting {
	return tagSetting{
		key: key,
		take: func(t *Tags, r TagRule) bool {
			v := *in(&r)
			if v != nil {
				*of(t) = *v
			}
			return v != nil
		},
		text: func(t Tags) string { return of(&t).String() },
		show: func(r TagRule) (any, bool) {
			v := *in(&r)
			if v == nil {
				return nil, false
			}
			return v.String(), true
		},
		read: func(d *decoder, r *TagRule, n node) { *in(r) = readValue(d, n, set) },
	}
}

// readValue reads a single value; nil when there is none, and where it has
// complained.
func readValue[T any](d *decoder, n node, set func(*T, string) *complaint) *T {
	text, _, ok := d.scalar(n)
	if !ok {
		return nil
	}
	v := new(T)
	if c := set(v, text); c != nil {
		d.complain(n.at, c)
		return nil
	}
	return v
}

// setLongDuration is setDuration, and takes "forever".
func setLongDuration(to *Duration, s string) *complaint {
	if s == foreverText {
		*to = Forever
		return nil
	}
	if setDuration(to, s) != nil {
		return complainf(msgBadLongDuration, s)
	}
	return nil
}

// readTagRule reads the tags of an upstream or a rule.
func (d *decoder) readTagRule(r *TagRule) func(node) {
	return func(n node) {
		known := make(map[string]func(node))
		for _, s := range tagSettings() {
			known[s.key] = func(n node) { s.read(d, r, n) }
		}
		d.fields(n, known)
	}
}

// readImmutable reads the patterns of the section tags.
func (d *decoder) readImmutable(n node) { d.config.Tags.Immutable = d.readTagPatterns(n) }

// readTagPatterns is never nil.
func (d *decoder) readTagPatterns(n node) []oci.Pattern {
	patterns := []oci.Pattern{}
	for _, item := range d.list(n) {
		text, _, ok := d.scalar(item)
		if !ok {
			continue
		}
		p, err := oci.ParsePattern(text)
		if err != nil || strings.Contains(text, "/") {
			d.complain(item.at, complainf(msgBadTagPattern, text))
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns
}

func patternTexts(patterns []oci.Pattern) []string {
	texts := make([]string, len(patterns))
	for i, p := range patterns {
		texts[i] = escape(p.String())
	}
	return texts
}

// showTags is the section as the file has it.
func (c *Config) showTags() yaml.MapSlice {
	t := c.Tags
	return yaml.MapSlice{
		{Key: "fresh_for", Value: t.FreshFor.String()},
		{Key: "stale_if_error", Value: t.StaleIfError.String()},
		{Key: "missing_for", Value: t.MissingFor.String()},
		{Key: "immutable", Value: patternTexts(t.Immutable)},
		{Key: "refresh", Value: t.Refresh},
	}
}

// show is what a rule says, as the file has it; empty when it says nothing.
func (r TagRule) show() yaml.MapSlice {
	var m yaml.MapSlice
	for _, s := range tagSettings() {
		if v, ok := s.show(r); ok {
			m = append(m, yaml.MapItem{Key: s.key, Value: v})
		}
	}
	return m
}
