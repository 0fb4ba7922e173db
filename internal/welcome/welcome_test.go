package welcome

import (
	"encoding/json"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/pelletier/go-toml/v2"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

func registry(t testing.TB, name string) oci.Registry {
	t.Helper()
	r, err := oci.ParseRegistry(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newPage is a page of a mirror with a few registries; the operator's domain may be
// empty.
func newPage(t testing.TB, domain string) *Page {
	t.Helper()
	o := mirror.Options{Domain: domain, Aliases: map[string]string{"k8s.gcr.io": "registry.k8s.io"}, HideHosts: true}
	var told []Upstream
	for _, u := range []struct {
		name, label string
		state       State
	}{{"docker.io", "docker", Good}, {"quay.io", "quay", Failing}, {"registry.k8s.io", "k8s", Slow}, {"registry.corp:5000", "corp", Good}, {"10.0.0.7:5000", "", Good}} {
		o.Upstreams = append(o.Upstreams, mirror.Upstream{Registry: registry(t, u.name), Hosts: strings.Fields(u.label)})
		told = append(told, Upstream{registry(t, u.name), u.state})
	}
	names, err := mirror.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Names: names, Domain: domain, Upstreams: func() []Upstream { return told }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A visit is how somebody opens the page.
type visit struct {
	host   string // of the request; empty is localhost:5000
	bare   string // without the code; empty is host
	secure bool
	image  string
	lang   string
}

func open(t testing.TB, p *Page, v visit) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(oci.WithTrace(t.Context(), &oci.Trace{Secure: v.secure}), http.MethodGet, "/?image="+url.QueryEscape(v.image), nil)
	r.Header.Set("Accept-Language", v.lang)
	if r.Host = v.host; v.host == "" {
		r.Host = "localhost:5000"
	}
	if v.bare == "" {
		v.bare = r.Host
	}
	w := httptest.NewRecorder()
	p.Serve(w, r, v.bare)
	return w
}

// answerTo is what the page would show.
func answerTo(p *Page, v visit) *answer {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(oci.WithTrace(r.Context(), &oci.Trace{Secure: v.secure}))
	if r.Host = v.host; v.host == "" {
		r.Host = "localhost:5000"
	}
	if v.bare == "" {
		v.bare = r.Host
	}
	return p.answer(placeOf(r, v.bare, p.o.Domain), v.image)
}

func TestWhateverIsPastedIsUnderstood(t *testing.T) {
	p := newPage(t, "mirror.example.com")
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct{ pasted, want string }{
		{"nginx", "docker.io/library/nginx:latest"},
		{"  nginx:alpine\n", "docker.io/library/nginx:alpine"},
		{`"nginx"`, "docker.io/library/nginx:latest"},
		{"grafana/grafana:11.0.0", "docker.io/grafana/grafana:11.0.0"},
		{"quay.io/team/app@" + digest, "quay.io/team/app@" + digest},
		{"quay.io/team/app:v1@" + digest, "quay.io/team/app:v1@" + digest},
		{"k8s.gcr.io/pause:3.1", "registry.k8s.io/pause:3.1"},
		{"docker pull nginx", "docker.io/library/nginx:latest"},
		{"$ sudo docker pull --platform linux/arm64 -q quay.io/a/b:1", "quay.io/a/b:1"},
		{"docker image pull nginx:1", "docker.io/library/nginx:1"},
		{"docker run -it --rm -p 80:80 -e A=b --name web nginx:1 sh -c 'x'", "docker.io/library/nginx:1"},
		{"docker run -dit --network=host nginx:1", "docker.io/library/nginx:1"},
		{"podman pull docker://quay.io/a/b", "quay.io/a/b:latest"},
		{"skopeo inspect docker://nginx", "docker.io/library/nginx:latest"},
		{"ctr images pull --hosts-dir /etc/containerd/certs.d docker.io/library/nginx:1", "docker.io/library/nginx:1"},
		{"crictl pull nginx", "docker.io/library/nginx:latest"},
		{"helm pull oci://quay.io/charts/x --version 1.0.0", "quay.io/charts/x:latest"},
		{"FROM --platform=$BUILDPLATFORM nginx:1 AS build", "docker.io/library/nginx:1"},
		{"from nginx", "docker.io/library/nginx:latest"},
		{"image: 'quay.io/a/b:2'", "quay.io/a/b:2"},
		{"- image: quay.io/a/b:2", "quay.io/a/b:2"},
		{"https://hub.docker.com/_/nginx", "docker.io/library/nginx:latest"},
		{"https://hub.docker.com/r/grafana/grafana/tags", "docker.io/grafana/grafana:latest"},
		{"https://quay.io/repository/team/app?tab=tags", "quay.io/team/app:latest"},
		{"mirror.example.com/quay.io/team/app:1", "quay.io/team/app:1"},
		{"quay.mirror.example.com:8443/team/app:1", "quay.io/team/app:1"},
		{"localhost:5000/quay.io/team/app:1", "quay.io/team/app:1"},
		{"localhost:5000/nginx", "docker.io/library/nginx:latest"},
		{"registry.corp:5000/team/app:1", "registry.corp:5000/team/app:1"},
	} {
		a := answerTo(p, visit{host: "mirror.example.com:5000", image: c.pasted})
		if a.Problem != nil || a.Image == nil || a.Image.Reference.String() != c.want {
			t.Errorf("%q: %+v, want %s", c.pasted, a.Image, c.want)
		}
	}
}

func TestWhatIsWrongIsExplained(t *testing.T) {
	p := newPage(t, "mirror.example.com")
	for _, c := range []struct {
		pasted, key, meant string
		status             int
	}{
		{"Nginx", "bad.case", "nginx", http.StatusBadRequest},
		{"quay.io/Team/App:V1", "bad.case", "quay.io/team/app:V1", http.StatusBadRequest},
		{"what is this?", "bad.name", "", http.StatusBadRequest},
		{"nginx:" + strings.Repeat("x", 129), "bad.name", "", http.StatusBadRequest},
		{"nginx@sha256:123", "bad.name", "", http.StatusBadRequest},
		{"docker pull", "bad.name", "", http.StatusBadRequest},
		{strings.Repeat("x", maxInput+1), "bad.long", "", http.StatusBadRequest},
		{"registry.example.org/a/b", "bad.registry", "", http.StatusNotFound},
		{"nowhere.mirror.example.com/a/b", "bad.host", "", http.StatusNotFound},
		{"10.0.0.7:5000/a", "bad.unnameable", "", http.StatusBadRequest},
	} {
		a := answerTo(p, visit{image: c.pasted})
		if a.Problem == nil || a.Image != nil {
			t.Errorf("%.40q: no problem", c.pasted)
			continue
		}
		if a.Problem.Key != c.key || a.Problem.Meant != c.meant || a.Problem.status != c.status {
			t.Errorf("%.40q: %+v", c.pasted, a.Problem)
		}
		for lang, words := range map[string]string{"en": "", "zh": "的"} {
			w := open(t, p, visit{image: c.pasted, lang: lang})
			if w.Code != c.status || !strings.Contains(w.Body.String(), `role="alert"`) || !strings.Contains(w.Body.String(), words) {
				t.Errorf("%.40q in %s: %d", c.pasted, lang, w.Code)
			}
		}
	}
}

// The names are those that the visitor can use, wherever it came in.
func TestTheMirrorIsNamedAsTheVisitorDoes(t *testing.T) {
	const image = "quay.io/team/app:1"
	const code = "k3v9x2m7q1w8e5r4."
	for _, c := range []struct {
		name, domain string
		visit        visit
		path, host   string
		url          string
	}{
		{"this machine", "", visit{}, "localhost:5000/quay.io/team/app:1", "", "http://localhost:5000"},
		{"an address", "", visit{host: "192.0.2.1:5000"}, "192.0.2.1:5000/quay.io/team/app:1", "", "http://192.0.2.1:5000"},
		{"IPv6", "", visit{host: "[2001:db8::1]:5000"}, "[2001:db8::1]:5000/quay.io/team/app:1", "", "http://[2001:db8::1]:5000"},
		{"the domain", "m.example", visit{host: "m.example", secure: true}, "m.example/quay.io/team/app:1", "quay.m.example/team/app:1", "https://m.example"},
		{"capitals", "m.example", visit{host: "M.Example:443", secure: true}, "m.example:443/quay.io/team/app:1", "quay.m.example:443/team/app:1", "https://m.example:443"},
		{"a name of a registry", "m.example", visit{host: "docker.m.example:8443", secure: true}, "m.example:8443/quay.io/team/app:1", "quay.m.example:8443/team/app:1", "https://m.example:8443"},
		{"a short name", "", visit{host: "mirror"}, "mirror:80/quay.io/team/app:1", "", "http://mirror:80"},
		{"another name", "m.example", visit{host: "192.0.2.1:5000"}, "192.0.2.1:5000/quay.io/team/app:1", "quay.192.0.2.1", "http://192.0.2.1:5000"},
		{
			"with a code", "m.example",
			visit{host: code + "m.example", bare: "m.example", secure: true},
			code + "m.example/quay.io/team/app:1", "", "https://" + code + "m.example",
		},
		{
			"with a code and a registry", "m.example",
			visit{host: code + "docker.m.example:8443", bare: "docker.m.example:8443", secure: true},
			code + "m.example:8443/quay.io/team/app:1", "", "https://" + code + "m.example:8443",
		},
		{"no host", "", visit{host: " ", bare: " "}, "localhost/quay.io/team/app:1", "", "http://localhost"},
		{"a host of nonsense", "m.example", visit{host: `"><script>`, bare: `"><script>`}, "m.example/quay.io/team/app:1", "quay.m.example/team/app:1", "http://m.example"},
	} {
		c.visit.image = image
		p := newPage(t, c.domain)
		a := answerTo(p, c.visit)
		if a.Image == nil {
			t.Errorf("%s: %+v", c.name, a.Problem)
			continue
		}
		if c.name == "another name" {
			c.host = a.Image.Host // no name below an address
		}
		if a.Image.Path != c.path || a.Image.Host != c.host || a.URL != c.url {
			t.Errorf("%s: %q, %q, %q", c.name, a.Image.Path, a.Image.Host, a.URL)
		}
		// And back again, as this visitor would paste it.
		for _, pasted := range []string{a.Image.Path, a.Image.Host} {
			v := c.visit
			if v.image = pasted; pasted == "" {
				continue
			}
			if back := answerTo(p, v); back.Image == nil || !back.Image.Reversed || back.Image.Reference != a.Image.Reference {
				t.Errorf("%s: %s leads to %+v, %+v", c.name, pasted, back.Image, back.Problem)
			}
		}
	}
}

// A code is the visitor's own and is shown in what the visitor has to write. Nobody
// else's page has one, and no link repeats one.
func TestCodesAreInNoLink(t *testing.T) {
	const code = "k3v9x2m7q1w8e5r4"
	p := newPage(t, "m.example")
	w := open(t, p, visit{host: code + ".m.example", bare: "m.example", image: code + ".m.example/quay.io/team/app:1"})
	body := w.Body.String()
	if !strings.Contains(body, "<code>"+code+".m.example/quay.io/team/app:1</code>") {
		t.Errorf("no name that the visitor can use:\n%s", body)
	}
	for _, link := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if strings.HasPrefix(link[1], "http") || strings.HasPrefix(link[1], "//") {
			t.Errorf("a link away: %s", link[1])
		}
	}
	if w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Error("the address would be told in the Referer")
	}
	if body := open(t, p, visit{host: "m.example", image: "nginx"}).Body.String(); strings.Contains(body, code) {
		t.Error("another visitor sees the code")
	}
}

// All that is on the page, with everything that somebody may write.
func TestNothingThatIsWrittenBecomesMarkup(t *testing.T) {
	p := newPage(t, "m.example")
	for _, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`,
		`nginx"><svg/onload=alert(1)>`, "nginx\x00<b>", `{{.Mirror}}`, `%3Cscript%3E`, `</title><script>`, "\u2028<script>", `%!d(<i>`,
		`registry.example.org"><script>/a`,
	} {
		for _, lang := range []string{"en", "zh"} {
			for _, v := range []visit{{image: evil}, {host: evil, bare: evil, image: "nginx"}, {host: "x" + evil + ".m.example", bare: evil, image: evil}, {host: "m.example", image: "docker pull " + evil}} {
				v.lang = lang
				w := open(t, p, v)
				if w.Code >= http.StatusInternalServerError {
					t.Errorf("%q: %d", evil, w.Code)
				}
				wantInert(t, evil, w.Body.String())
			}
		}
	}
}

