package config

import (
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Duration is a length of time, written "90s", "1h30m" or, in whole days,
// "7d". Only zero needs no unit.
type Duration time.Duration

// ParseDuration reads a Duration; it is never negative.
func ParseDuration(s string) (Duration, error) {
	if s == "0" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errBadDuration
		}
		return Duration(time.Duration(n) * 24 * time.Hour), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errBadDuration
	}
	return Duration(d), nil
}

// foreverText is how [Forever] is written, where it may be.
const foreverText = "forever"

// String returns what ParseDuration reads, and "forever" for [Forever].
func (d Duration) String() string {
	if d == Forever {
		return foreverText
	}
	return time.Duration(d).String()
}

// A Size is a number of bytes, written "20GiB" (powers of 1024: KiB, MiB, GiB,
// TiB), "500MB" (powers of 1000: kB, MB, GB, TB), or plain.
type Size int64

// ParseSize reads a Size; it is never negative.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "kKmMgGtTiIbB ")
	unit, ok := sizeUnit(strings.TrimSpace(s[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || strings.Trim(digits, "0123456789.") != "" {
		return 0, errBadSize
	}
	bytes := n * float64(unit)
	if bytes >= math.MaxInt64 {
		return 0, errBadSize
	}
	return Size(bytes), nil
}

func sizeUnit(s string) (int64, bool) {
	switch strings.ToLower(s) {
	case "", "b":
		return 1, true
	case "kb":
		return 1000, true
	case "mb":
		return 1000 * 1000, true
	case "gb":
		return 1000 * 1000 * 1000, true
	case "tb":
		return 1000 * 1000 * 1000 * 1000, true
	case "kib":
		return 1 << 10, true
	case "mib":
		return 1 << 20, true
	case "gib":
		return 1 << 30, true
	case "tib":
		return 1 << 40, true
	default:
		return 0, false
	}
}

// String returns the size in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		bytes Size
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

var (
	errBadDuration = errors.New("not a duration")
	errBadSize     = errors.New("not a size")
)

// masked stands for a secret wherever one would be printed.
const masked = "********"

// A Secret is text that is never printed: String, JSON, YAML, %v, %#v and slog
// show asterisks. The zero value is empty.
type Secret struct {
	value  string
	source string // the text with variables it was expanded from; shown instead
}

// NewSecret makes a Secret.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.value }

// IsZero tells whether there is no text.
func (s Secret) IsZero() bool { return s.value == "" }

// String returns asterisks, or nothing for the zero value.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return masked
}

// GoString is String: for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText is String: for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String: for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
