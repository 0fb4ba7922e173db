package edge

import (
	"cmp"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"sampan/internal/oci"
)

// traced begins the span of a request, below that of a trusted proxy if it has one.
// end ends it.
func (e *Edge) traced(r *http.Request, t *oci.Trace) (_ *http.Request, end func(status int, bytes int64)) {
	if e.o.Tracer == nil {
		return r, func(int, int64) {}
	}
	ctx := r.Context()
	if fromTrusted(r, e.bounds.Load().Trusted) {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	ctx, span := e.o.Tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return r, func(int, int64) { span.End() }
	}
	return r.WithContext(ctx), func(status int, bytes int64) {
		span.SetName(cmp.Or(t.Kind, "request"))
		span.SetAttributes(
			attribute.String("http.request.method", r.Method), attribute.Int("http.response.status_code", status),
			attribute.Int64("http.response.body.size", bytes), attribute.String("sampan.request", t.ID),
			attribute.String("sampan.registry", t.Repository.Registry().String()), attribute.String("sampan.repository", t.Repository.Path()),
			attribute.String("sampan.result", string(t.Result)), attribute.String("enduser.id", t.Who),
		)
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}
