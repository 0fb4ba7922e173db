package admin

import "time"

// An Upstream is a registry as the operator sees it.
type Upstream struct {
	Registry  string     `json:"registry"`
	Endpoints []Endpoint `json:"endpoints"` // in the order in which they are asked
	Budgets   []Budget   `json:"budgets"`   // empty for a registry that tells of no limit
}

// An Endpoint is one address of a registry.
type Endpoint struct {
	URL    string `json:"url"`    // without user and query; oci:DIR or archive:FILE for one on the disk
	Serves string `json:"serves"` // "all", or "blobs" for one that is not asked about tags and manifests
	// State is "up", "down" (its breaker is open: it is not asked until Until), or
	// "probing" (the next request decides).
	State    string    `json:"state"`
	Failures int       `json:"failures"` // in a row
	Error    string    `json:"error"`    // the last failure, safe to show; empty when there was none
	Until    time.Time `json:"until,omitzero"`
}

// A Budget is what a registry says may still be asked of it.
type Budget struct {
	Account   string        `json:"account"`     // a user name; empty for anonymous requests
	Limit     int64         `json:"limit"`       // requests in Window; -1 when not told
	Remaining int64         `json:"remaining"`   // -1 when not told
	Window    time.Duration `json:"window_ns"`   // 0 when not told
	At        time.Time     `json:"at,omitzero"` // when the registry said so
	Scarce    bool          `json:"scarce"`      // so little that stale answers are preferred
}
