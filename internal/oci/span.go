package oci

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope is what spans are made in the name of.
const scope = "sampan"

// StartSpan begins a span below that of ctx, if there is one that is recorded;
// otherwise it does nothing, and what it returns does nothing.
func StartSpan(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, s := parent.TracerProvider().Tracer(scope).Start(ctx, name, o...)
	return ctx, Span{s}
}

// A Span is one step of a request, as it is told to who traces. The zero value does
// nothing.
type Span struct{ s trace.Span }

// SpanOf is a span that was begun elsewhere.
func SpanOf(s trace.Span) Span { return Span{s} }

// Set tells more of it. Values are no secrets.
func (s Span) Set(attrs ...attribute.KeyValue) {
	if s.s != nil {
		s.s.SetAttributes(attrs...)
	}
}

// On tells whether anything of it is recorded.
func (s Span) On() bool { return s.s != nil }

// End ends it; of an error, its code is told, and no words that may have a secret in
// them.
func (s Span) End(err error) {
	if s.s == nil {
		return
	}
	if err != nil {
		s.s.SetStatus(codes.Error, string(CodeOf(err)))
	}
	s.s.End()
}

// SpanScope is the name of the tracer.
func SpanScope() string { return scope }
