//go:build e2e

package e2e

import (
	"net/url"
	"strings"
	"testing"
)

// A state of the page: what is asked for, how it is answered, and what a person
// reads then in either language.
type pageState struct {
	name, image      string
	status           int64
	selector         string
	english, chinese string
}

func pageStates() []pageState {
	digest := "sha256:" + strings.Repeat("ab", 32)
	return []pageState{
		{"start", "", 200, "h1", "Pull any container image", "拉取任意容器镜像"},
		{"image", "nginx:alpine", 200, "#here", "nginx:alpine at this mirror", "nginx:alpine 在本站的名称"},
		{"command", "docker pull k8s.gcr.io/pause:3.1", 200, ".note", "another name of registry.k8s.io/pause:3.1", "registry.k8s.io/pause:3.1 的别名"},
		{"digest", "quay.io/team/app:v1@" + digest, 200, "#name-path", "@" + digest, "@" + digest},
		{"reversed", mirrorDomain + "/quay.io/team/app:v1", 200, ".note", "name at this mirror", "本站的镜像名称"},
		{"case", "Nginx", 400, "#problem", "lower case", "小写"},
		{"nonsense", "what is this?", 400, "#problem", "not the name of an image", "不是镜像名称"},
		{"unknown", "registry.example.org/a/b", 404, "#problem", "is not served", "本站不提供"},
	}
}

// Every state of the page, as everybody may look at it.
func TestBrowserPage(t *testing.T) {
	m := startMirror(t, options{})
	base := "http://" + strings.Replace(m.address, "127.0.0.1", mirrorDomain, 1) + "/"
	b := startBrowser(t)
	for _, state := range pageStates() {
		for _, l := range looks() {
			t.Run(state.name+"/"+l.String(), func(t *testing.T) {
				target := base
				if state.image != "" {
					target += "?image=" + url.QueryEscape(state.image)
				}
				p := b.open(t, l, target)
				p.wantStatus(t, state.status)
				p.wantSound(t)
				want := state.english
				if l.lang != "" {
					want = state.chinese
				}
				if got := p.text(t, state.selector); !strings.Contains(got, want) {
					t.Errorf("%s says %q, want %q in it", state.selector, got, want)
				}
				p.shot(t, "page-"+state.name+"-"+l.String())
			})
		}
	}
}
