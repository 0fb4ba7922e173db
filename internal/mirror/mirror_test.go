package mirror

import (
	"strings"
	"testing"

	"sampan/internal/oci"
)

func registry(t testing.TB, s string) oci.Registry {
	t.Helper()
	r, err := oci.ParseRegistry(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// options are those of a mirror with a few upstreams and the usual aliases.
func options(t testing.TB) Options {
	return Options{
		Domain: "mirror.example.com",
		Upstreams: []Upstream{
			{Registry: registry(t, "docker.io"), Hosts: []string{"docker", "hub"}},
			{Registry: registry(t, "quay.io"), Hosts: []string{"quay"}},
			{Registry: registry(t, "registry.k8s.io"), Hosts: []string{"k8s"}},
			{Registry: registry(t, "gcr.io"), Hosts: []string{"gcr"}},
			{Registry: registry(t, "docker.elastic.co")},
			{Registry: registry(t, "registry.corp:5000"), Hosts: []string{"corp"}},
			{Registry: registry(t, "harbor")},
		},
		Aliases: map[string]string{
			"k8s.gcr.io":               "registry.k8s.io",
			"gcr.io/google_containers": "gcr.io/google-containers",
			"index.docker.io":          "docker.io",
			"registry-1.docker.io":     "docker.io",
			"old.example/team":         "quay.io/team-archive",
			"old.example/team/special": "gcr.io/special",
			"corp":                     "registry.corp:5000",
		},
	}
}

func newNames(t testing.TB, change func(*Options)) *Names {
	t.Helper()
	o := options(t)
	if change != nil {
		change(&o)
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

type addressCase struct {
	fact string
	in   Address
	want string // repository, or "!CODE text that the message contains"
}

func checkAddresses(t *testing.T, n *Names, cases []addressCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.fact, func(t *testing.T) {
			got, err := n.Repository(c.in)
			want, refused := strings.CutPrefix(c.want, "!")
			if !refused {
				if err != nil || got.String() != want {
					t.Fatalf("%+v\n got %v, %v\nwant %s", c.in, got, err, want)
				}
				return
			}
			code, text, _ := strings.Cut(want, " ")
			if err == nil || string(oci.CodeOf(err)) != code || !strings.Contains(err.Error(), text) {
				t.Fatalf("%+v\n got %v, %v\nwant %s", c.in, got, err, c.want)
			}
		})
	}
}

func TestRepository(t *testing.T) {
	const ip, domain = "127.0.0.1:5000", "mirror.example.com"
	checkAddresses(t, newNames(t, nil), []addressCase{
		{"a bare name is Docker Hub's", Address{Host: ip, Path: "nginx"}, "docker.io/library/nginx"},
		{"a name of two components gets no library", Address{Host: ip, Path: "grafana/grafana"}, "docker.io/grafana/grafana"},
		{"a dot in the only component is no registry", Address{Host: ip, Path: "foo.bar"}, "docker.io/library/foo.bar"},

		{"a label below the domain chooses", Address{Host: "quay.mirror.example.com", Path: "a/b"}, "quay.io/a/b"},
		{"any label of an upstream chooses", Address{Host: "hub.mirror.example.com", Path: "nginx"}, "docker.io/library/nginx"},
		{"port, case and final dot of the host do not matter", Address{Host: "Quay.Mirror.Example.Com.:8443", Path: "a/b"}, "quay.io/a/b"},
		{"the full name below the domain chooses", Address{Host: "docker.elastic.co.mirror.example.com", Path: "beats/filebeat"}, "docker.elastic.co/beats/filebeat"},
		{"an alias below the domain chooses", Address{Host: "k8s.gcr.io.mirror.example.com", Path: "pause"}, "registry.k8s.io/pause"},
		{"a registry's own name chooses", Address{Host: "quay.io", Path: "a/b"}, "quay.io/a/b"},
		{"a registry's own name with its port chooses", Address{Host: "registry.corp:5000", Path: "a"}, "registry.corp:5000/a"},
		{"a registry's alias as host chooses", Address{Host: "registry-1.docker.io:443", Path: "library/nginx"}, "docker.io/library/nginx"},
		{"a chosen host keeps a path that looks like a registry", Address{Host: "quay.mirror.example.com", Path: "docker.io/b"}, "quay.io/docker.io/b"},
		{"a registry's name at an unusual port yields to the path", Address{Host: "quay.io:5000", Path: "docker.io/nginx"}, "docker.io/library/nginx"},
		{"a registry's name at an unusual port chooses otherwise", Address{Host: "quay.io:5000", Path: "a/b"}, "quay.io/a/b"},
		{"the domain itself means the path", Address{Host: domain, Path: "quay.io/a/b"}, "quay.io/a/b"},
		{"an unknown label below the domain is refused", Address{Host: "nope.mirror.example.com", Path: "a/b"}, "!DENIED upstreams.<registry>.hosts"},
		{"labels do not count outside the domain", Address{Host: "quay.localhost:5000", Path: "nginx"}, "docker.io/library/nginx"},
		{"a suffix that is no domain boundary is another host", Address{Host: "xmirror.example.com", Path: "nginx"}, "docker.io/library/nginx"},

		{"a prefix chooses", Address{Host: ip, Prefix: "quay.io", Path: "a/b"}, "quay.io/a/b"},
		{"a prefix may hold the start of the name", Address{Host: ip, Prefix: "docker.io/library", Path: "nginx"}, "docker.io/library/nginx"},
		{"library is added after a prefix", Address{Host: ip, Prefix: "docker.io", Path: "nginx"}, "docker.io/library/nginx"},
		{"a prefix may be an alias", Address{Host: ip, Prefix: "k8s.gcr.io", Path: "pause"}, "registry.k8s.io/pause"},
		{"prefix and path make an alias together", Address{Host: ip, Prefix: "gcr.io/google_containers", Path: "pause"}, "gcr.io/google-containers/pause"},
		{"an arbitrary prefix with ns is ignored", Address{Host: ip, Prefix: "x", NS: "docker.io", Path: "library/nginx"}, "docker.io/library/nginx"},
		{"an arbitrary prefix without ns is refused", Address{Host: ip, Prefix: "x", Path: "library/nginx"}, "!DENIED before /v2/"},
		{"a prefix wins over the host", Address{Host: "quay.mirror.example.com", Prefix: "gcr.io", Path: "a/b"}, "gcr.io/a/b"},

		{"ns chooses", Address{Host: ip, NS: "quay.io", Path: "a/b"}, "quay.io/a/b"},
		{"ns may be an alias", Address{Host: ip, NS: "registry-1.docker.io", Path: "library/nginx"}, "docker.io/library/nginx"},
		{"ns repeated in the path is dropped", Address{Host: ip, NS: "docker.io", Path: "docker.io/library/nginx"}, "docker.io/library/nginx"},
		{"ns repeated under its alias is dropped", Address{Host: ip, NS: "registry-1.docker.io", Path: "docker.io/library/nginx"}, "docker.io/library/nginx"},
		{"ns is dropped from the path once", Address{Host: ip, NS: "quay.io", Path: "quay.io/quay.io/a"}, "quay.io/quay.io/a"},
		{"ns wins over the host", Address{Host: "quay.mirror.example.com", NS: "gcr.io", Path: "a/b"}, "gcr.io/a/b"},
		{"ns wins over the prefix with all its components", Address{Host: ip, Prefix: "quay.io/team", NS: "gcr.io", Path: "a/b"}, "gcr.io/a/b"},
		{"ns equal to the prefix keeps its components", Address{Host: ip, Prefix: "docker.io/library", NS: "registry-1.docker.io", Path: "nginx"}, "docker.io/library/nginx"},
		{"unknown ns loses to the host", Address{Host: "quay.mirror.example.com", NS: "foo.example", Path: "a/b"}, "quay.io/a/b"},
		{"unknown ns loses to the prefix", Address{Host: ip, Prefix: "quay.io", NS: "foo.example", Path: "a/b"}, "quay.io/a/b"},
		{"unknown ns loses to a registry in the path", Address{Host: ip, NS: "foo.example", Path: "quay.io/a/b"}, "quay.io/a/b"},
		{"unknown ns is refused otherwise", Address{Host: ip, NS: "foo.example", Path: "a/b"}, `!DENIED upstreams: {"foo.example": {}}`},
		{"unknown ns repeated in the path is refused", Address{Host: ip, NS: "foo.example", Path: "foo.example/a/b"}, "!DENIED foo.example"},
		{"ns that is no name is invalid", Address{Host: ip, NS: "a b", Path: "a/b"}, "!NAME_INVALID"},
		{"ns that is this mirror says nothing", Address{Host: ip, NS: ip, Path: "docker.io/nginx"}, "docker.io/library/nginx"},
		{"ns that is the domain says nothing", Address{Host: "10.0.0.1:80", NS: "mirror.example.com:443", Path: "nginx"}, "docker.io/library/nginx"},

		{"the first path element chooses", Address{Host: ip, Path: "quay.io/a/b"}, "quay.io/a/b"},
		{"library is added after the first path element", Address{Host: ip, Path: "docker.io/nginx"}, "docker.io/library/nginx"},
		{"the first path element may be an alias", Address{Host: ip, Path: "index.docker.io/nginx"}, "docker.io/library/nginx"},
		{"the first path element may have a port", Address{Host: ip, Path: "registry.corp:5000/a"}, "registry.corp:5000/a"},
		{"an upstream without a dot is known in the path", Address{Host: ip, Path: "harbor/a/b"}, "harbor/a/b"},
		{"an alias without a dot is known in the path", Address{Host: ip, Path: "corp/a/b"}, "registry.corp:5000/a/b"},
		{"an unknown registry in the path is refused", Address{Host: ip, Path: "foo.example/a"}, `!DENIED --upstream foo.example=URL`},
		{"localhost in the path is a registry", Address{Host: ip, Path: "localhost/a"}, "!DENIED localhost"},
		{"an address in the path is a registry", Address{Host: ip, Path: "10.0.0.1:5000/a"}, "!DENIED 10.0.0.1:5000"},

		{"an alias of a path moves it", Address{Host: ip, Path: "old.example/team/a"}, "quay.io/team-archive/a"},
		{"the longest alias is applied", Address{Host: ip, Path: "old.example/team/special/a"}, "gcr.io/special/a"},
		{"an alias of a path ends at a component", Address{Host: ip, Path: "old.example/teammate/a"}, "!DENIED old.example"},

		{"kubeadm leaves the folder of CoreDNS out", Address{Host: ip, Path: "registry.k8s.io/coredns"}, "registry.k8s.io/coredns/coredns"},
		{"under an alias as well", Address{Host: ip, Path: "k8s.gcr.io/coredns"}, "registry.k8s.io/coredns/coredns"},
		{"CoreDNS keeps the folder that it has", Address{Host: ip, Path: "registry.k8s.io/coredns/coredns"}, "registry.k8s.io/coredns/coredns"},
		{"no other registry has such a folder", Address{Host: ip, Path: "quay.io/coredns"}, "quay.io/coredns"},

		{"dots are no path", Address{Host: ip, Path: "../etc/passwd"}, "!NAME_INVALID"},
		{"dots inside are no path", Address{Host: ip, Path: "quay.io/../a"}, "!NAME_INVALID"},
		{"an empty name is invalid", Address{Host: ip}, "!NAME_INVALID"},
		{"a doubled slash is invalid", Address{Host: ip, Path: "library//nginx"}, "!NAME_INVALID"},
		{"an encoded slash is invalid", Address{Host: ip, Path: "library%2Fnginx"}, "!NAME_INVALID"},
		{"a NUL is invalid", Address{Host: ip, Path: "nginx\x00"}, "!NAME_INVALID"},
		{"an upper-case name is invalid", Address{Host: ip, Path: "Nginx"}, "!NAME_INVALID"},
		{"a name beyond 255 bytes is invalid", Address{Host: ip, Path: "a/" + strings.Repeat("b", 260)}, "!NAME_INVALID"},
		{"a registry alone is a name on the default", Address{Host: ip, Path: "quay.io"}, "docker.io/library/quay.io"},
	})
}

func TestRepositoryWithoutDomain(t *testing.T) {
	n := newNames(t, func(o *Options) { o.Domain = "" })
	checkAddresses(t, n, []addressCase{
		{"the first label chooses", Address{Host: "quay.localhost:5000", Path: "a/b"}, "quay.io/a/b"},
		{"a full name at the start chooses", Address{Host: "docker.elastic.co.localhost:5000", Path: "a/b"}, "docker.elastic.co/a/b"},
		{"a registry in the path wins", Address{Host: "quay.localhost:5000", Path: "docker.io/nginx"}, "docker.io/library/nginx"},
		{"an unknown first label says nothing", Address{Host: "mirror.localhost:5000", Path: "nginx"}, "docker.io/library/nginx"},
		{"a host of one label says nothing", Address{Host: "quay:5000", Path: "nginx"}, "docker.io/library/nginx"},
		{"an address says nothing", Address{Host: "[::1]:5000", Path: "nginx"}, "docker.io/library/nginx"},
		{"no host says nothing", Address{Path: "nginx"}, "docker.io/library/nginx"},
	})
}

func TestRepositoryOfAnOpenMirror(t *testing.T) {
	n := newNames(t, func(o *Options) { o.Open = true })
	const ip = "127.0.0.1:5000"
	checkAddresses(t, n, []addressCase{
		{"an unknown public name is allowed", Address{Host: ip, Path: "foo.example/a"}, "foo.example/a"},
		{"an unknown ns is allowed", Address{Host: ip, NS: "foo.example", Path: "a"}, "foo.example/a"},
		{"an unknown prefix is allowed", Address{Host: ip, Prefix: "foo.example", Path: "a"}, "foo.example/a"},
		{"an unknown name below the domain is allowed", Address{Host: "foo.example.mirror.example.com", Path: "a"}, "foo.example/a"},
		{"a registry in the path wins over an unknown ns", Address{Host: ip, NS: "foo.example", Path: "quay.io/a"}, "quay.io/a"},
		{"an address is refused", Address{Host: ip, Path: "10.0.0.1/a"}, "!DENIED 10.0.0.1"},
		{"an IPv6 address is refused", Address{Host: ip, NS: "[::1]:5000", Path: "a"}, "!DENIED"},
		{"an abbreviated address is refused", Address{Host: ip, Path: "127.1/a"}, "!DENIED"},
		{"localhost is refused", Address{Host: ip, Path: "localhost:5000/a"}, "!DENIED"},
		{"a name below localhost is refused", Address{Host: ip, Path: "x.localhost/a"}, "!DENIED"},
		{"a name without a dot is refused", Address{Host: ip, Path: "intranet:5000/a"}, "!DENIED"},
		{"a configured name without a dot is allowed", Address{Host: ip, Path: "harbor/a"}, "harbor/a"},
	})
}

func TestAnUpstreamWinsOverItsAlias(t *testing.T) {
	n := newNames(t, func(o *Options) {
		o.Upstreams = append(o.Upstreams, Upstream{Registry: registry(t, "k8s.gcr.io")})
	})
	checkAddresses(t, n, []addressCase{
		{"the upstream is chosen", Address{Path: "k8s.gcr.io/pause"}, "k8s.gcr.io/pause"},
	})
}

func TestAnotherDefaultGetsNoLibrary(t *testing.T) {
	n := newNames(t, func(o *Options) { o.Default = registry(t, "harbor") })
	checkAddresses(t, n, []addressCase{
		{"a bare name is the default's", Address{Path: "nginx"}, "harbor/nginx"},
	})
}

func TestNewRefuses(t *testing.T) {
	for fact, change := range map[string]func(*Options){
		"a label claimed twice":      func(o *Options) { o.Upstreams[1].Hosts = []string{"docker"} },
		"an upstream given twice":    func(o *Options) { o.Upstreams[1].Registry = oci.DockerHub },
		"an upstream without a name": func(o *Options) { o.Upstreams[1].Registry = oci.Registry{} },
		"a default not served":       func(o *Options) { o.Default = registry(t, "foo.example") },
		"an alias of no name":        func(o *Options) { o.Aliases["a b"] = "quay.io" },
		"an alias to no name":        func(o *Options) { o.Aliases["foo.example"] = "quay.io/A" },
	} {
		t.Run(fact, func(t *testing.T) {
			o := options(t)
			change(&o)
			if _, err := New(o); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

func TestRegistriesAreSorted(t *testing.T) {
	var got []string
	for _, r := range newNames(t, nil).Registries() {
		got = append(got, r.String())
	}
	const want = "docker.elastic.co docker.io gcr.io harbor quay.io registry.corp:5000 registry.k8s.io"
	if s := strings.Join(got, " "); s != want {
		t.Fatalf("got %s, want %s", s, want)
	}
}

func TestRefusalsAreShortAndPrintable(t *testing.T) {
	long := strings.Repeat("x\x1b\n", 1000)
	n := newNames(t, nil)
	for _, a := range []Address{
		{Host: long + ".mirror.example.com", Path: "a"}, {Prefix: long, Path: "a"}, {NS: long, Path: "a"}, {Path: long}, {Path: "a." + long + "/x"},
	} {
		_, err := n.Repository(a)
		if err == nil || len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("got %v", err)
		}
	}
}

// A request for a warm blob passes here, so that choosing must stay cheap.
func BenchmarkRepository(b *testing.B) {
	n := newNames(b, nil)
	a := Address{Host: "mirror.example.com", Path: "docker.io/library/nginx"}
	for b.Loop() {
		if _, err := n.Repository(a); err != nil {
			b.Fatal(err)
		}
	}
}