// wantInert fails when a page has other elements and attributes than its own.
func wantInert(t *testing.T, evil, body string) {
	t.Helper()
	values, handler := regexp.MustCompile(`"[^"]*"`), regexp.MustCompile(`\son\w+\s*=`)
	tags := regexp.MustCompile(`<([a-zA-Z!/][^>]*)>`).FindAllStringSubmatch(body, -1)
	for _, tag := range tags {
		name := strings.Fields(tag[1] + " ")[0]
		switch strings.TrimPrefix(name, "/") {
		case "svg", "b", "i", "script>", "iframe":
			t.Errorf("%q made %s", evil, tag[0])
		case "script":
			if !strings.HasPrefix(tag[1], "/script") && !strings.HasPrefix(tag[1], `script src="/-/copy.`) {
				t.Errorf("%q made %s", evil, tag[0])
			}
		case "img":
			if !strings.HasPrefix(tag[1], `img src="/-/sampan.`) {
				t.Errorf("%q made %s", evil, tag[0])
			}
		}
		if outside := values.ReplaceAllString(tag[1], `""`); handler.MatchString(outside) || strings.Contains(outside, "alert") {
			t.Errorf("%q made %s", evil, tag[0])
		}
	}
	if strings.Contains(body, `href="javascript`) {
		t.Errorf("%q made a link that runs", evil)
	}
}

