package access

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sampan/internal/oci"
)

// TokenFor is how long a token is good. It is not renewed: clients ask for another.
const TokenFor = 5 * time.Minute

// MinTokenKey is the least length of the key of tokens, in bytes.
const MinTokenKey = 32

// A sealer makes tokens that nobody else can read or make.
type sealer struct{ aead cipher.AEAD }

// newSealer derives its key from what the mirror, or all replicas of it, keeps
// secret.
func newSealer(secret []byte) (sealer, error) {
	if len(secret) < MinTokenKey {
		return sealer{}, fmt.Errorf("access: the key of tokens needs %d bytes", MinTokenKey)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "sampan token 1", 32)
	if err != nil {
		return sealer{}, fmt.Errorf("access: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("access: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("access: %w", err)
	}
	return sealer{aead}, nil
}

// claims are what a token says.
type claims struct {
	User    string   `json:"u,omitempty"`
	Groups  []string `json:"g,omitempty"`
	Proof   []byte   `json:"p,omitempty"` // of the password that it was given for
	Name    string   `json:"n,omitempty"` // login that is passed through
	Secret  string   `json:"s,omitempty"`
	Expires int64    `json:"e"` // seconds since 1970
}

func (s sealer) seal(c claims) (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("access: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, nil)), nil
}

var errToken = errors.New("not a token of this mirror, or one that is over")

func (s sealer) open(token string) (c claims, err error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return c, errToken
	}
	text, err := s.aead.Open(nil, nil, sealed, nil)
	if err != nil || json.Unmarshal(text, &c) != nil {
		return claims{}, errToken
	}
	if time.Now().Unix() >= c.Expires {
		return claims{}, errToken
	}
	return c, nil
}

// login is what a token passes through.
func (c claims) login() oci.Login { return oci.Login{Username: c.Name, Password: c.Secret} }
