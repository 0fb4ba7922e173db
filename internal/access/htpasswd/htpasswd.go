// Package htpasswd reads files of user names with the hashes of their passwords,
// as Apache's htpasswd writes them, and checks passwords.
//
// It takes what is safe to keep in a file, bcrypt and Argon2id, and refuses
// everything else: MD5, SHA-1, crypt and plain text. It promises that checking a
// password costs what the hash says and that no file can say more than [MaxMemory]
// and [MaxTime].
package htpasswd

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

const (
	// MaxMemory is the most memory that one Argon2id hash may take, in KiB.
	MaxMemory = 256 << 10
	// MaxTime is the most passes that one Argon2id hash may take.
	MaxTime = 16
	// MaxCost is the highest cost of bcrypt; each step doubles the time.
	MaxCost = 16
)

// Errors of hashes.
var (
	ErrWeak = errors.New("a hash that is no longer safe: make it anew with htpasswd -B (bcrypt), or with argon2 -id -e")
	ErrHash = errors.New("not a hash of bcrypt or Argon2id, or one with parameters out of bounds")
)

// An Error is about one line of a file.
type Error struct {
	Line int // from 1
	Err  error
}

// Error implements error. It does not tell what the line says.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Parse reads a file: name:hash on each line; empty lines and those that begin
// with "#" are passed over. The error is an [*Error] about the first bad line.
func Parse(text []byte) (map[string]Hash, error) {
	users := make(map[string]Hash)
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok {
			return nil, &Error{n, errors.New("not name:hash")}
		}
		if err := CheckName(name); err != nil {
			return nil, &Error{n, err}
		}
		if _, twice := users[name]; twice {
			return nil, &Error{n, fmt.Errorf("the user %s is there twice", name)}
		}
		h, err := ParseHash(hash)
		if err != nil {
			return nil, &Error{n, err}
		}
		users[name] = h
	}
	return users, nil
}

// CheckName refuses names that cannot be sent, or that would not be told apart in
// logs.
func CheckName(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r == ':' || r == 0x7f || r == utf8.RuneError }
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) {
		return errors.New("a user name is 1 to 255 bytes without spaces, colons and control characters")
	}
	return nil
}

// A Hash is that of one password. The zero value is that of none.
type Hash struct {
	text   string // of bcrypt; empty for Argon2id
	argon  argon
	sum    string // of Argon2id
	source string
}

// argon are the parameters of Argon2id.
type argon struct {
	time, memory uint32
	threads      uint8
	salt         string
}

// ParseHash reads a hash: $2y$… ($2a$, $2b$) of bcrypt, or $argon2id$v=19$… in the
// PHC string format.
func ParseHash(s string) (Hash, error) {
	switch {
	case strings.HasPrefix(s, "$2"):
		cost, err := bcrypt.Cost([]byte(s))
		if err != nil || cost > MaxCost || len(s) != 60 {
			return Hash{}, ErrHash
		}
		return Hash{text: s, source: s}, nil
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon(s)
	default:
		return Hash{}, ErrWeak
	}
}

func parseArgon(s string) (Hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return Hash{}, ErrHash
	}
	h := Hash{source: s}
	var rest string
	n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d%s", &h.argon.memory, &h.argon.time, &h.argon.threads, &rest)
	if n != 3 || err == nil {
		return Hash{}, ErrHash
	}
	a := h.argon
	salt, errSalt := base64.RawStdEncoding.DecodeString(parts[4])
	sum, errSum := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(errSalt, errSum) != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 128 ||
		a.time < 1 || a.time > MaxTime || a.threads < 1 || a.memory < 8*uint32(a.threads) || a.memory > MaxMemory {
		return Hash{}, ErrHash
	}
	h.argon.salt, h.sum = string(salt), string(sum)
	return h, nil
}

// Verify tells whether password is the one.
func (h Hash) Verify(password string) bool {
	switch {
	case h.text != "":
		return bcrypt.CompareHashAndPassword([]byte(h.text), []byte(password)) == nil
	case h.sum != "":
		got := argon2.IDKey([]byte(password), []byte(h.argon.salt), h.argon.time, h.argon.memory, h.argon.threads, uint32(len(h.sum)))
		return subtle.ConstantTimeCompare(got, []byte(h.sum)) == 1
	default:
		return false
	}
}

// String masks what it is.
func (h Hash) String() string { return "***" }

// GoString masks what it is.
func (h Hash) GoString() string { return h.String() }

// Text is the hash as it was read: it tells whether it is still the same.
func (h Hash) Text() string { return h.source }
