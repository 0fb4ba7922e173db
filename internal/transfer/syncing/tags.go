package syncing

import (
	"path"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"sampan/internal/oci"
)

// none tells whether nothing was said of tags.
func (t *Tags) none() bool {
	return len(t.Include) == 0 && len(t.Exclude) == 0 && t.SemVer == "" && t.Newest == 0
}

// named are the tags that are taken without asking which there are. All tells that
// these are all.
func (t *Tags) named() (tags []oci.Tag, all bool) {
	all = len(t.Include) > 0
	for _, p := range t.Include {
		tag, err := oci.ParseTag(p)
		if err != nil {
			all = false // a pattern
			continue
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, all
}

// choose takes of a repository's tags those that are meant, each once: those named in
// full, in their order, and then the others, the highest version first where versions
// count, and else in the order of there.
func (t *Tags) choose(there []oci.Tag) []oci.Tag {
	chosen, _ := t.named()
	type candidate struct {
		tag     oci.Tag
		version *semver.Version
	}
	var left []candidate
	for _, tag := range there {
		if slices.Contains(chosen, tag) || !t.matches(tag) {
			continue
		}
		c := candidate{tag: tag}
		if t.constraint != nil || t.Newest > 0 {
			v, err := semver.NewVersion(tag.String())
			if err != nil || t.constraint != nil && !t.constraint.Check(v) {
				continue
			}
			c.version = v
		}
		left = append(left, c)
	}
	if t.constraint != nil || t.Newest > 0 {
		slices.SortStableFunc(left, func(a, b candidate) int {
			if d := b.version.Compare(a.version); d != 0 {
				return d
			}
			return strings.Compare(a.tag.String(), b.tag.String()) // v1.2 and 1.2.0
		})
	}
	if t.Newest > 0 && len(left) > t.Newest {
		left = left[:t.Newest]
	}
	for _, c := range left {
		chosen = append(chosen, c.tag)
	}
	return chosen
}

// matches tells whether patterns take a tag.
func (t *Tags) matches(tag oci.Tag) bool {
	is := func(pattern string) bool {
		ok, err := path.Match(pattern, tag.String())
		return ok && err == nil // patterns were checked
	}
	if slices.ContainsFunc(t.Exclude, is) {
		return false
	}
	return len(t.Include) == 0 || slices.ContainsFunc(t.Include, is)
}
