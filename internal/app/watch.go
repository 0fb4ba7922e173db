package app

import (
	"context"
	"io"

	"sampan/internal/admin"
	"sampan/internal/edge"
	"sampan/internal/fill"
	"sampan/internal/store/scrub"
)

// What the admin listener tells in bits, for the commands that read it.
type (
	// A Verification is a line of /api/v1/verify.
	Verification = admin.Verification
	// A Moment is the event "progress" of /api/v1/events.
	Moment = admin.Moment
)

// watching tells listeners of fetches, where there are any.
func watching(events *admin.Events) func(fill.Progress, string) {
	return func(p fill.Progress, result string) {
		if result == "" {
			events.FillBegan(fillOf(p))
			return
		}
		events.FillEnded(admin.FillEnd{Fill: fillOf(p), Result: result})
	}
}

// sending tells the operator about the blobs that are being sent.
func sending(e *edge.Edge) []admin.Pull {
	list := []admin.Pull{} // not null in JSON
	for _, p := range e.Pulls() {
		list = append(list, admin.Pull{
			Request: p.Request, Client: p.Client, User: p.User, Repository: p.Repository.String(), Digest: p.Digest,
			Size: p.Size, Bytes: p.Bytes, BytesPerSecond: int64(p.Rate), Since: p.Since,
		})
	}
	return list
}

// verify reads all that is stored.
func (a *App) verify(ctx context.Context, progress func(admin.Verification)) (admin.Verification, error) {
	p, err := a.scrub.Verify(ctx, func(p scrub.Progress) { progress(verification(p)) })
	return verification(p), err
}

func verification(p scrub.Progress) admin.Verification {
	return admin.Verification{
		Blobs: p.Blobs, Bytes: p.Bytes, TotalBlobs: p.TotalBlobs, TotalBytes: p.TotalBytes,
		Rotten: int64(len(p.Rotten)), Unreadable: p.Unreadable, Digests: p.Rotten,
	}
}

// showConfig writes the configuration in effect: what needs a restart is as it was when
// the process began.
func (a *App) showConfig(w io.Writer) error {
	c, began := *a.serving.p.Load().config, a.o.Config
	c.Listen, c.TLS, c.ProxyProtocol = began.Listen, began.TLS, began.ProxyProtocol
	c.Admin, c.Data, c.Fetch, c.Offline = began.Admin, began.Data, began.Fetch, began.Offline
	c.Shutdown, c.Tracing, c.Log.Audit = began.Shutdown, began.Tracing, began.Log.Audit
	if a.o.SetLog == nil {
		c.Log = began.Log
	}
	return c.Show(w)
}
