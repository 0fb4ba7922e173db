package fill

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"sampan/internal/oci"
)

// traced begins the span of a flight where the request is traced that began it. It is
// a trace of its own, since it is everybody's who reads, linked with each of them. The
// context is that of the flight's work.
func (f *flight) traced(ctx context.Context) context.Context {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return f.group.ctx
	}
	run, span := parent.TracerProvider().Tracer(oci.SpanScope()).Start(f.group.ctx, "fill",
		trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)),
		trace.WithAttributes(attribute.String("sampan.digest", f.digest.String()), attribute.String("sampan.registry", f.sources[0].Upstream)))
	f.span = span
	f.readBy(ctx)
	return run
}

// readBy links a request with the fetch that it reads.
func (f *flight) readBy(ctx context.Context) {
	if f.span == nil {
		return
	}
	if reader := trace.SpanFromContext(ctx); reader.IsRecording() {
		reader.AddLink(trace.Link{SpanContext: f.span.SpanContext()})
	}
}

// endSpan ends the flight's span. It has no lock.
func (f *flight) endSpan(err error) {
	if f.span == nil {
		return
	}
	f.mu.Lock()
	received, size := f.received, f.plan.size
	f.mu.Unlock()
	s := oci.SpanOf(f.span)
	s.Set(attribute.Int64("sampan.bytes", received), attribute.Int64("sampan.size", size))
	s.End(err)
}
