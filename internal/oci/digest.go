package oci

import (
	_ "crypto/sha256" // makes the algorithm available
	_ "crypto/sha512" // makes the algorithm available
	"hash"
	"io"
	"strings"

	godigest "github.com/opencontainers/go-digest"
)

// A Digest names content by its hash: "sha256:<64 hex>" or "sha512:<128 hex>".
// The zero value is empty and names nothing. Digests are comparable.
type Digest struct {
	d godigest.Digest
}

// ParseDigest accepts the two algorithms that the image specification
// registers, sha256 and sha512, with lower-case hexadecimal digits; anything
// else is DIGEST_INVALID.
func ParseDigest(s string) (Digest, error) {
	d := godigest.Digest(s)
	if isSHA256(s) { // nearly all are, and each request has one
		return Digest{d}, nil
	}
	if err := d.Validate(); err != nil {
		return Digest{}, Errorf(CodeDigestInvalid, "%s is not a digest: %v", clip(s), err)
	}
	switch d.Algorithm() {
	case godigest.SHA256, godigest.SHA512:
		return Digest{d}, nil
	default:
		return Digest{}, Errorf(CodeDigestInvalid, "%s: only sha256 and sha512 are supported", clip(s))
	}
}

// isSHA256 tells what [godigest.Digest.Validate] tells of sha256, by no regular
// expression.
func isSHA256(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hex) != 64 {
		return false
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// MustParseDigest is ParseDigest for constants in tests; it panics on error.
func MustParseDigest(s string) Digest {
	d, err := ParseDigest(s)
	if err != nil {
		panic(err)
	}
	return d
}

// DigestOf returns the sha256 digest of b.
func DigestOf(b []byte) Digest { return Digest{godigest.SHA256.FromBytes(b)} }

// String returns "algorithm:hex", or "" for the zero value.
func (d Digest) String() string { return string(d.d) }

// IsZero tells whether d names nothing.
func (d Digest) IsZero() bool { return d.d == "" }

// Algorithm returns "sha256" or "sha512". d must not be zero.
func (d Digest) Algorithm() string { return string(d.d.Algorithm()) }

// Hex returns the hexadecimal part. d must not be zero.
func (d Digest) Hex() string { return d.d.Encoded() }

// Hash returns a new hash of d's algorithm. d must not be zero.
func (d Digest) Hash() hash.Hash { return d.d.Algorithm().Hash() }

// Matches tells whether the bytes written to h, a hash made by [Digest.Hash],
// are those that d names.
func (d Digest) Matches(h hash.Hash) bool {
	return godigest.NewDigest(d.d.Algorithm(), h) == d.d
}

// Verify tells whether b is the content that d names.
func (d Digest) Verify(b []byte) bool { return d.d.Algorithm().FromBytes(b) == d.d }

// VerifyReader reads r to its end and tells whether it was the content that d
// names. The error is r's.
func (d Digest) VerifyReader(r io.Reader) (bool, error) {
	h := d.Hash()
	if _, err := io.Copy(h, r); err != nil {
		return false, err
	}
	return d.Matches(h), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.d), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; empty text gives the
// zero value.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	p, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = p
	return nil
}

// clip shortens hostile input for messages.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "…"
	}
	return quote(s)
}