// The first visit costs less than 100 KiB, all files together, and needs no script.
func TestTheFirstPageIsSmall(t *testing.T) {
	p := newPage(t, "m.example")
	for _, image := range []string{"", "nginx:alpine"} {
		w := open(t, p, visit{image: image})
		total := w.Body.Len()
		files := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?:href|src)="(/-/[^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
			files[m[1]] = true
		}
		if len(files) != 4 {
			t.Errorf("files: %v", files)
		}
		for file := range files {
			f := httptest.NewRecorder()
			p.Serve(f, httptest.NewRequest(http.MethodGet, file, nil), "m.example")
			if f.Code != http.StatusOK {
				t.Errorf("%s: %d", file, f.Code)
			}
			total += f.Body.Len()
		}
		const most = 100 << 10
		if total > most {
			t.Errorf("image %q: %d bytes", image, total)
		}
		t.Logf("image %q: %d bytes in %d files", image, total, len(files)+1)
	}
}

// What is told of registries, and what is not.
func TestStatesAreTold(t *testing.T) {
	p := newPage(t, "")
	body := open(t, p, visit{}).Body.String()
	for registry, state := range map[string]string{"docker.io": "no trouble", "quay.io": "no answer", "registry.k8s.io": "slow"} {
		if !regexp.MustCompile(`<th scope="row">` + registry + `</th><td><span class="badge \w*">` + state).MatchString(body) {
			t.Errorf("%s is not told to be %q:\n%s", registry, state, body)
		}
	}
	for image, want := range map[string]string{"quay.io/a/b": "quay.io gives no answer at the moment", "registry.k8s.io/pause": "registry.k8s.io is slow"} {
		if body := open(t, p, visit{image: image}).Body.String(); !strings.Contains(body, want) {
			t.Errorf("%s: no %q", image, want)
		}
	}
}

