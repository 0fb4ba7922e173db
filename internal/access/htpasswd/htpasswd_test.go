package htpasswd_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sampan/internal/access/htpasswd"
)

// Made with htpasswd -nbB -C 4 u secret, and with
// argon2 somesalt -id -t 1 -k 64 -p 1 -l 32 -e.
const (
	bcryptSecret = "$2y$04$101ct2wkhY./8w25tM79v.C22CHpt/ID83i8CPzE7s/I6xZUCZnnK"
	argonSum     = "4mqQiyq0VpIzuZmp+8eSF3YJ7Av58TkEJ4LIdOVsAc4"
)

func TestPasswordsAreChecked(t *testing.T) {
	for name, hash := range map[string]string{
		"bcrypt":   bcryptSecret,
		"argon2id": "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + argonSum,
	} {
		h, err := htpasswd.ParseHash(hash)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !h.Verify("secret") {
			t.Errorf("%s: the right password is refused", name)
		}
		for _, wrong := range []string{"", "Secret", "secret ", "secre"} {
			if h.Verify(wrong) {
				t.Errorf("%s: %q is taken for the password", name, wrong)
			}
		}
		if s := fmt.Sprintf("%v %+v %#v", h, h, h); strings.Contains(s, "$") {
			t.Errorf("%s prints as %s", name, s)
		}
	}
	if (htpasswd.Hash{}).Verify("") {
		t.Error("no hash takes an empty password")
	}
}

func TestHashesThatAreNotSafeAreRefused(t *testing.T) {
	for hash, want := range map[string]error{
		"secret":                                htpasswd.ErrWeak,
		"$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/": htpasswd.ErrWeak,
		"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=":     htpasswd.ErrWeak,
		"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjlO/O817G3uBnIFNjnQJu": htpasswd.ErrWeak,
		"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + argonSum:                   htpasswd.ErrWeak,
		"$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$" + argonSum:                  htpasswd.ErrHash,
		"$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$" + argonSum:             htpasswd.ErrHash,
		"$argon2id$v=19$m=64,t=99,p=1$c29tZXNhbHQ$" + argonSum:                 htpasswd.ErrHash,
		"$argon2id$v=19$m=64,t=1,p=0$c29tZXNhbHQ$" + argonSum:                  htpasswd.ErrHash,
		"$argon2id$v=19$m=64,t=1,p=1,x=1$c29tZXNhbHQ$" + argonSum:              htpasswd.ErrHash,
		"$argon2id$v=19$m=64,t=1,p=1$c29t$" + argonSum:                         htpasswd.ErrHash,
		"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$":                             htpasswd.ErrHash,
		strings.Replace(bcryptSecret, "$04$", "$31$", 1):                       htpasswd.ErrHash,
		bcryptSecret[:50]: htpasswd.ErrHash,
		"$2":              htpasswd.ErrHash,
	} {
		if _, err := htpasswd.ParseHash(hash); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", hash, err, want)
		}
	}
}

func TestAFileNamesItsBadLineAndNotWhatIsInIt(t *testing.T) {
	users, err := htpasswd.Parse([]byte("# people\n\nalice:" + bcryptSecret + "\r\nbob:" + bcryptSecret))
	if err != nil || len(users) != 2 || !users["bob"].Verify("secret") || !users["alice"].Verify("secret") {
		t.Errorf("%v, %v", users, err)
	}
	for text, line := range map[string]int{
		"alice":                 1,
		"\nalice:geheim":        2,
		":" + bcryptSecret:      1,
		"a b:" + bcryptSecret:   1,
		"a\x00:" + bcryptSecret: 1,
		"a:" + bcryptSecret + "\na:" + bcryptSecret: 2,
	} {
		_, err := htpasswd.Parse([]byte(text))
		var e *htpasswd.Error
		if !errors.As(err, &e) || e.Line != line || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("alice:" + bcryptSecret))
	f.Add([]byte("bob:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + argonSum))
	f.Fuzz(func(t *testing.T, text []byte) {
		users, err := htpasswd.Parse(text)
		if (err == nil) != (users != nil) {
			t.Errorf("%v, %v", users, err)
		}
		for name, h := range users {
			again, err := htpasswd.Parse([]byte(name + ":" + h.Text()))
			if err != nil || again[name] != h {
				t.Errorf("%q does not come back: %v", name, err)
			}
		}
	})
}
