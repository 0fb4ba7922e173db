package sampan_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The threats' tests exist, in both languages alike; each row of a table names one.
func TestThreatsHaveTheirTests(t *testing.T) {
	exists := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	walk(t, func(file string) {
		if !strings.HasSuffix(file, "_test.go") {
			return
		}
		for _, found := range function.FindAllStringSubmatch(readText(t, file), -1) {
			exists[found[1]] = true
		}
	})
	name := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	var named [2][]string
	for i, file := range []string{"docs/security.md", "docs/security.zh-CN.md"} {
		for line := range strings.Lines(readText(t, file)) {
			found := name.FindAllStringSubmatch(line, -1)
			row := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---") && !strings.Contains(line, "| test |") && !strings.Contains(line, "| 测试 |")
			if row && len(found) == 0 {
				t.Errorf("%s names no test: %s", file, line)
			}
			for _, f := range found {
				named[i] = append(named[i], f[1])
				if !exists[f[1]] {
					t.Errorf("%s names %s, which does not exist", file, f[1])
				}
			}
		}
	}
	if len(named[0]) == 0 || strings.Join(named[0], " ") != strings.Join(named[1], " ") {
		t.Errorf("the pages name different tests:\n%v\n%v", named[0], named[1])
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
