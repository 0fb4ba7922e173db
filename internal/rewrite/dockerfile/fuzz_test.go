package dockerfile_test

import (
	"testing"

	"sampan/internal/rewrite/dockerfile"
)

func FuzzImages(f *testing.F) {
	for _, seed := range []string{
		"FROM nginx AS a\nCOPY --from=b:1 /a /b\nRUN --mount=type=bind,from=c,target=/x <<EOF\nx\nEOF\n",
		"# syntax=docker/dockerfile:1\n# escape=`\nARG A=1 \"B=x/y:$A\"\nFROM --platform=$P `\n ${B:-z} AS q\r\n",
		"\ufeffARG B='a'\nFROM $B\nFROM q.io/${B}/x@$D\nONBUILD COPY --from=\"x/y\" . .\n",
		"ARG A=${A:-$B}\nARG B=$A\nFROM ${A}${B}:x\nFROM b-${C} as b-1\nFROM b-$C\n",
		"#!/x\n// syntax=a\n{\"syntax\":\"b\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		same := func(name string) (string, error) { return name, nil }
		if got := replaced(t, src, same); got != string(src) {
			t.Fatalf("spans replaced by themselves: %q became %q", src, got)
		}
		renamed := replaced(t, src, rename)
		before, _, err := dockerfile.Images(src)
		if err != nil {
			return
		}
		after, _, err := dockerfile.Images([]byte(renamed))
		if err != nil {
			t.Fatalf("%q became %q: %v", src, renamed, err)
		}
		if len(before) != len(after) {
			t.Fatalf("%q has %d names, and %q has %d", src, len(before), renamed, len(after))
		}
	})
}
