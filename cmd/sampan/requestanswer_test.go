package main

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/oci"
)

// Images come from registries that the owners list, and never from the one whose password
// the run has: it may open private images there.
func TestRequestsReadOnlyFromListedRegistries(t *testing.T) {
	const atTarget, notListed = "is at the registry that copies go to", "is at a registry that COPY_SOURCES does not list"
	for _, c := range []struct{ target, sources, image, reason string }{
		{"registry.example.com/team/", "", "nginx", ""},
		{"registry.example.com/team/", "", "mcr.microsoft.com/a/b", ""},
		{"registry.example.com/team/", "", "localhost/a/b", notListed},
		{"registry.example.com/team/", "", "localhost:5000/a/b", notListed},
		{"registry.example.com/team/", "", "169.254.169.254/latest/meta-data", notListed},
		{"registry.example.com/team/", "", "quay.io:443/a/b", notListed},
		{"registry.example.com/team/", "", "quay.io.example.com/a/b", notListed},
		{"registry.example.com/team/", "", "uay.io/a/b", notListed},
		{"registry.example.com/team/", "", "registry.example.com/private/a", atTarget},
		{"registry.example.com/team/", "*", "registry.example.com/private/a", atTarget},
		{"registry.example.com/team/", "*", "localhost:5000/a/b", ""},
		{"registry.example.com/team/", "quay.io localhost:5000", "localhost:5000/a/b", ""},
		{"registry.example.com/team/", "quay.io localhost:5000", "nginx", notListed},
		{"docker.io/me/", "", "quay.io/a/b", ""},
		{"docker.io/me/", "", "nginx", atTarget},
		{"docker.io/me/", "*", "me/private", atTarget},
		{"docker.io/me/", "*", "docker.io/me/private", atTarget},
		{"docker.io/me/", "*", "index.docker.io/me/private", atTarget},
		{"index.docker.io/me/", "*", "me/private", atTarget},
		{"localhost:5000/", "*", "localhost:5000/a", atTarget},
	} {
		t.Run(c.target+" "+c.image, func(t *testing.T) {
			r := newRequest(t).images(c.image)
			r.env["COPY_TARGET"], r.env["COPY_SOURCES"] = c.target, c.sources
			to, err := parseTarget("DST", c.target)
			ref, refErr := oci.ParseReference(c.image)
			if err != nil || refErr != nil || (ref.Repository.Registry() == to.registry) != (c.reason == atTarget) {
				t.Errorf("sampan reads %v from %v and writes to %v: %v %v", c.image, ref.Repository.Registry(), to.registry, err, refErr)
			}
			if c.reason != "" {
				r.wantRefused(t, c.reason)
				return
			}
			r.wantCopied(t, []string{"--flatten"}, c.image)
		})
	}
}

func TestRequestsNeedATarget(t *testing.T) {
	for _, target := range []string{"", "registry.example.com", "registry.example.com/a", "registry.example.com/a/ --all-tags/", "--x/", "$(id)/", "registry.example.com//", "registry.example.com/\n/"} {
		r := newRequest(t).images("quay.io/a/b")
		r.env["COPY_TARGET"] = target
		r.wantRefused(t, "The variable COPY_TARGET of this repository has to name a place")
	}
}

// The password is in the file that Docker has it in, for the target alone, readable by
// nobody else; neither arguments nor environment of sampan hold it.
func TestThePasswordIsForTheTargetAlone(t *testing.T) {
	for target, registry := range map[string]string{"registry.example.com:5000/team/": "registry.example.com:5000", "docker.io/me/": "docker.io"} {
		r := newRequest(t).images("quay.io/a/b")
		const password = `p"a\s$(id)'s` + "`w`"
		r.env["COPY_TARGET"], r.env["COPY_USERNAME"], r.env["COPY_PASSWORD"] = target, "robot$x", password
		r.wantCopied(t, []string{"--flatten"}, "quay.io/a/b")
		want := `{"auths":{"` + registry + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("robot$x:"+password)) + `"}}}` + "\n"
		if got := r.read(t, "login"); got != want {
			t.Errorf("the login is %q, want %q", got, want)
		}
		if got := r.read(t, "modes"); got != "700\n600\n" {
			t.Errorf("the modes of its folder and file are %q", got)
		}
		for _, file := range []string{"argv", "environ", "output", "summary"} {
			if strings.Contains(r.read(t, file), password) {
				t.Errorf("%s holds the password", file)
			}
		}
	}
	r := newRequest(t).images("quay.io/a/b")
	r.wantCopied(t, []string{"--flatten"}, "quay.io/a/b")
	if got := r.read(t, "login"); got != "" {
		t.Errorf("without a user there is the login %q", got)
	}
}

