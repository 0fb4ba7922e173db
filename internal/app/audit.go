package app

import (
	"context"
	"io"

	"sampan/internal/access"
	"sampan/internal/audit"
	"sampan/internal/config"
	"sampan/internal/edge"
	"sampan/internal/oci"
)

// newAudit opens the audit log; nil when there is none.
func newAudit(c *config.Config, o Options) (*audit.Log, error) {
	switch c.Log.Audit {
	case "":
		return nil, nil //nolint:nilnil // a Log that does nothing
	case "stderr":
		w := o.Stderr
		if w == nil {
			w = io.Discard
		}
		return audit.New(w, o.Log), nil
	default:
		return audit.Open(c.Log.Audit, o.Log)
	}
}

// denied writes down that a rule refused a request.
func (a *App) denied(ctx context.Context, d edge.Denial) {
	t := oci.TraceFrom(ctx)
	e := audit.Event{
		User: t.Who, Request: t.ID, Method: d.Method, Path: d.Path, Status: d.Status, Reason: t.Denied,
	}
	if t.Client.IsValid() {
		e.Client = t.Client.String()
	}
	if !t.Repository.IsZero() {
		e.Repository = t.Repository.String()
	}
	a.audit.Deny(access.Network(t.Client), e)
}
