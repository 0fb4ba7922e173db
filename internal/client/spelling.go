package client

import (
	"strings"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// Spell is [Mirror.Name] for a name in a file, with its spelling kept so that
// [Mirror.Unspell] can give it back: see [mirror.Names.Spell]. One that already is at
// this mirror stays as it is.
func (m *Mirror) Spell(name string) (string, error) { return m.spell(name, m.names.Spell) }

// SpellExactly is [Mirror.Spell] so that more comes back as it was: see
// [mirror.Names.SpellExactly].
func (m *Mirror) SpellExactly(name string) (string, error) {
	return m.spell(name, m.names.SpellExactly)
}

func (m *Mirror) spell(name string, how func(name string, style mirror.Style, base string) (string, error)) (string, error) {
	if _, err := m.Original(name); err == nil {
		return name, nil
	}
	name, err := how(name, m.Style, m.Address)
	if err != nil {
		return "", err
	}
	return m.withCode(name), nil
}

// Unspell is the way back from [Mirror.Spell]. A name that is not at this mirror
// stays as it is.
func (m *Mirror) Unspell(name string) (string, error) {
	return stays(name)(m.names.Unspell(m.withoutCode(name), m.Address))
}

// SpellPrefix is [Mirror.Spell] for the beginning of names: see
// [mirror.Names.SpellPrefix].
func (m *Mirror) SpellPrefix(prefix string) (string, error) {
	if _, err := m.names.UnspellPrefix(m.withoutCode(prefix), m.Address); err == nil {
		return prefix, nil
	}
	prefix, err := m.names.SpellPrefix(prefix, m.Style, m.Address)
	if err != nil {
		return "", err
	}
	return m.withCode(prefix), nil
}

// UnspellPrefix is the way back from [Mirror.SpellPrefix].
func (m *Mirror) UnspellPrefix(prefix string) (string, error) {
	return stays(prefix)(m.names.UnspellPrefix(m.withoutCode(prefix), m.Address))
}

func (m *Mirror) withoutCode(name string) string {
	if m.Code == "" {
		return name
	}
	return strings.TrimPrefix(name, m.Code+".")
}

// stays is a name itself where it is none at the mirror.
func stays(name string) func(own string, err error) (string, error) {
	return func(own string, err error) (string, error) {
		if err != nil && oci.CodeOf(err) == oci.CodeNameInvalid {
			return name, nil
		}
		return own, err
	}
}
