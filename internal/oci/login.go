package oci

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"io"
	"log/slog"
	"strconv"
)

// A Login is a user name and a password, as a client sends them. It prints
// masked. The zero value is nobody.
type Login struct {
	Username, Password string
}

// IsZero tells whether l is nobody.
func (l Login) IsZero() bool { return l == Login{} }

// String masks what it is.
func (l Login) String() string {
	if l.IsZero() {
		return "nobody"
	}
	return "***"
}

// GoString masks what it is.
func (l Login) GoString() string { return l.String() }

// LogValue masks what it is.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalText masks what it is.
func (l Login) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Sum tells logins apart without telling them: an HMAC-SHA256 of l, which nobody
// who has not the key can find a password with.
func (l Login) Sum(key []byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, key)
	for _, s := range []string{l.Username, l.Password} { // a hash does not fail
		_, _ = io.WriteString(h, strconv.Itoa(len(s))+":"+s)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

type loginKey struct{}

// WithLogin makes a context in which registries are asked as l and as nobody
// else, whatever credentials are configured. The zero Login asks as nobody.
func WithLogin(ctx context.Context, l Login) context.Context {
	return context.WithValue(ctx, loginKey{}, l)
}

// LoginFrom returns as whom registries are to be asked; false means as whoever
// is configured.
func LoginFrom(ctx context.Context) (Login, bool) {
	l, ok := ctx.Value(loginKey{}).(Login)
	return l, ok
}
