package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/access/htpasswd"
	"sampan/internal/follow"
	"sampan/internal/oci"
)

const (
	// Of the password "secret", made with htpasswd -nbB -C 4.
	hashOfSecret = "$2y$04$101ct2wkhY./8w25tM79v.C22CHpt/ID83i8CPzE7s/I6xZUCZnnK"
	// Of the password "other", likewise.
	hashOfOther = "$2y$04$ylyNkFg7PxFjvTCrLheSj.sruj3YiZbLVZ/ayyuddvU2vNo9nPdFi"
)

func newDirectory(t *testing.T, o DirectoryOptions) *Directory {
	t.Helper()
	if o.Key == nil {
		o.Key = bytes.Repeat([]byte("k"), MinTokenKey)
	}
	if o.Guard == nil {
		o.Guard = NewGuard()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d, err := NewDirectory(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var addr = netip.MustParseAddr("192.0.2.7")

func TestWhoHasTheRightPasswordIsKnown(t *testing.T) {
	d := newDirectory(t, DirectoryOptions{
		Users: []User{
			{Name: "ci", Password: "geheim", Groups: []string{"robots"}},
			{Name: "filed", File: write(t, "pw", "from a file\n")},
		},
		Files: []UserFile{{Path: write(t, "htpasswd", "ann:"+hashOfSecret+"\n"), Groups: []string{"people"}}},
	})
	for _, c := range []struct {
		user, password string
		strangers      bool
		want           Identity
		code           oci.Code
	}{
		{user: "ann", password: "secret", want: Identity{User: "ann", Groups: []string{"people"}}},
		{user: "ann", password: "Secret", code: oci.CodeUnauthorized},
		{user: "ann", password: "Secret", strangers: true, code: oci.CodeUnauthorized},
		{user: "ann", password: "", code: oci.CodeUnauthorized},
		{user: "ci", password: "geheim", want: Identity{User: "ci", Groups: []string{"robots"}}},
		{user: "ci", password: "geheim ", code: oci.CodeUnauthorized},
		{user: "filed", password: "from a file", want: Identity{User: "filed"}},
		{user: "bob", password: "secret", code: oci.CodeUnauthorized},
		{user: "bob", password: "secret", strangers: true, want: Identity{Login: oci.Login{Username: "bob", Password: "secret"}}},
		{user: "", password: "", want: Identity{}},
	} {
		id, err := d.Login(t.Context(), addr, oci.Login{Username: c.user, Password: c.password}, c.strangers)
		id.proof = nil
		if fmt.Sprintf("%+v", id) != fmt.Sprintf("%+v", c.want) || id.Login != c.want.Login || c.code != "" && oci.CodeOf(err) != c.code || c.code == "" && err != nil {
			t.Errorf("%s:%s: %+v, %v", c.user, c.password, id, err)
		}
		if c.code != "" && !errors.Is(err, ErrLogin) {
			t.Errorf("%s:%s: the client is not asked again: %v", c.user, c.password, err)
		}
	}
}

// Whoever a name is of, a wrong password costs one hash and is answered alike.
func TestWrongPasswordsOfEverybodyCostTheSame(t *testing.T) {
	d := newDirectory(t, DirectoryOptions{
		Users: []User{{Name: "ci", Password: "geheim"}, {Name: "filed", File: write(t, "pw", "from a file\n")}, {Name: "lost", File: "/nonexistent/pw"}},
		Files: []UserFile{{Path: write(t, "one", "ann:"+hashOfSecret+"\n")}, {Path: write(t, "two", "eve:"+hashOfOther+"\n")}},
	})
	computed := 0
	d.compute = func(h htpasswd.Hash, password string) bool {
		computed++
		return h.Verify(password)
	}
	answers, addr := map[string]bool{}, addr
	for _, name := range []string{"ann", "eve", "ci", "filed", "lost", "nobody"} {
		for _, password := range []string{"wrong", "", strings.Repeat("long", 100)} {
			computed = 0
			_, err := d.Login(t.Context(), addr, oci.Login{Username: name, Password: password}, false)
			if computed != 1 || !errors.Is(err, ErrLogin) {
				t.Errorf("%s: %d hashes were computed, %v", name, computed, err)
			}
			answers[fmt.Sprint(err)] = true
			addr = addr.Next() // nobody is slowed down here
		}
	}
	if len(answers) != 1 {
		t.Errorf("the answers are %v", answers)
	}
}

func TestATokenIsGoodForWhomItWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t, DirectoryOptions{Users: []User{{Name: "ci", Password: "geheim", Groups: []string{"robots"}}}})
		other := newDirectory(t, DirectoryOptions{Users: d.o.Users, Key: bytes.Repeat([]byte("x"), MinTokenKey)})
		replica := newDirectory(t, DirectoryOptions{Users: d.o.Users})
		for _, l := range []oci.Login{{Username: "ci", Password: "geheim"}, {Username: "stranger", Password: "pw"}, {}} {
			id, err := d.Login(t.Context(), addr, l, true)
			if err != nil {
				t.Fatal(err)
			}
			token, until, err := d.Issue(id)
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Until(until); got < TokenFor-time.Second || got > TokenFor {
				t.Errorf("good for %v", got)
			}
			if strings.Contains(token, "geheim") || l.Password != "" && strings.Contains(token, l.Password) {
				t.Error("the token tells the password")
			}
			for name, where := range map[string]*Directory{"the mirror": d, "a replica": replica} {
				got, err := where.Token(t.Context(), token)
				if err != nil || got.User != id.User || got.Login != id.Login || fmt.Sprint(got.Groups) != fmt.Sprint(id.Groups) {
					t.Errorf("%s: %+v, %v", name, got, err)
				}
			}
			if got, err := other.Token(t.Context(), token); !errors.Is(err, ErrToken) || !errors.Is(err, ErrLogin) {
				t.Errorf("a mirror with another key takes it: %+v, %v", got, err)
			}
			for i := range len(token) {
				bad := []byte(token)
				bad[i] ^= 1
				if got, err := d.Token(t.Context(), string(bad)); !errors.Is(err, ErrToken) {
					t.Fatalf("changed at %d: %+v, %v", i, got, err)
				}
			}
			time.Sleep(TokenFor)
			if got, err := d.Token(t.Context(), token); !errors.Is(err, ErrToken) {
				t.Errorf("after its time: %+v, %v", got, err)
			}
		}
	})
}