// What registries say is told in a block that it cannot leave, and none of it is a command
// to the runner.
func TestHostileAnswersOfRegistriesAreText(t *testing.T) {
	r := newRequest(t).images("quay.io/a/b")
	r.write(t, "stdout", "docker pull registry.example.com/team/a.b:latest\n")
	r.write(t, "stderr", "b 123456789abc  10 B  copied\nsampan: copy quay.io/a/b:latest: it said: ```\n````\n~~~\n</code></pre> @everyone\n"+
		"::set-env name=PATH::/tmp\n::stop-commands::x\n##[add-mask]x\nanswer<<EOF\nEOF\n"+
		"\x1b[31mred\x07\x00\r\u202eback\u2066\u200b\ufeff\U000e0041\u0085\xff中文\n"+strings.Repeat("x", 2000)+"\n"+strings.Repeat("::warning::more\n", 1000)+"no end of line")
	r.write(t, "status", "1")
	answer, log, ok := r.run(t)
	if ok {
		t.Error("it says that all went well")
	}
	blocks := regexp.MustCompile("(?s)^[^`]*\n```sh\n([^`]*)```\n[^`]*\n```text\n([^`]*)```$").FindStringSubmatch(answer)
	if blocks == nil {
		t.Fatalf("the blocks of the answer can be left: %q", answer)
	}
	if blocks[1] != "docker pull registry.example.com/team/a.b:latest\n" {
		t.Errorf("the commands are %q", blocks[1])
	}
	said := blocks[2]
	for _, want := range []string{"sampan: copy quay.io/a/b:latest: it said: '''\n", "\n[31mredback中文\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("it lacks %q: %q", want, said)
		}
	}
	if strings.Contains(said, "copied") || strings.Count(said, "\n") > 60 || len(said) > 8000 || strings.Contains(said, strings.Repeat("x", 801)) {
		t.Errorf("progress is part of the answer, or it is long: %d bytes", len(said))
	}
	stopped := regexp.MustCompile(`(?s)^::stop-commands::([0-9a-f]{32})\n(.*)\n::([0-9a-f]{32})::\n$`).FindStringSubmatch(log)
	if stopped == nil || stopped[1] != stopped[3] || strings.Contains(stopped[2], stopped[1]) || !strings.Contains(stopped[2], "::warning::more") {
		t.Errorf("the runner may take lines of the log for commands: %.300q", log)
	}
	if len(answer) > 65000 {
		t.Errorf("a comment has room for 65536 characters, not %d", len(answer))
	}
}

// The longest answer fits into a comment.
func TestTheLongestAnswerFitsIntoAComment(t *testing.T) {
	digest := oci.DigestOf([]byte("x")).String()
	var names, lines []string
	for i := range 30 {
		name := "quay.io/" + strings.Repeat(string(rune('a'+i%26)), 240-i) + ":" + strings.Repeat("t", 128) + "@" + digest
		names = append(names, name)
		at := "registry.example.com/" + strings.Repeat("x", 234) + ":" + strings.Repeat("t", 128)
		lines = append(lines, "docker pull "+at, "docker tag "+at+" "+strings.TrimSuffix(name, "@"+digest))
	}
	r := newRequest(t).images(strings.Join(names, " "))
	r.write(t, "stdout", strings.Join(lines, "\n")+"\n")
	r.write(t, "stderr", "sampan: "+strings.Repeat(strings.Repeat("x", 2000)+"\n", 1000))
	r.write(t, "status", "1")
	answer, _, _ := r.run(t)
	if !strings.Contains(answer, strings.Join(lines, "\n")+"\n```") {
		t.Errorf("commands are missing: %q", answer)
	}
	if len(answer) > 65000 || strings.Count(answer, "```") != 4 {
		t.Errorf("%d bytes", len(answer))
	}
}

// The answer is in the language that the owners chose; so is what sampan says.
func TestRequestsAreAnsweredInChinese(t *testing.T) {
	r := newRequest(t).images("quay.io/a/b")
	r.env["COPY_LANG"] = "zh_CN.UTF-8"
	r.write(t, "status", "1")
	r.write(t, "stderr", "sampan: 找不到\n")
	answer, _, _ := r.run(t)
	for _, want := range []string{"已复制。", "```sh\ndocker pull x\n```", "未能全部复制。", "```text\nsampan: 找不到\n```"} {
		if !strings.Contains(answer, want) {
			t.Errorf("it lacks %q: %s", want, answer)
		}
	}
	if !strings.Contains(r.read(t, "environ"), "LC_ALL=zh_CN.UTF-8\x00") {
		t.Error("sampan speaks another language")
	}
	r = newRequest(t).images("Nginx")
	r.env["COPY_LANG"] = "zh_CN.UTF-8"
	if answer, _, ok := r.run(t); ok || !strings.HasPrefix(answer, "镜像的第 1 行不是镜像名。\n\n没有复制任何内容。") {
		t.Errorf("the answer is %q", answer)
	}
}
