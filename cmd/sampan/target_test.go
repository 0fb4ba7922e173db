package main

import (
	"strings"
	"testing"
)

// What is wrong with a place is told as it is: a path can be too long for its registry
// alone.
func TestAPlaceThatIsTooLongIsToldSo(t *testing.T) {
	for _, path := range []string{strings.Repeat("a", 300), strings.Repeat("a/", 122) + "a"} {
		_, err := parseTarget("DST", "registry.example.com/"+path+"/")
		if err == nil || !strings.Contains(err.Error(), "at most 255 characters") {
			t.Errorf("%d characters: %v", len(path), err)
		}
	}
}
