package main

import (
	"os"
	"strings"
)

// text returns the sentence in the language of the environment: Chinese when
// LC_ALL, LC_MESSAGES or LANG, the first that is set, says so.
func text(english, chinese string) string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			if strings.HasPrefix(v, "zh") {
				return chinese
			}
			return english
		}
	}
	return english
}
