package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"sampan/internal/oci"
)

// A Verification is how far a reading of all that is stored has come.
type Verification struct {
	// State is running, done, or failed.
	State string `json:"state"`
	// Blobs and Bytes were read, of as many when it began.
	Blobs      int64 `json:"blobs"`
	Bytes      int64 `json:"bytes"`
	TotalBlobs int64 `json:"total_blobs"`
	TotalBytes int64 `json:"total_bytes"`
	// Rotten and Unreadable are how many were found. The first were removed, the others
	// are left.
	Rotten     int64 `json:"rotten"`
	Unreadable int64 `json:"unreadable"`
	// Digests are those of what was rotten, at the end, the first 1000.
	Digests []oci.Digest `json:"digests,omitempty"`
	// Error is why it has failed.
	Error string `json:"error,omitempty"`
}

const (
	// tellEvery bounds how often a client is told how far it is, and maxDigests the
	// digests that are told at the end.
	tellEvery  = 200 * time.Millisecond
	maxDigests = 1000
	typeLines  = "application/x-ndjson"
)

// verifying has one reading run at a time.
type verifying struct{ mu sync.Mutex }

// verify answers POST /api/v1/verify: it reads all that is stored and tells how far it
// is, a line of JSON for each time, the last one with the result. It ends when the
// client leaves.
func (c *Content) verify(w http.ResponseWriter, r *http.Request) {
	if !c.verifying.mu.TryLock() {
		c.Audit(r, "verify", "", nil, errVerifying)
		say(w, http.StatusConflict, errVerifying.Error())
		return
	}
	defer c.verifying.mu.Unlock()
	w.Header().Set("Content-Type", typeLines)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	control := http.NewResponseController(w)
	tell := func(v Verification) {
		line, err := json.Marshal(v)
		if err == nil {
			_ = control.SetWriteDeadline(time.Now().Add(listenerPatience)) // of a test's writer, nothing
			_, err = w.Write(append(line, '\n'))
		}
		if err == nil {
			err = control.Flush()
		}
		if err != nil {
			cancel()
		}
	}
	var told time.Time
	v, err := c.Verify(ctx, func(v Verification) {
		if now := time.Now(); now.Sub(told) >= tellEvery {
			told = now
			v.State, v.Digests = "running", nil
			tell(v)
		}
	})
	v.State, v.Digests = "done", slices.Clip(v.Digests[:min(len(v.Digests), maxDigests)])
	if err != nil {
		v.State, v.Error = "failed", err.Error()
	}
	c.Audit(r, "verify", "", v, err)
	tell(v)
}