func TestWhoIsGoneOrHasAnotherPasswordIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := write(t, "htpasswd", "ann:"+hashOfSecret+"\nbob:"+hashOfSecret+"\n")
		d := newDirectory(t, DirectoryOptions{Files: []UserFile{{Path: file}}})
		tokens := make(map[string]string)
		for _, name := range []string{"ann", "bob"} {
			id, err := d.Login(t.Context(), addr, oci.Login{Username: name, Password: "secret"}, false)
			if err != nil {
				t.Fatal(err)
			}
			if tokens[name], _, err = d.Issue(id); err != nil {
				t.Fatal(err)
			}
		}
		write(t, file, "ann:"+hashOfOther+"\n")
		time.Sleep(follow.LookAgain)
		for name, token := range tokens {
			if id, err := d.Token(t.Context(), token); !errors.Is(err, ErrToken) {
				t.Errorf("the token of %s: %+v, %v", name, id, err)
			}
			if id, err := d.Login(t.Context(), addr, oci.Login{Username: name, Password: "secret"}, false); !errors.Is(err, ErrLogin) {
				t.Errorf("%s with the old password: %+v, %v", name, id, err)
			}
		}
		if _, err := d.Login(t.Context(), addr, oci.Login{Username: "ann", Password: "other"}, false); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoGuessesIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t, DirectoryOptions{Files: []UserFile{{Path: write(t, "htpasswd", "ann:"+hashOfSecret+"\n")}}})
		right := oci.Login{Username: "ann", Password: "secret"}
		try := func(from string, l oci.Login) error {
			_, err := d.Login(t.Context(), netip.MustParseAddr(from), l, false)
			return err
		}
		if err := try("192.0.2.7", right); err != nil {
			t.Fatal(err)
		}
		var wrong, slowed int
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range 100 { // all at the same time, of one /64
			wg.Go(func() {
				err := try(fmt.Sprintf("2001:db8::%x", i), oci.Login{Username: "ann", Password: fmt.Sprint(i)})
				mu.Lock()
				defer mu.Unlock()
				switch oci.CodeOf(err) {
				case oci.CodeUnauthorized:
					wrong++
				case oci.CodeTooManyRequests:
					slowed++
				}
			})
		}
		wg.Wait()
		if wrong != guesses || slowed != 100-guesses {
			t.Errorf("%d were looked at, %d slowed down", wrong, slowed)
		}
		var e *oci.Error
		if err := try("2001:db8::1", right); err != nil {
			t.Errorf("who is known waits for those who guess: %v", err)
		}
		if err := try("2001:db8::1", oci.Login{Username: "ann", Password: "x"}); !errors.As(err, &e) || e.RetryAfter < time.Second || e.RetryAfter > guessEvery {
			t.Errorf("another guess: %v", err)
		}
		if err := try("192.0.2.7", oci.Login{Username: "ann", Password: "x"}); oci.CodeOf(err) != oci.CodeUnauthorized {
			t.Errorf("a guess from elsewhere: %v", err)
		}
		time.Sleep(guessEvery)
		if err := try("2001:db8::1", oci.Login{Username: "ann", Password: "x"}); oci.CodeOf(err) != oci.CodeUnauthorized {
			t.Errorf("a guess after a while: %v", err)
		}
		if err := try("2001:db8::1", oci.Login{Username: "ann", Password: "x"}); oci.CodeOf(err) != oci.CodeTooManyRequests {
			t.Errorf("the next one: %v", err)
		}
	})
}

func TestNetworksAreRememberedWithinABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard()
		for i := range maxDebts + 1000 {
			g.Try(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		if len(g.debt) > maxDebts+1 {
			t.Errorf("%d networks are remembered", len(g.debt))
		}
		if right, wait := g.Try(netip.MustParseAddr("192.0.2.1")); right != nil || wait < guessEvery {
			t.Errorf("more strangers than can be told apart are not slowed down: %v", wait)
		}
		time.Sleep(time.Hour)
		if right, _ := g.Try(netip.MustParseAddr("192.0.2.1")); right == nil {
			t.Error("they are for ever")
		}
	})
}

func TestACodeIsCutOffTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := write(t, "code", "abcdefghijklmnop\n")
		d := newDirectory(t, DirectoryOptions{Codes: []Code{
			{Name: "team", Code: "0123456789abcdef"},
			{Name: "filed", Code: "abcdefghijklmnop", File: file},
			{Name: "old", Code: "fedcba9876543210", Expires: time.Now().Add(time.Hour)},
		}})
		for host, want := range map[string][2]string{
			"0123456789abcdef.mirror.test":        {"mirror.test", "team"},
			"0123456789ABCDEF.Mirror.Test.":       {"mirror.test", "team"},
			"0123456789abcdef.docker.mirror.test": {"docker.mirror.test", "team"},
			"abcdefghijklmnop.mirror.test":        {"mirror.test", "filed"},
			"fedcba9876543210.mirror.test":        {"mirror.test", "old"},
			"0123456789abcde.mirror.test":         {"0123456789abcde.mirror.test", ""},
			"0123456789abcdeff.mirror.test":       {"0123456789abcdeff.mirror.test", ""},
			"x.0123456789abcdef.mirror.test":      {"x.0123456789abcdef.mirror.test", ""},
			"0123456789abcdef":                    {"0123456789abcdef", ""},
			"mirror.test":                         {"mirror.test", ""},
			"":                                    {"", ""},
		} {
			if rest, code := d.Host(host); rest != want[0] || code != want[1] {
				t.Errorf("%s: %s, %s", host, rest, code)
			}
		}
		write(t, file, "revoked\n")
		time.Sleep(time.Hour)
		for _, host := range []string{"abcdefghijklmnop.mirror.test", "revoked.mirror.test", "fedcba9876543210.mirror.test"} {
			if _, code := d.Host(host); code != "" {
				t.Errorf("%s is still %s", host, code)
			}
		}
	})
}

