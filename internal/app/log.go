package app

import (
	"context"
	"io"
	"log/slog"

	"sampan/internal/edge"
	"sampan/internal/oci"
)

// LogHandler writes lines of the process log as text or json. A line about a request
// says which one.
func LogHandler(format string, w io.Writer, level slog.Leveler) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return requestHandler{slog.NewJSONHandler(w, o)}
	}
	return requestHandler{slog.NewTextHandler(w, o)}
}

// AccessHandler writes lines of the access log as text, json or combined.
func AccessHandler(format string, w io.Writer) slog.Handler {
	switch format {
	case "json":
		return slog.NewJSONHandler(w, nil)
	case "combined":
		return edge.Combined(w)
	default:
		return slog.NewTextHandler(w, nil)
	}
}

// A requestHandler adds the identifier of the request that a context belongs to.
type requestHandler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := oci.TraceFrom(ctx).ID; id != "" {
		r.AddAttrs(slog.String("request", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
