package client

import "testing"

// Names in files go there and come back, with the access code as part of them; what is
// not at the mirror stays on the way back.
func TestSpellingWithAnAccessCode(t *testing.T) {
	s := source(t)
	s.Flags = Settings{Mirror: "mirror.example.com", CodeFile: write(t, "code", code)}
	m, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	const at = code + ".mirror.example.com/"
	for _, c := range []struct {
		name, want  string
		there, back func(string) (string, error)
	}{
		{"nginx:1", at + "docker.io/library/nginx:1", m.Spell, m.Unspell},
		{"docker.io/nginx", at + "docker.io/nginx", m.Spell, m.Unspell},
		{"docker.io/a/b", at + "index.docker.io/a/b", m.SpellExactly, m.Unspell},
		{"quay.io", at + "quay.io", m.SpellPrefix, m.UnspellPrefix},
		{"docker.io/a", at + "docker.io/a", m.SpellPrefix, m.UnspellPrefix},
	} {
		got, err := c.there(c.name)
		if err != nil || got != c.want {
			t.Errorf("%s became %s, %v, want %s", c.name, got, err, c.want)
		}
		if again, err := c.there(got); err != nil || again != got {
			t.Errorf("%s became %s, %v", got, again, err)
		}
		if back, err := c.back(got); err != nil || back != c.name {
			t.Errorf("%s came back as %s, %v", got, back, err)
		}
		if own, err := c.back(c.name); err != nil || own != c.name {
			t.Errorf("%s did not stay: %s, %v", c.name, own, err)
		}
	}
	if name, err := m.Spell("foo.example/a"); err == nil {
		t.Errorf("a registry that is not served became %s", name)
	}
	if name, err := m.SpellPrefix("foo.example"); err == nil {
		t.Errorf("a registry that is not served became %s", name)
	}
}
