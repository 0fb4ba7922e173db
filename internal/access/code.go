package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"strings"
	"time"

	"sampan/internal/follow"
)

// MinCode is the least length of an access code, in characters: 16 of the 32 that
// base32 has are 80 bits, more than anybody can try over a network.
const MinCode = 16

// ValidCode tells whether s can be an access code: one label of a host name, in
// lower case, of at least [MinCode] characters.
func ValidCode(s string) bool {
	return len(s) >= MinCode && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// A Code is a word in the host name that tells who a client is:
// CODE.mirror.example.com. Docker sends no password to a mirror; a host name is all
// it can be told.
type Code struct {
	// Name is what the code is called in logs and rules.
	Name string
	// Code is the word. Where File is set, it is what that said when the
	// configuration was read.
	Code string
	// File has the code in it and is read again when it changes; empty for none. The
	// code of an empty file is nobody's.
	File string
	// Expires ends it; zero is never.
	Expires time.Time
}

// codes finds the code of a host name.
type codes struct {
	list []code
}

type code struct {
	Code
	file *follow.File[string] // nil without
}

func newCodes(list []Code, log *slog.Logger) *codes {
	c := &codes{}
	for _, one := range list {
		k := code{Code: one}
		if one.File != "" {
			k.file = follow.Revocable(one.File, one.Code, log)
		}
		c.list = append(c.list, k)
	}
	return c
}

// cut takes a code off the front of a host name. What it takes time for is the same
// for every word: each code is compared by its hash.
func (c *codes) cut(host string) (rest, name string, ok bool) {
	word, rest, dotted := strings.Cut(host, ".")
	if len(c.list) == 0 || !dotted {
		return host, "", false
	}
	got := sha256.Sum256([]byte(strings.ToLower(word)))
	now := time.Now()
	for _, k := range c.list {
		text := k.Code.Code
		if k.file != nil {
			var err error
			if text, err = k.file.Get(false); err != nil {
				continue // it has told the log
			}
		}
		want := sha256.Sum256([]byte(text))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 && ValidCode(text) && (k.Expires.IsZero() || now.Before(k.Expires)) {
			name, ok = k.Name, true
		}
	}
	if !ok {
		return host, "", false
	}
	return rest, name, true
}
