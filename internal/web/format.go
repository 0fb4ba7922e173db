package web

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
)

// A formatter writes quantities in one language.
type formatter struct {
	lang      Lang
	catalogue *Catalogue
	now       func() time.Time
	asset     func(string) (string, error)
}

// funcs are the functions of every template:
//
//	t KEY ARG...   the message of a key; one []any stands for its elements
//	bytes N        "1.5 GiB", of bytes
//	count N        "12,345"
//	percent F      "12.3 %", of a share from 0 to 1
//	ago T          "3 minutes ago", "in 2 hours"; "never" for the zero time
//	moment T       "2026-01-02 15:04:05 UTC"
//	iso T          the same for the datetime attribute
//	duration D     "3 minutes", in its largest whole unit
//	digest S       "sha256:0123456789ab…"
//	asset NAME     the address of a file of the assets
func (f formatter) funcs() template.FuncMap {
	return template.FuncMap{
		"t":        f.text,
		"bytes":    func(n any) (string, error) { i, err := whole(n); return Bytes(i), err },
		"count":    func(n any) (string, error) { i, err := whole(n); return Count(i), err },
		"percent":  func(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" },
		"ago":      f.ago,
		"moment":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"duration": f.duration,
		"digest":   Digest,
		"asset":    f.asset,
	}
}

func (f formatter) text(key string, args ...any) (string, error) {
	if len(args) == 1 {
		if list, ok := args[0].([]any); ok {
			args = list
		}
	}
	return f.catalogue.Text(f.lang, key, args...)
}

// whole is any integer as int64.
func whole(n any) (int64, error) {
	switch n := n.(type) {
	case int64:
		return n, nil
	case int:
		return int64(n), nil
	case uint64:
		return int64(n), nil
	default:
		return 0, fmt.Errorf("web: %T is not a whole number", n)
	}
}

// Bytes writes a number of bytes in the largest binary unit of which there is at
// least one, with one decimal below ten.
func Bytes(n int64) string {
	const unit = 1 << 10
	if n < unit && n > -unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	value := float64(n)
	names := "KMGTPE"
	i := -1
	for (value >= unit || value <= -unit) && i < len(names)-1 {
		value /= unit
		i++
	}
	decimals := 0
	if value < 10 && value > -10 {
		decimals = 1
	}
	return strconv.FormatFloat(value, 'f', decimals, 64) + " " + names[i:i+1] + "iB"
}

// Count writes a number with a comma between each three digits, as both languages do.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, groups...), ",")
}

// Digest shortens a digest to its algorithm and twelve digits of its value. What is
// no longer than that is returned as it is.
func Digest(s fmt.Stringer) string {
	const most = 12
	algorithm, value, ok := strings.Cut(s.String(), ":")
	if !ok || len(value) <= most {
		return s.String()
	}
	return algorithm + ":" + value[:most] + "…"
}

func (f formatter) ago(t time.Time) (string, error) {
	if t.IsZero() {
		return f.catalogue.Text(f.lang, "web.never")
	}
	age := f.now().Sub(t)
	key := "web.ago"
	if age < 0 {
		key, age = "web.in", -age
	}
	if age < time.Second {
		return f.catalogue.Text(f.lang, "web.now")
	}
	d, err := f.duration(age)
	if err != nil {
		return "", err
	}
	return f.catalogue.Text(f.lang, key, d)
}

// duration writes d in its largest unit, rounded down. Less than a second is 0 seconds.
func (f formatter) duration(d time.Duration) (string, error) {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{day, "web.day"}, {time.Hour, "web.hour"}, {time.Minute, "web.minute"}} {
		if n := int64(d / unit.of); n > 0 {
			return f.plural(unit.name, n)
		}
	}
	return f.plural("web.second", int64(d/time.Second))
}

// plural is the message of a key for one, and of the key with an s for any number.
func (f formatter) plural(key string, n int64) (string, error) {
	if n == 1 {
		return f.catalogue.Text(f.lang, key)
	}
	return f.catalogue.Text(f.lang, key+"s", n)
}
