package dockerfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sampan/internal/rewrite/dockerfile"
)

// In these tables the images to be found stand between « and »; what is reported stands between ‹ and ›.
func marked(t *testing.T, text string) (src string, spans, finds []string) {
	t.Helper()
	var b strings.Builder
	var open []int
	for i, r := range text {
		switch r {
		case '«', '‹':
			open = append(open, b.Len(), i)
		case '»':
			spans = append(spans, fmt.Sprintf("%d-%d", open[0], b.Len()))
			open = nil
		case '›':
			finds = append(finds, fmt.Sprintf("%d-%d", open[0], b.Len()))
			open = nil
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), spans, finds
}

func TestImagesAreFoundWhereTheyAreNamed(t *testing.T) {
	for name, text := range map[string]string{
		"FROM names one":                         "FROM «nginx»\n",
		"with tag and digest":                    "FROM «quay.io/a/b:1@sha256:0123456789012345678901234567890123456789012345678901234567890123»\n",
		"with a platform":                        "FROM --platform=$BUILDPLATFORM «golang:1.26»  AS build\n",
		"in any case of letters":                 "from «nginx» as x\n",
		"at the end of the file":                 "FROM «nginx»",
		"with lines that end in CR LF":           "FROM «nginx»\r\nRUN x\r\nFROM «alpine»\r\n",
		"after a byte order mark":                "\ufeffFROM «nginx»\n",
		"in quotes":                              "FROM \"«nginx:1»\"\n",
		"with letters of the world before it":    "LABEL a=\"镜像\"\nFROM «nginx»\n",
		"scratch is none":                        "FROM scratch\nCOPY --from=«busybox» /bin /bin\n",
		"stages are none":                        "FROM «nginx» AS Web\nFROM web\nCOPY --from=WEB /a /b\nRUN --mount=from=web,target=/x y\n",
		"a stage that comes later is none yet":   "FROM «base»\nFROM «nginx» AS base\nFROM base\n",
		"a stage may be called like its image":   "FROM «golang» AS golang\nFROM golang\n",
		"numbers are stages":                     "FROM «nginx»\nFROM «alpine»\nCOPY --from=0 /a /b\n",
		"COPY has flags in any order":            "FROM «a»\nCOPY --chown=1:1 --from=«ghcr.io/x/y:1» --link /a /b\n",
		"COPY may be in JSON form":               "FROM «a»\nCOPY --from=«b» [\"--from=c\", \"/x\"]\n",
		"COPY --from in quotes":                  "FROM «a»\nCOPY --from=\"«b»\" /a /b\n",
		"ADD has no such flag":                   "FROM «a»\nADD --from=b /a /b\n",
		"RUN mounts several":                     "FROM «a»\nRUN --mount=type=cache,target=/c --mount=type=bind,from=«b:1»,target=/x --mount=From=«c»,target=/y true\n",
		"a command may say the same":             "FROM «a»\nRUN --mount=from=«b»,target=/x echo --mount=from=c,target=/x\n",
		"ONBUILD too":                            "FROM «a»\nONBUILD COPY --from=«b/c» /a /b\nONBUILD RUN --mount=from=«d:1»,target=/x y\n",
		"instructions go on in further lines":    "FROM \\\n  --platform=linux/amd64 \\\n# why\n\n  «nginx:1» \\\n  AS x\n",
		"an escape of another kind":              "# escape=`\nFROM `\n  «nginx»\nCOPY --from=«a» C:\\x\\ D:\\\nFROM «b»\n",
		"documents within are left":              "FROM «a»\nCOPY <<EOF /Dockerfile\nFROM nginx\nEOF\nRUN <<-X cat\n\tFROM nginx\n\tX\nFROM «b»\n",
		"comments are left":                      "# FROM nginx\nFROM «a»\n# COPY --from=b\n",
		"the frontend is one":                    "# syntax=«docker/dockerfile:1»\nFROM «a»\n",
		"the frontend with much space":           "#  Syntax =  «docker/dockerfile:1.7-labs»  \r\nFROM «a»\n",
		"a frontend too late is a comment":       "FROM «a»\n# syntax=docker/dockerfile:1\n",
		"a frontend alone":                       "# syntax=«docker/dockerfile:1»\n",
		"the frontend after another directive":   "# escape=`\n# syntax=«docker/dockerfile:1»\nFROM «a»\n",
		"the default of an argument":             "ARG BASE=«nginx:1»\nFROM ${BASE}\n",
		"of one without braces, in quotes":       "ARG BASE=\"«nginx:1»\"\nFROM $BASE AS x\n",
		"of one among several":                   "ARG A=1 BASE=«nginx:1» C=2\nFROM $BASE\n",
		"of one used twice":                      "ARG BASE=«nginx:1»\nFROM $BASE AS x\nFROM $BASE\n",
		"of one whose tag is another":            "ARG V=1\nARG BASE=«golang»:${V}\nFROM $BASE\n",
		"of one by way of another":               "ARG A=«nginx»\nARG B=$A\nFROM $B\n",
		"of one that FROM adds a tag to":         "ARG BASE=«nginx»\nARG V=1\nFROM ${BASE}:${V}\n",
		"of one that FROM adds to the tag of":    "ARG BASE=«nginx:1»\nARG V=x\nFROM ${BASE}-${V}\n",
		"an argument that is the tag":            "ARG V=1\nFROM «golang»:${V}-alpine\n",
		"an argument in the tag, and no default": "FROM «registry.k8s.io:443/a/b»:v$V\n",
		"an argument that is the digest":         "ARG D\nFROM «quay.io/a/b»@$D\n",
		"a tag and an argument for the digest":   "ARG D\nFROM «quay.io/a/b»:1@$D\n",
		"what stands for an argument not given":  "FROM ${BASE:-«nginx:1»}\n",
		"both, where one is declared":            "ARG BASE=«alpine»\nFROM ${BASE:-«nginx:1»}\n",
		"stages by pattern are none":             "FROM «a» AS build-arm64\nFROM «b» AS build-amd64\nFROM build-${TARGETARCH}\n",
		"an argument that names a stage":         "ARG W=dev\nFROM «a» AS dev\nFROM ${W}\n",
		"substitutions of any kind in the tag":   "ARG V=1.26.1\nFROM «golang»:${V%.*}-alpine\n",
		"and in the path":                        "ARG V=a\nFROM «quay.io/»${V#x}/y\n",
		"with more than values in the pattern":   "FROM «a» AS build-linux-debug\nFROM build-$TARGETOS${DEBUG:+-debug}\n",
		"those of the platforms are none":        "FROM «a» AS linux\nFROM ${TARGETOS}\n",
		"the registry that an argument gives":    "ARG REGISTRY=«docker.io»\nARG V=1\nFROM ${REGISTRY}/library/nginx:$V\nFROM $REGISTRY/a/b AS x\n",
		"the registry that stands for one":       "FROM ${REGISTRY:-«docker.io»}/library/nginx\nFROM ${REGISTRY-«quay.io/a»}/b:1\n",
		"the same, where nothing is given":       "ARG REGISTRY\nFROM ${REGISTRY:-«docker.io»}/library/nginx\n",
		"both, of a registry":                    "ARG REGISTRY=«quay.io»\nFROM ${REGISTRY:-«docker.io»}/a/b\n",
		"by way of another":                      "ARG R=«quay.io/a»\nARG B=$R/b:1\nFROM $B\n",
		"an argument within a stage is its own":  "ARG BASE=«nginx»\nFROM $BASE\nARG BASE=other\n",
		"an argument declared again is the same": "ARG BASE=«nginx»\nARG BASE\nFROM $BASE\n",
		"of the last default":                    "ARG BASE=x/y\nARG BASE=«nginx»\nFROM $BASE\n",
		"no file":                                "",
		"comments alone":                         "# a\n\n#b",

		"an argument without a default":            "ARG BASE\nFROM ‹${BASE}›\n",
		"an argument that nobody declares":         "FROM ‹$BASE›\n",
		"an argument without default before it":    "ARG REGISTRY\nFROM ‹$REGISTRY/nginx:1›\n",
		"an argument that is a namespace":          "ARG TEAM=bitnami\nFROM ‹$TEAM/nginx:1›\n",
		"a namespace that stands for one":          "FROM ‹${TEAM:-library}/nginx›\nFROM ‹${REGISTRY:-docker.io/}nginx/x›\n",
		"a registry that stands for a namespace":   "ARG TEAM=bitnami\nFROM ‹${TEAM:-quay.io}/nginx›\n",
		"one that is a registry, and a piece":      "ARG R=quay.io\nFROM ‹$R/a/b›\nFROM «a/b»:$R\n",
		"stages may be given by another argument":  "FROM «a» AS linux\nFROM ‹$OS›\n",
		"one that is a name and a registry":        "ARG X=nginx\nFROM ‹$X›\nFROM «a/»$X\n",
		"arguments side by side":                   "ARG A=quay.io\nARG B=/x/y\nFROM ‹$A$B›\n",
		"an argument in the first part":            "FROM ‹nginx$X›\n",
		"a default that changed after it was used": "ARG A=nginx\nARG B=$A\nARG A=alpine\nFROM ‹$B›\n",
		"a default that a stage sees":              "ARG BASE=nginx\nFROM ‹$BASE›\nARG BASE\nRUN echo $BASE\n",
		"substitutions that change what is there":  "ARG BASE=nginx\nFROM ‹${BASE%x}›\nFROM ‹${BASE:+a}›\nFROM ‹${BASE/a/b}›\nFROM ‹${BASE:-${X}}›\n",
		"names over lines":                         "FROM ‹ngi\\\nnx›\n",
		"escapes in names":                         "FROM ‹ngi\\nx›\n",
		"quotes in names":                          "FROM ‹ng\"in\"x›\n",
		"templates":                                "FROM ‹{{.Image}}›\nFROM ‹%%BASE%%›\n",
		"arguments in COPY":                        "FROM «a»\nCOPY --from=‹$X› /a /b\n",
		"stages of somebody else":                  "FROM «a»\nONBUILD COPY --from=‹build› /a /b\n",
		"an argument around itself":                "ARG A=$A\nFROM ‹$A›\n",
		"the port of a registry":                   "FROM ‹localhost:$PORT/x›\n",
		"a tag that has a slash":                   "ARG R=5000/x\nFROM ‹localhost:$R›\n",
	} {
		t.Run(name, func(t *testing.T) {
			src, wantSpans, wantFinds := marked(t, text)
			spans, finds, err := dockerfile.Images([]byte(src))
			if err != nil {
				t.Fatal(err)
			}
			var gotSpans, gotFinds []string
			for _, s := range spans {
				gotSpans = append(gotSpans, fmt.Sprintf("%d-%d", s.Start, s.End))
				if s.Rest == "" && src[s.Start:s.End] != s.Name {
					t.Errorf("%q is called %q", src[s.Start:s.End], s.Name)
				}
			}
			for _, f := range finds {
				gotFinds = append(gotFinds, fmt.Sprintf("%d-%d", f.Start, f.End))
			}
			if !slices.Equal(gotSpans, wantSpans) || !slices.Equal(gotFinds, wantFinds) {
				t.Errorf("found %v, reported %v (%v)\nwant  %v, reported %v in\n%s", gotSpans, gotFinds, finds, wantSpans, wantFinds, text)
			}
		})
	}
}

// What replaces a span is the new name less what follows in the file.
func TestArgumentsInPathsAreKept(t *testing.T) {
	for text, want := range map[string]string{
		"FROM quay.io/${TEAM}/app:1":                   "FROM mirror/quay.io/${TEAM}/app:1",
		"ARG TEAM=web\nFROM quay.io/${TEAM}/app:1":     "ARG TEAM=web\nFROM mirror/quay.io/${TEAM}/app:1",
		"FROM quay.io/a/app-${ARCH}":                   "FROM mirror/quay.io/a/app-${ARCH}",
		"FROM a/${B}":                                  "FROM mirror/docker.io/a/${B}",
		"ARG B=quay.io/a/b\nFROM ${B}-slim:1":          "ARG B=mirror/quay.io/a/b\nFROM ${B}-slim:1",
		"ARG V=1\nARG B=golang:${V}\nFROM ${B}-alpine": "ARG V=1\nARG B=mirror/docker.io/library/golang:${V}\nFROM ${B}-alpine",
		"FROM golang:1":                                "FROM mirror/docker.io/library/golang:1",
	} {
		if got := replaced(t, []byte(text), rename); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
		if back := replaced(t, []byte(want), original); back != text {
			t.Errorf("%q came back as %q, want %q", want, back, text)
		}
	}
}

func TestANewNameThatGoesOnOtherwiseIsNone(t *testing.T) {
	spans, _, err := dockerfile.Images([]byte("FROM quay.io/${TEAM}/app:1"))
	if err != nil || len(spans) != 1 {
		t.Fatal(spans, err)
	}
	flat := func(name string) (string, error) { return strings.ReplaceAll(name, "/", "-"), nil }
	if text, ok, err := spans[0].Replacement(flat); ok || err != nil {
		t.Errorf("got %q, %v, %v", text, ok, err)
	}
	no := errors.New("no")
	if _, ok, err := spans[0].Replacement(func(string) (string, error) { return "", no }); ok || !errors.Is(err, no) {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestWhatCannotBeReadSaysWhere(t *testing.T) {
	_, _, err := dockerfile.Images([]byte("FROM a\nRUN <<EOF\nx\n"))
	var syntax *dockerfile.SyntaxError
	if !errors.As(err, &syntax) || syntax.Line != 2 {
		t.Errorf("got %v", err)
	}
}

func TestReasonsAreSaidInTwoLanguages(t *testing.T) {
	for r := dockerfile.NoDefault; r <= dockerfile.Unplaced; r++ {
		chinese := r.Text(func(_, chinese string) string { return chinese })
		if strings.HasPrefix(r.String(), "reason ") || chinese == r.String() || chinese == "" {
			t.Errorf("%d is %q and %q", int(r), r, chinese)
		}
	}
}

func rename(name string) (string, error) {
	first, _, slash := strings.Cut(name, "/")
	switch {
	case !slash && strings.Contains(name, "."): // a prefix
	case !slash:
		return "mirror/docker.io/library/" + name, nil
	case !strings.ContainsAny(first, ".:"):
		return "mirror/docker.io/" + name, nil
	}
	return "mirror/" + name, nil
}

func original(name string) (string, error) {
	name = strings.TrimPrefix(name, "mirror/")
	name = strings.TrimPrefix(name, "docker.io/")
	return strings.TrimPrefix(name, "library/"), nil
}

// replaced replaces all spans, and checks that they are in order.
func replaced(t *testing.T, src []byte, rename func(string) (string, error)) string {
	t.Helper()
	spans, finds, err := dockerfile.Images(src)
	if err != nil {
		return string(src)
	}
	var out bytes.Buffer
	done := 0
	for _, s := range spans {
		if s.Start < done || s.End <= s.Start || s.End > len(src) {
			t.Fatalf("%+v after %d in %d bytes", s, done, len(src))
		}
		if !strings.HasPrefix(s.Name, string(src[s.Start:s.End])) || s.Name != string(src[s.Start:s.End])+s.Rest {
			t.Fatalf("%+v stands for %q", s, src[s.Start:s.End])
		}
		text, ok, err := s.Replacement(rename)
		if !ok || err != nil {
			text = string(src[s.Start:s.End])
		}
		out.Write(src[done:s.Start])
		out.WriteString(text)
		done = s.End
	}
	out.Write(src[done:])
	for _, f := range finds {
		if f.Start < 0 || f.End < f.Start || f.End > len(src) {
			t.Fatalf("%+v in %d bytes", f, len(src))
		}
	}
	return out.String()
}
