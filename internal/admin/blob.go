package admin

import (
	"fmt"
	"net/http"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// A Blob is a file of the store: of a blob, or of a manifest.
type Blob struct {
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"`            // bytes
	Owner  string     `json:"owner,omitempty"` // the registry it was fetched for
	Used   time.Time  `json:"used"`
	Pinned bool       `json:"pinned"`
	// Repositories are those that it is linked to, by name, of a single one.
	Repositories []string `json:"repositories,omitempty"`
}

func blobOf(e store.Entry) Blob {
	return Blob{Digest: e.Digest, Size: e.Size, Owner: e.Owner, Used: e.Used, Pinned: e.Pinned}
}

// digestOf reads the parameter of that name; zero where there is none.
func digestOf(r *http.Request, name string) (oci.Digest, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return oci.Digest{}, nil
	}
	return oci.ParseDigest(s)
}

// blobs lists what is stored, in order of digests.
func (c *Content) blobs(r *http.Request) (any, error) {
	n, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	after, err := digestOf(r, "after")
	if err != nil {
		return nil, err
	}
	page, err := c.Blobs.List(r.Context(), after, n)
	list := make([]Blob, len(page))
	for i, e := range page {
		list[i] = blobOf(e)
	}
	return map[string]any{"blobs": list}, err
}

// blob tells of one, with who is linked to it.
func (c *Content) blob(r *http.Request) (any, error) {
	d, err := digestOf(r, "digest")
	if err != nil {
		return nil, err
	}
	if d.IsZero() {
		return nil, fmt.Errorf("%w: the parameter digest is needed", errMistake)
	}
	e, err := c.Blobs.Lookup(r.Context(), d)
	if err != nil {
		return nil, err
	}
	b := blobOf(e)
	holders, err := c.Inventory.Holders(r.Context(), d)
	for _, repo := range holders {
		b.Repositories = append(b.Repositories, repo.String())
	}
	return b, err
}