// An empty file is a code that nobody has; one that is gone is an accident, and what
// it said stays in force.
func TestACodeWhoseFileIsEmptiedIsRevoked(t *testing.T) {
	for _, text := range []string{"", "\n", " \n"} {
		synctest.Test(t, func(t *testing.T) {
			const host = "abcdefghijklmnop.mirror.test"
			file := write(t, "code", "abcdefghijklmnop\n")
			d := newDirectory(t, DirectoryOptions{Codes: []Code{{Name: "filed", Code: "abcdefghijklmnop", File: file}}})
			if _, code := d.Host(host); code != "filed" {
				t.Fatalf("the code is %q", code)
			}
			if err := os.Rename(file, file+".away"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if _, code := d.Host(host); code != "filed" {
				t.Errorf("without its file it is %q", code)
			}
			write(t, file, text)
			time.Sleep(time.Hour)
			if _, code := d.Host(host); code != "" {
				t.Errorf("with %q in its file it is still %s", text, code)
			}
			if _, code := d.Host("." + host); code != "" {
				t.Errorf("nothing is the code %s", code)
			}
			write(t, file, "abcdefghijklmnop\n")
			time.Sleep(time.Hour)
			if _, code := d.Host(host); code != "filed" {
				t.Errorf("given again it is %q", code)
			}
		})
	}
}

// An issuer knows tokens of three parts.
type issuer map[string]string

func (i issuer) Verify(_ context.Context, token string) (string, []string, time.Time, error) {
	name, ok := i[token]
	switch {
	case !ok:
		return "", nil, time.Time{}, ErrForeign
	case name == "":
		return "", nil, time.Time{}, errors.New("expired")
	}
	return name, []string{"corp:dev"}, time.Now().Add(time.Minute), nil
}

func (i issuer) Knows(name string) bool { return strings.HasPrefix(name, "corp:") }

// Who is gone from the configuration is gone at once, with all it has vouched for.
func TestAnIssuerThatIsGoneVouchesForNobody(t *testing.T) {
	d := newDirectory(t, DirectoryOptions{Issuers: issuer{"a.b.c": "corp:ann"}})
	id, err := d.Login(t.Context(), addr, oci.Login{Username: "w", Password: "a.b.c"}, false)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := d.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, after := range map[string]*Directory{
		"no issuers":  newDirectory(t, DirectoryOptions{}),
		"another one": newDirectory(t, DirectoryOptions{Issuers: renamed{}}),
	} {
		if id, err := after.Token(t.Context(), token); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

// renamed is an issuer of another name.
type renamed struct{ issuer }

func (renamed) Knows(name string) bool { return strings.HasPrefix(name, "other:") }

func TestTokensOfIssuersStandForPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(t, DirectoryOptions{
			Users:   []User{{Name: "ci", Password: "geheim"}},
			Issuers: issuer{"a.b.c": "corp:ann", "x.y.z": ""},
		})
		for _, as := range []string{"whoever", "ci"} {
			id, err := d.Login(t.Context(), addr, oci.Login{Username: as, Password: "a.b.c"}, false)
			if err != nil || id.User != "corp:ann" {
				t.Errorf("%s: %+v, %v", as, id, err)
			}
			token, until, err := d.Issue(id)
			if err != nil || time.Until(until) > time.Minute {
				t.Errorf("a token for longer than the issuer's: %v, %v", time.Until(until), err)
			}
			if got, err := d.Token(t.Context(), token); err != nil || got.User != "corp:ann" || len(got.Groups) != 1 {
				t.Errorf("%+v, %v", got, err)
			}
		}
		if id, err := d.Token(t.Context(), "a.b.c"); err != nil || id.User != "corp:ann" {
			t.Errorf("as it is: %+v, %v", id, err)
		}
		for _, bad := range []string{"x.y.z", "u.v.w"} {
			if id, err := d.Token(t.Context(), bad); !errors.Is(err, ErrToken) {
				t.Errorf("%s: %+v, %v", bad, id, err)
			}
			if id, err := d.Login(t.Context(), addr, oci.Login{Username: "w", Password: bad}, false); oci.CodeOf(err) != oci.CodeUnauthorized {
				t.Errorf("%s: %+v, %v", bad, id, err)
			}
		}
		if id, err := d.Login(t.Context(), addr, oci.Login{Username: "w", Password: "u.v.w"}, true); err != nil || id.User != "" {
			t.Errorf("a token of somebody else is passed through: %+v, %v", id, err)
		}
	})
}

func TestAKeyThatIsTooShortIsRefused(t *testing.T) {
	o := DirectoryOptions{Key: make([]byte, MinTokenKey-1), Guard: NewGuard(), Log: slog.New(slog.DiscardHandler)}
	if _, err := NewDirectory(o); err == nil {
		t.Error("it is taken")
	}
}

func FuzzToken(f *testing.F) {
	d, err := NewDirectory(DirectoryOptions{Key: make([]byte, MinTokenKey), Guard: NewGuard(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	token, _, err := d.Issue(Identity{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token + "A")
	f.Add("")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := d.Token(t.Context(), s); err == nil && s != token {
			t.Errorf("%q is a token of %+v", s, id)
		}
	})
}
