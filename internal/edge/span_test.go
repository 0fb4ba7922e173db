package edge

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"sampan/internal/oci"
)

// A stranger can neither have its requests traced nor put them into somebody's trace.
func TestOnlyATrustedProxySaysWhichTraceARequestIsOf(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, c := range []struct {
		fact, from string
		sample     sdk.Sampler
		flag       string
		spans      int
		joined     bool
	}{
		{"a proxy that traces", "10.0.0.1:1", sdk.NeverSample(), "01", 1, true},
		{"a proxy that does not", "10.0.0.1:1", sdk.AlwaysSample(), "00", 0, false},
		{"a stranger that would", "192.0.2.1:1", sdk.NeverSample(), "01", 0, false},
		{"a stranger that would not", "192.0.2.1:1", sdk.AlwaysSample(), "00", 1, false},
	} {
		recorder := tracetest.NewSpanRecorder()
		provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder), sdk.WithSampler(sdk.ParentBased(c.sample)))
		e, err := New(Options{
			Log: slog.New(slog.DiscardHandler), Handler: http.NotFoundHandler(), Tracer: provider.Tracer("x"),
			Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = c.from
		r.Header.Set("traceparent", "00-"+trace+"-00f067aa0ba902b7-"+c.flag)
		e.ServeHTTP(httptest.NewRecorder(), r)
		got := recorder.Ended()
		if len(got) != c.spans || c.spans == 1 && (got[0].SpanContext().TraceID().String() == trace) != c.joined {
			t.Errorf("%s: %v", c.fact, got)
		}
	}
}

// Who does not trace pays nothing for it.
func TestWithoutTracingNothingIsAllocated(t *testing.T) {
	e, err := New(Options{Log: slog.New(slog.DiscardHandler), Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	trace := new(oci.Trace)
	n := testing.AllocsPerRun(100, func() {
		r, end := e.traced(r, trace)
		ctx, span := oci.StartSpan(r.Context(), "x")
		span.End(nil)
		end(200, 1)
		_ = ctx
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
