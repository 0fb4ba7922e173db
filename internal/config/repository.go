package config

import (
	"github.com/goccy/go-yaml"

	"sampan/internal/oci"
)

// A RepositoryRule is what differs for some repositories of an upstream.
type RepositoryRule struct {
	// Pattern is matched with the path of a repository: "library/*", "team/**".
	Pattern oci.Pattern
	// Tags is what differs for their tags.
	Tags TagRule
	// Access is what differs in who may read them.
	Access AccessRule
}

// readRepositories reads the rules of an upstream in the order of the file: of
// those that match a repository and say something about a setting, the first one
// counts.
func (d *decoder) readRepositories(e *entry, n node) {
	e.Repositories, e.rules = nil, nil
	for _, p := range d.mapping(n) {
		pattern, err := oci.ParsePattern(p.key)
		if err != nil {
			d.complain(p.at, complainf(msgBadPattern, p.key))
			continue
		}
		rule := RepositoryRule{Pattern: pattern}
		d.fields(p.value, d.repositoryFields(&rule))
		e.Repositories, e.rules = append(e.Repositories, rule), append(e.rules, p.at)
	}
}

// repositoryFields are the keys of one rule.
func (d *decoder) repositoryFields(r *RepositoryRule) map[string]func(node) {
	fields := d.accessFields(&r.Access)
	fields["tags"] = d.readTagRule(&r.Tags)
	return fields
}

// showRepositories is the rules as the file has them.
func (u Upstream) showRepositories() yaml.MapSlice {
	var rules yaml.MapSlice
	for _, r := range u.Repositories {
		rules = append(rules, yaml.MapItem{Key: r.Pattern.String(), Value: r.show()})
	}
	return rules
}

// show is one rule as the file has it.
func (r RepositoryRule) show() yaml.MapSlice {
	m := append(yaml.MapSlice{}, r.Access.show()...)
	if tags := r.Tags.show(); len(tags) > 0 {
		m = append(m, yaml.MapItem{Key: "tags", Value: tags})
	}
	return m
}
