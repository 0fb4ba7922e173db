package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// Combined is a handler for access lines that writes them in the combined format of
// Apache and NCSA, as the tools that read web servers' logs want it. What a client
// wrote is escaped, so that it makes no line and no field of its own.
func Combined(w io.Writer) slog.Handler { return &combined{w: w} }

type combined struct {
	mu sync.Mutex // held over a write
	w  io.Writer
}

// Enabled implements [slog.Handler].
func (c *combined) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements [slog.Handler]: the format has no room for more.
func (c *combined) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements [slog.Handler].
func (c *combined) WithGroup(string) slog.Handler { return c }

// Handle implements [slog.Handler].
func (c *combined) Handle(_ context.Context, r slog.Record) error {
	field := make(map[string]string)
	r.Attrs(func(a slog.Attr) bool {
		field[a.Key] = a.Value.String()
		return true
	})
	client := field["client"]
	if addr, ok := parseAddr(client); ok {
		client = addr.String()
	}
	line := fmt.Sprintf("%s - %s [%s] \"%s %s %s\" %s %s %s %s\n",
		bare(client), bare(field["user"]), r.Time.Format("02/Jan/2006:15:04:05 -0700"),
		escaped(field["method"]), strings.ReplaceAll(escaped(field["path"]), " ", "%20"), escaped(field["proto"]),
		bare(field["status"]), bare(field["bytes"]), quoted(field["referer"]), quoted(field["agent"]))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, line)
	return err
}

// bare is a field without quotes; "-" for an empty one.
func bare(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(escaped(s), " ", `\x20`)
}

// quoted is a field with quotes.
func quoted(s string) string {
	if s == "" {
		return `"-"`
	}
	return `"` + escaped(s) + `"`
}

// escaped writes quotes, backslashes and what is not printable ASCII as Apache does.
func escaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteString(`\x`)
			b.WriteString(strconv.FormatUint(uint64(c)>>4, 16) + strconv.FormatUint(uint64(c)&15, 16))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
