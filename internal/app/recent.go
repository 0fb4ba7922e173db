package app

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"sampan/internal/admin"
	"sampan/internal/edge"
	"sampan/internal/oci"
)

// maxReason bounds what is kept of why a request failed, in bytes.
const maxReason = 500

// failed keeps what went wrong for the operator.
func (a *App) failed(ctx context.Context, f edge.Failure) {
	a.recent.Add(incident(oci.TraceFrom(ctx), f))
}

// incident puts together what is known of a request that failed. What it tells is what
// the access log tells as well: no host name, in which a code may be, and no header.
func incident(t *oci.Trace, f edge.Failure) admin.Incident {
	i := admin.Incident{
		Time: time.Now(), Kind: admin.IncidentDenial, Status: f.Status, User: t.Who, Request: t.ID,
		Code: string(oci.CodeOf(t.Err)), Reason: t.Denied,
	}
	if f.Broken || f.Status >= http.StatusInternalServerError {
		i.Kind = admin.IncidentError
	}
	if t.Client.IsValid() {
		i.Client = t.Client.String()
	}
	if !t.Repository.IsZero() {
		i.Repository = t.Repository.String()
		i.Reference = referenceOf(t.Kind, f.Path)
	}
	if i.Code == string(oci.CodeUnauthorized) && f.Status == http.StatusForbidden {
		i.Code = string(oci.CodeDenied) // it is the mirror that its upstream does not know
	}
	var e *oci.Error
	switch {
	case i.Reason != "":
	case i.Kind == admin.IncidentError && t.Err != nil: // the operator is told the cause
		i.Reason = t.Err.Error()
	case errors.As(t.Err, &e):
		i.Reason = e.Message
	case f.Broken:
		i.Reason = "broken off inside the mirror; its log says why"
	default:
		i.Reason = http.StatusText(f.Status)
	}
	if len(i.Reason) > maxReason {
		i.Reason = strings.ToValidUTF8(i.Reason[:maxReason], "") + "…"
	}
	return i
}

// referenceOf is the tag or digest that a path of the protocol ends with; empty for a
// path that has none.
func referenceOf(kind, p string) string {
	if kind != "manifest" && kind != "blob" && kind != "referrers" {
		return ""
	}
	return path.Base(p)
}
