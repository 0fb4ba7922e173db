package app

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"sampan/internal/config"
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

// Logs are the process log and the access log, whose levels and forms may be replaced
// while they are written. Their methods may be called concurrently.
type Logs struct {
	errs, out       io.Writer
	process, access atomic.Pointer[slog.Handler]
}

// NewLogs makes the process log on errs and the access log on out.
func NewLogs(c config.Log, errs, out io.Writer) *Logs {
	l := &Logs{errs: errs, out: out}
	l.Set(c)
	return l
}

// Set has all that is written from now on take the level and form of c. Each writer is
// written to with one call for each line, so that lines of two forms do not mix.
func (l *Logs) Set(c config.Log) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // Load has refused anything else
	}
	process, access := LogHandler(c.Format, l.errs, level), AccessHandler(cmp.Or(c.AccessFormat, c.Format), l.out)
	if !c.Access {
		access = slog.DiscardHandler
	}
	l.process.Store(&process)
	l.access.Store(&access)
}

// Process is the process log.
func (l *Logs) Process() *slog.Logger { return slog.New(currentHandler{now: &l.process}) }

// Access is the access log. It is not enabled while it is off.
func (l *Logs) Access() *slog.Logger { return slog.New(currentHandler{now: &l.access}) }

// A currentHandler is the one that is in force, with what a Logger has added.
type currentHandler struct {
	now  *atomic.Pointer[slog.Handler]
	with func(slog.Handler) slog.Handler // nil adds nothing
}

func (h currentHandler) handler() slog.Handler {
	if h.with == nil {
		return *h.now.Load()
	}
	return h.with(*h.now.Load())
}

// Enabled implements [slog.Handler].
func (h currentHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return (*h.now.Load()).Enabled(ctx, l)
}

// Handle implements [slog.Handler].
func (h currentHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.handler().Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h currentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h currentHandler) WithGroup(name string) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h currentHandler) and(add func(slog.Handler) slog.Handler) slog.Handler {
	before := h.with
	if before == nil {
		return currentHandler{h.now, add}
	}
	return currentHandler{h.now, func(to slog.Handler) slog.Handler { return add(before(to)) }}
}
