package main

import (
	"strings"
	"testing"

	"sampan/internal/oci"
)

// What a person types is for images: nobody pulls a signature.
func TestWhatIsTypedToPullACopy(t *testing.T) {
	hex := strings.Repeat("a", 64)
	for source, want := range map[string]string{
		"nginx:1":                            "docker pull HOST/x\ndocker tag HOST/x nginx:1\n",
		"quay.io/a/b:1@sha256:" + hex:        "docker pull HOST/x\ndocker tag HOST/x quay.io/a/b:1\n",
		"quay.io/a/b@sha256:" + hex:          "docker pull HOST/x\n",
		"quay.io/a/b:sha256-" + hex + ".sig": "",
		"quay.io/a/b:sha256-" + hex:          "",
		"quay.io/a/b:sha256-" + hex[1:]:      "docker pull HOST/x\ndocker tag HOST/x quay.io/a/b:sha256-" + hex[1:] + "\n",
		"quay.io/a/b:1-alpine":               "docker pull HOST/x\ndocker tag HOST/x quay.io/a/b:1-alpine\n",
	} {
		ref, err := oci.ParseReference(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := commands(ref, "HOST/x"); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}
