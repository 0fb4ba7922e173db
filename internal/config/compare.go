package config

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml"
)

// A Change is one setting that differs between two configurations, with its path
// in the file. Secrets are masked: of one that has changed, both sides look alike.
type Change struct {
	Field         string
	Before, After string // empty: not there
}

// Compare lists what differs, by field.
func Compare(before, after *Config) ([]Change, error) {
	a, err := before.flat()
	if err != nil {
		return nil, err
	}
	b, err := after.flat()
	if err != nil {
		return nil, err
	}
	var changes []Change
	fields := maps.Clone(a)
	maps.Copy(fields, b)
	for field := range fields {
		if a[field] != b[field] {
			changes = append(changes, Change{field, a[field], b[field]})
		}
	}
	for _, u := range after.Upstreams {
		old, ok := before.Upstream(u.Registry)
		if !ok || reflect.DeepEqual(old, u) {
			continue
		}
		field := "upstreams." + u.Registry.String()
		if !slices.ContainsFunc(changes, func(c Change) bool { return hasPrefix(c.Field, field) }) {
			changes = append(changes, Change{field, masked, masked}) // a secret
		}
	}
	if len(changes) == 0 {
		a, b := *before, *after
		a.File, a.FileSum = b.File, b.FileSum
		if !reflect.DeepEqual(a, b) { // a secret, or an order that counts
			changes = append(changes, Change{"(masked)", masked, masked})
		}
	}
	slices.SortFunc(changes, func(x, y Change) int { return cmp.Compare(x.Field, y.Field) })
	return changes, nil
}

func hasPrefix(field, parent string) bool {
	return len(field) > len(parent) && field[:len(parent)] == parent && field[len(parent)] == '.'
}

// flat is the configuration as Show has it, by path.
func (c *Config) flat() (map[string]string, error) {
	var text bytes.Buffer
	if err := c.Show(&text); err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text.Bytes(), &doc); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	flat := make(map[string]string)
	flatten(flat, "", doc)
	return flat, nil
}

func flatten(to map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			flatten(to, fieldPath(path, key), value)
		}
	case []any:
		for i, value := range v {
			flatten(to, fmt.Sprintf("%s[%d]", path, i), value)
		}
	case nil:
	default:
		to[path] = fmt.Sprint(v)
	}
}
