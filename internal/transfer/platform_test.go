package transfer

import (
	"testing"

	"sampan/internal/oci"
)

func TestPlatformsAreRead(t *testing.T) {
	for s, want := range map[string]string{
		"linux/arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "Linux/x86_64": "linux/amd64", "arm64": "linux/arm64",
		"linux/arm/v7": "linux/arm/v7", "": "", "a/b/c/d": "", "linux/": "", "linux/a b": "", "/": "",
	} {
		p, err := ParsePlatform(s)
		if (err != nil) != (want == "") || err == nil && p.String() != want {
			t.Errorf("%q: got %s, %v", s, p, err)
		}
	}
	arm := Platform{OS: "linux", Architecture: "arm"}
	if !arm.Matches(&oci.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}) || arm.Matches(nil) || arm.Matches(&oci.Platform{OS: "linux", Architecture: "arm64"}) {
		t.Error("a platform without a variant matches each of its variants, and nothing else")
	}
}

func FuzzParsePlatform(f *testing.F) {
	for _, s := range []string{"linux/arm64/v8", "amd64", "//", "\x00/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlatform(s)
		if err != nil {
			return
		}
		again, err := ParsePlatform(p.String())
		if err != nil || again != p {
			t.Errorf("%q became %s, and that %s, %v", s, p, again, err)
		}
	})
}
