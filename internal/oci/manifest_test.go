package oci

import (
	"strings"
	"testing"
)

// graph describes a manifest in short: kinds and the last digit of digests.
func graph(t *testing.T, text string) (string, error) {
	t.Helper()
	text = strings.ReplaceAll(text, "'", `"`)
	for _, n := range "123456" {
		text = strings.ReplaceAll(text, "#"+string(n), "sha256:"+strings.Repeat("0", 63)+string(n))
	}
	g, err := Manifest{Descriptor: Descriptor{Digest: DigestOf([]byte(text))}, Bytes: []byte(text)}.Graph()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	list := func(kind string, ds ...Descriptor) {
		for _, d := range ds {
			if !d.Digest.IsZero() {
				b.WriteString(kind + d.Digest.Hex()[63:] + " ")
			}
		}
	}
	list("manifest", g.Manifests...)
	list("blob", g.Blobs...)
	list("subject", g.Subject)
	if g.ArtifactType != "" {
		b.WriteString("type " + g.ArtifactType + " ")
	}
	return strings.TrimSpace(b.String()), nil
}

func TestGraph(t *testing.T) {
	for _, c := range []struct{ fact, in, want string }{
		{"an image has its config and layers", `{'config':{'mediaType':'c/t','digest':'#1','size':1},'layers':[{'digest':'#2'},{'digest':'#3'}]}`, "blob1 blob2 blob3 type c/t"},
		{"an index has its manifests", `{'manifests':[{'digest':'#1'},{'digest':'#2'}]}`, "manifest1 manifest2"},
		{"an artifact manifest has its blobs", `{'artifactType':'a/t','blobs':[{'digest':'#1'}]}`, "blob1 type a/t"},
		{"its own artifact type comes before the config's", `{'artifactType':'a/t','config':{'mediaType':'c/t','digest':'#1'}}`, "blob1 type a/t"},
		{"a subject is no blob", `{'config':{'digest':'#1'},'layers':[],'subject':{'digest':'#2'}}`, "blob1 subject2"},
		{"Docker schema 1 has its layers", `{'fsLayers':[{'blobSum':'#1'},{'blobSum':'#2'}]}`, "blob1 blob2"},
		{"nothing is nothing", `{}`, ""},
		{"null is absent", `{'config':null,'layers':null,'manifests':null,'subject':null}`, ""},
		{"a subject without digest is none", `{'subject':{}}`, ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			if got, err := graph(t, c.in); err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestGraphRefuses(t *testing.T) {
	for fact, in := range map[string]string{
		"no JSON":                    `<html>`,
		"nothing":                    ``,
		"JSON of another kind":       `[1]`,
		"a layer without digest":     `{'layers':[{'size':1}]}`,
		"a config without digest":    `{'config':{}}`,
		"a manifest without digest":  `{'manifests':[{}]}`,
		"a schema 1 layer without":   `{'fsLayers':[{}]}`,
		"a digest that is none":      `{'layers':[{'digest':'sha256:x'}]}`,
		"a digest that is a path":    `{'layers':[{'digest':'../../etc/passwd'}]}`,
		"a size that is negative":    `{'layers':[{'digest':'#1','size':-1}]}`,
		"a size that is no number":   `{'layers':[{'digest':'#1','size':'1'}]}`,
		"something after the end":    `{} {}`,
		"a subject of negative size": `{'subject':{'digest':'#1','size':-5}}`,
	} {
		t.Run(fact, func(t *testing.T) {
			if got, err := graph(t, in); CodeOf(err) != CodeManifestInvalid {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestManifestTypes(t *testing.T) {
	for _, s := range []string{MediaTypeImageIndex, MediaTypeImageManifest, MediaTypeDockerList, MediaTypeDockerManifest, MediaTypeDockerSchema1JWS} {
		if !IsManifestType(s) {
			t.Errorf("%s is none", s)
		}
	}
	for _, s := range []string{"", "text/html", "application/octet-stream", MediaTypeImageManifest + "; charset=utf-8"} {
		if IsManifestType(s) {
			t.Errorf("%q is one", s)
		}
	}
}

func FuzzGraph(f *testing.F) {
	f.Add([]byte(`{"config":{"digest":"` + zeroDigest + `","size":3},"layers":[{"digest":"` + zeroDigest + `"}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"` + zeroDigest + `","platform":{"os":"linux"}}],"annotations":{"a":"b"}}`))
	f.Add([]byte(`{"fsLayers":[{"blobSum":"` + zeroDigest + `"}]}`))
	f.Add([]byte(`{"config":null,"layers":[null],"subject":{"size":-1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Manifest{Bytes: b}.Graph()
		if err != nil {
			if CodeOf(err) != CodeManifestInvalid {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		for _, d := range append(g.Manifests, g.Blobs...) {
			if d.Digest.IsZero() || d.Size < -1 {
				t.Fatalf("invalid descriptor %+v", d)
			}
		}
	})
}