// shown are the blocks of code of a page, as a person would copy them, by the file
// above each.
func shown(t *testing.T, body string) map[string][]string {
	t.Helper()
	blocks := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?s)<div class="code">\s*(?:<p class="file">.*?<code>(.*?)</code></p>)?\s*<pre id="[\w-]+" tabindex="0"><code>(.*?)</code></pre>`).FindAllStringSubmatch(body, -1) {
		blocks[html.UnescapeString(m[1])] = append(blocks[html.UnescapeString(m[1])], html.UnescapeString(m[2]))
	}
	if len(blocks) == 0 {
		t.Fatalf("no code on the page:\n%s", body)
	}
	return blocks
}

// Every file on the page is one to its own parser and says what it should.
func TestFilesParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, v := range []visit{
		{},
		{host: "m.example", secure: true},
		{host: "m.example:5000"},
		{image: "nginx:alpine"},
		{host: "m.example", secure: true, image: "nginx:alpine"},
		{host: "m.example:5000", image: "nginx:alpine"},
		{image: "quay.io/team/7zip_x.y:v1@" + digest},
		{host: "m.example", secure: true, image: "k8s.gcr.io/pause:3.1"},
		{image: "registry.corp:5000/team/app:1", host: "m.example"},
	} {
		p := newPage(t, "m.example")
		parsed := 0
		for file, texts := range shown(t, open(t, p, v).Body.String()) {
			for _, text := range texts {
				var into map[string]any
				var err error
				switch {
				case strings.HasSuffix(file, ".json"):
					err = json.Unmarshal([]byte(text), &into)
				case strings.HasSuffix(file, ".yaml"), strings.HasPrefix(text, "apiVersion:"):
					err = yaml.UnmarshalWithOptions([]byte(text), &into, yaml.Strict())
				case strings.HasSuffix(file, ".toml"), strings.HasSuffix(file, ".conf"):
					err = toml.Unmarshal([]byte(text), &into)
				default:
					continue
				}
				if err != nil || len(into) == 0 {
					t.Errorf("%s for %+v: %v\n%s", file, v, err, text)
				}
				parsed++
			}
		}
		if parsed < 5 {
			t.Errorf("%+v: only %d files were parsed", v, parsed)
		}
	}
}

// Whatever is pasted, wherever: the page answers, and a name that it shows leads back.
func FuzzPaste(f *testing.F) {
	for _, seed := range []string{"nginx", "docker run -it nginx", "FROM a/b:c", "image:", "- image:", "https://hub.docker.com/_/", "oci://x", "$ sudo", "k3v9x2m7q1w8e5r4.m.example/a", "[::1]:5/a/b", "a@sha256:", "Ünï/Çode"} {
		f.Add(seed, "m.example:8443")
		f.Add("quay.io/a/b:1", seed)
	}
	p := newPage(f, "m.example")
	f.Fuzz(func(t *testing.T, image, host string) {
		if len(image) > 4<<10 || len(host) > 4<<10 {
			return
		}
		for _, v := range []visit{{host: host, image: image}, {host: "k3v9x2m7q1w8e5r4." + host, bare: host, image: image, secure: true}} {
			w := open(t, p, v)
			if w.Code >= http.StatusInternalServerError {
				t.Fatalf("%d", w.Code)
			}
			a := answerTo(p, v)
			if a.Image == nil {
				continue
			}
			v.image = a.Image.Name()
			if back := answerTo(p, v); back.Image == nil || back.Image.Reference.String() != a.Image.Reference.String() {
				t.Errorf("%q at %q is %s, which is %+v", image, host, a.Image.Name(), back.Image)
			}
		}
	})
}
