package oci

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	godigest "github.com/opencontainers/go-digest"
)

func TestParseDigestRefuses(t *testing.T) {
	hex64 := strings.Repeat("a", 64)
	for fact, s := range map[string]string{
		"nothing":              "",
		"no algorithm":         hex64,
		"an empty algorithm":   ":" + hex64,
		"md5":                  "md5:" + strings.Repeat("a", 32),
		"sha384":               "sha384:" + strings.Repeat("a", 96),
		"too few digits":       "sha256:" + hex64[1:],
		"too many digits":      "sha256:a" + hex64,
		"sha512 with 64":       "sha512:" + hex64,
		"upper-case digits":    "sha256:" + strings.ToUpper(hex64),
		"upper-case algorithm": "SHA256:" + hex64,
		"other letters":        "sha256:" + strings.Repeat("g", 64),
		"a path":               "sha256:../" + hex64[3:],
		"a newline at the end": "sha256:" + hex64 + "\n",
		"a space before":       " sha256:" + hex64,
	} {
		t.Run(fact, func(t *testing.T) {
			if d, err := ParseDigest(s); CodeOf(err) != CodeDigestInvalid {
				t.Errorf("got %v, %v", d, err)
			}
		})
	}
}

func TestADigestKnowsItsContent(t *testing.T) {
	content := "the cargo"
	sum := sha512.Sum512([]byte(content))
	for _, d := range []Digest{DigestOf([]byte(content)), MustParseDigest("sha512:" + hex.EncodeToString(sum[:]))} {
		h := d.Hash()
		_, _ = io.WriteString(h, content)
		if !d.Matches(h) || !d.Verify([]byte(content)) || d.Verify([]byte("the corgo")) || d.String() != d.Algorithm()+":"+d.Hex() {
			t.Errorf("%s does not match", d)
		}
		if ok, err := d.VerifyReader(strings.NewReader(content)); !ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
		if ok, err := d.VerifyReader(strings.NewReader(content + "!")); ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
		broken := errors.New("broken")
		if ok, err := d.VerifyReader(iotest.ErrReader(broken)); ok || !errors.Is(err, broken) {
			t.Errorf("got %v, %v", ok, err)
		}
	}
}

func TestADigestIsTextInJSON(t *testing.T) {
	d := DigestOf(nil)
	text, err := json.Marshal(d)
	if err != nil || string(text) != `"`+d.String()+`"` {
		t.Fatalf("got %s, %v", text, err)
	}
	var back Digest
	if err := json.Unmarshal(text, &back); err != nil || back != d {
		t.Errorf("got %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`""`), &back); err != nil || !back.IsZero() {
		t.Errorf("empty text is not the zero value: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`"sha256:x"`), &back); err == nil {
		t.Error("accepted")
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(zeroDigest)
	f.Add("sha512:" + strings.Repeat("0", 128))
	f.Add("sha384:" + strings.Repeat("0", 96))
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		want := godigest.Digest(s).Validate() == nil && (strings.HasPrefix(s, "sha256:") || strings.HasPrefix(s, "sha512:"))
		if (err == nil) != want {
			t.Fatalf("%q: got %v, the library says %v", s, err, want)
		}
		if err != nil {
			if CodeOf(err) != CodeDigestInvalid {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if d.String() != s || d.Algorithm()+":"+d.Hex() != s || d.Hash().Size()*2 != len(d.Hex()) {
			t.Fatalf("%q became %v", s, d)
		}
	})
}

func BenchmarkParseDigest(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseDigest(zeroDigest); err != nil {
			b.Fatal(err)
		}
	}
}

// What is recognized without the library is what the library recognizes.
func TestShortWayOfSHA256AgreesWithTheLibrary(t *testing.T) {
	hex64 := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{
		"sha256:" + hex64, "sha256:" + hex64[1:], "sha256:" + hex64 + "0", "sha256:" + hex64[1:] + "g", "sha256:" + hex64[1:] + "A",
		"sha256:" + hex64[1:] + "/", "sha256:" + hex64[1:] + ":", "sha256:" + hex64[1:] + "`", "sha256" + hex64, "SHA256:" + hex64, "sha256:", "",
	} {
		_, err := ParseDigest(s)
		if want := godigest.Digest(s).Validate(); (err == nil) != (want == nil) {
			t.Errorf("%q: %v, and the library says %v", s, err, want)
		}
	}
}
