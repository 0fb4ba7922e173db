// Package tracing sends spans to a collector by OTLP over HTTP.
//
// It promises that nobody waits for the collector: spans are sent in batches in the
// background, a bounded number of them is kept, and what a collector does not take in
// time is dropped. Nothing is global: who traces is handed the provider.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"sampan/internal/oci"
)

// Options of a [Provider]. Endpoint and Log are needed.
type Options struct {
	// Endpoint is the address of the collector, http or https. Without a path it is
	// that of the protocol, /v1/traces.
	Endpoint string
	// Sample is the part of requests that are traced, from 0 to 1. Those that a trusted
	// proxy traces, or does not, are as the proxy has it.
	Sample float64
	// Version is told with each span.
	Version string
	Log     *slog.Logger
}

const (
	// exportTimeout bounds one attempt to send, and closeTimeout the last one.
	exportTimeout = 10 * time.Second
	closeTimeout  = 3 * time.Second
)

// A Provider makes spans. Close it to have the last ones sent.
type Provider struct{ p *sdk.TracerProvider }

// New makes a Provider, and asks nobody.
func New(o Options) (*Provider, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return &Provider{sdk.NewTracerProvider(
		sdk.WithBatcher(quiet{exporter, o.Log}),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.Sample))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "sampan"), attribute.String("service.version", o.Version))),
	)}, nil
}

// Tracer makes spans in the name of sampan.
func (p *Provider) Tracer() trace.Tracer { return p.p.Tracer(oci.SpanScope()) }

// Close sends what is left, for a moment. That of nil does nothing.
func (p *Provider) Close() error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = p.p.Shutdown(ctx) // what the collector does not take is not worth an error at the end
	return nil
}

// quiet tells our log what cannot be sent; the library would tell a global one.
type quiet struct {
	sdk.SpanExporter
	log *slog.Logger
}

// ExportSpans implements [sdk.SpanExporter].
func (q quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := q.SpanExporter.ExportSpans(ctx, spans); err != nil {
		q.log.Warn("traces not sent", "err", err)
	}
	return nil
}
