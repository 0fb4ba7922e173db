package config

import (
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
)

// tagsOf describes the tags of a repository as "key=value" with what is not of
// the section tags marked by where it comes from.
func tagsOf(t *testing.T, c *Config, repository string) string {
	t.Helper()
	repo, err := oci.ParseRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	_, settings := c.TagsOf(repo)
	var list []string
	for _, s := range settings {
		text := s.Key + "=" + s.Value
		if s.From != "tags" {
			text += " (" + s.From + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}

func TestTagsAreInheritedFromRuleToUpstreamToSection(t *testing.T) {
	c := mustLoad(t, `
tags: {fresh_for: 2m, immutable: ["v[0-9]*"]}
upstreams:
  docker.io:
    tags: {stale_if_error: 7d, missing_for: 0}
    repositories:
      "library/busybox": {tags: {refresh: true}}
      "library/*": {tags: {fresh_for: 1h, immutable: ["*"], refresh: false}}
      "**": {tags: {fresh_for: 3h, stale_if_error: 0}}
  quay.io:
    repositories:
      "team/*": {tags: {immutable: []}}
`, nil)
	for repository, want := range map[string]string{
		"busybox": "fresh_for=1h0m0s (upstreams.docker.io.repositories.library/*.tags); " +
			"stale_if_error=0s (upstreams.docker.io.repositories.**.tags); missing_for=0s (upstreams.docker.io.tags); " +
			"immutable=[*] (upstreams.docker.io.repositories.library/*.tags); " +
			"refresh=true (upstreams.docker.io.repositories.library/busybox.tags)",
		"me/app": "fresh_for=3h0m0s (upstreams.docker.io.repositories.**.tags); " +
			"stale_if_error=0s (upstreams.docker.io.repositories.**.tags); missing_for=0s (upstreams.docker.io.tags); " +
			"immutable=[v[0-9]*]; refresh=false",
		"quay.io/team/tool": "fresh_for=2m0s; stale_if_error=forever; missing_for=30s; " +
			"immutable=[] (upstreams.quay.io.repositories.team/*.tags); refresh=false",
		"quay.io/other/tool":      "fresh_for=2m0s; stale_if_error=forever; missing_for=30s; immutable=[v[0-9]*]; refresh=false",
		"stranger.example/a/tool": "fresh_for=2m0s; stale_if_error=forever; missing_for=30s; immutable=[v[0-9]*]; refresh=false",
	} {
		if got := tagsOf(t, c, repository); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", repository, got, want)
		}
	}
}

// What was served once can be served again: without a setting, no age is too
// old.
func TestDefaultTagsKeepThePromiseOfStaleAnswers(t *testing.T) {
	c := mustLoad(t, "", nil)
	if c.Tags.StaleIfError != Forever || c.Tags.FreshFor != Duration(time.Minute) || c.Tags.MissingFor != Duration(30*time.Second) ||
		c.Tags.Refresh || len(c.Tags.Immutable) != 0 || c.Offline {
		t.Errorf("got %+v", c.Tags)
	}
}

func TestTagsComeFromTheEnvironmentAndOfflineFromAFlagToo(t *testing.T) {
	c := mustLoad(t, "offline: false\n", func(s *Source) {
		s.Environ = append(s.Environ, "SAMPAN_TAGS_STALE_IF_ERROR=12h", "SAMPAN_TAGS_MISSING_FOR=5s", "SAMPAN_TAGS_REFRESH=true", "SAMPAN_OFFLINE=true")
	})
	if c.Tags.StaleIfError != Duration(12*time.Hour) || c.Tags.MissingFor != Duration(5*time.Second) || !c.Tags.Refresh || !c.Offline {
		t.Errorf("got %+v, offline %v", c.Tags, c.Offline)
	}
	c = mustLoad(t, "offline: true\n", func(s *Source) { s.Flags.Offline = "false" })
	if c.Offline {
		t.Error("the flag does not win over the file")
	}
}

func TestThePageIsOnUnlessItIsTurnedOff(t *testing.T) {
	if !mustLoad(t, "", nil).Page {
		t.Error("it is off without a word")
	}
	if mustLoad(t, "page: false\n", nil).Page {
		t.Error("it is on")
	}
	if !mustLoad(t, "page: false\n", func(s *Source) { s.Environ = append(s.Environ, "SAMPAN_PAGE=true") }).Page {
		t.Error("the environment does not win over the file")
	}
	_, err := load(t, "page: off\n", nil)
	if got := problems(t, err); len(got) != 1 || !strings.HasPrefix(got[0], `1:7 page: "off" is not true or false`) {
		t.Errorf("got %v", got)
	}
}

func TestTagProblemsAreToldWithTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"tags: {stale_if_error: long}\n":              `1:24 tags.stale_if_error: "long" is not a duration such as 12h or 7d, 0, or forever`,
		"tags: {fresh_for: forever}\n":                `1:19 tags.fresh_for: "forever" is not a duration`,
		"tags: {immutable: v1}\n":                     `1:19 tags.immutable: must be a list`,
		"tags: {immutable: ['v[1']}\n":                `1:20 tags.immutable[0]: "v[1" is not a pattern of tags`,
		"tags: {immutable: [library/v1]}\n":           `1:20 tags.immutable[0]: "library/v1" is not a pattern of tags`,
		"offline: maybe\n":                            `1:10 offline: "maybe" is not true or false`,
		"upstreams: {quay.io: {tags: {fresh: 1m}}}\n": `1:30 upstreams.quay.io.tags.fresh: unknown key "fresh"`,
		"upstreams: {quay.io: {repositories: {'a/*': {tags: {refresh: maybe}}}}}\n": `1:62 upstreams.quay.io.repositories.a/*.tags.refresh: "maybe" is not true or false`,
	} {
		_, err := load(t, text, nil)
		if got := problems(t, err); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%sgot  %v\nwant %s", text, got, want)
		}
	}
}

func TestShownTagsLoadAgain(t *testing.T) {
	c := mustLoad(t, `
offline: true
tags: {fresh_for: 2m, stale_if_error: 7d, missing_for: 1s, immutable: ["[0-9]*", "{a,b}", "*", "$${x}"], refresh: true}
upstreams:
  docker.io:
    tags: {stale_if_error: forever, immutable: []}
    repositories:
      "**": {tags: {fresh_for: 1h, refresh: false}}
      "*": {}
`, nil)
	var shown strings.Builder
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, shown.String(), nil)
	var second strings.Builder
	if err := again.Show(&second); err != nil {
		t.Fatal(err)
	}
	if shown.String() != second.String() || !again.Offline {
		t.Errorf("first\n%s\nsecond\n%s", shown.String(), second.String())
	}
	for _, repository := range []string{"library/x", "quay.io/a/b"} {
		if a, b := tagsOf(t, c, repository), tagsOf(t, again, repository); a != b {
			t.Errorf("%s\nfirst  %s\nsecond %s\nshown\n%s", repository, a, b, shown.String())
		}
	}
	if p := again.Tags.Immutable; len(p) != 4 || p[3].String() != "${x}" {
		t.Errorf("patterns %v", p)
	}
}
