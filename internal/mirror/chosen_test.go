package mirror

import (
	"testing"

	"sampan/internal/oci"
)

func TestWhatAnAddressChoosesBeforeARepositoryIsNamed(t *testing.T) {
	hub, quay := oci.DockerHub, mustRegistry(t, "quay.io")
	n, err := New(Options{
		Domain:    "m.example.com",
		Upstreams: []Upstream{{Registry: hub, Hosts: []string{"docker"}}, {Registry: quay}},
		Aliases:   map[string]string{"old.quay.io": "quay.io"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fact    string
		address Address
		want    string // empty: the name decides
	}{
		{"the bare domain chooses nothing", Address{Host: "m.example.com"}, ""},
		{"nor does an address", Address{Host: "10.0.0.1:5000"}, ""},
		{"a label chooses", Address{Host: "docker.m.example.com"}, "docker.io"},
		{"the name of a registry chooses", Address{Host: "quay.io.m.example.com"}, "quay.io"},
		{"a prefix chooses", Address{Host: "m.example.com", Prefix: "quay.io"}, "quay.io"},
		{"a prefix with more chooses", Address{Host: "m.example.com", Prefix: "quay.io/team"}, "quay.io"},
		{"ns chooses", Address{Host: "m.example.com", NS: "docker.io"}, "docker.io"},
		{"ns that is this mirror does not", Address{Host: "m.example.com", NS: "m.example.com"}, ""},
		{"an alias chooses what it stands for", Address{Host: "m.example.com", NS: "old.quay.io"}, "quay.io"},
		{"what is not served chooses nothing", Address{Host: "other.m.example.com", NS: "a.example"}, ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			r, ok := n.Chosen(c.address)
			if r.String() != c.want || ok != (c.want != "") {
				t.Errorf("got %s, %v", r, ok)
			}
		})
	}
}

func mustRegistry(t *testing.T, s string) oci.Registry {
	t.Helper()
	r, err := oci.ParseRegistry(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
