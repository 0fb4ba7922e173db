package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"sampan/internal/oci"
)

// A slow registry answers questions for blobs when the gate is closed.
type slow struct {
	*registry
	gate chan struct{}
}

func (s slow) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	<-s.gate
	return s.registry.Blob(ctx, repo, d)
}

// Two repositories want one digest at the same time, and the upstream of one of
// them does not have it, or does not give it: whoever comes first, one gets the
// blob and the other what its own upstream says, while the fetch runs and after it.
func TestADigestThatArrivesForOneRepositoryIsNotForAnother(t *testing.T) {
	const may, mayNot = "gcr.io/app/may", "gcr.io/app/maynot"
	for name, order := range map[string][]string{
		"who may comes first":     {may, mayNot},
		"who may not comes first": {mayNot, may},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.up.push(t, may+":v1", layerA)
				d := oci.DigestOf(layerA)
				up := slow{f.up, make(chan struct{})}
				c := f.over(t, up)
				read := func(name string) ([]byte, error) {
					r, err := c.Blob(t.Context(), mustRepo(t, name), d)
					if err != nil {
						return nil, err
					}
					b, err := io.ReadAll(r)
					return b, errors.Join(err, r.Close())
				}
				check := func(name string, b []byte, err error) {
					t.Helper()
					switch {
					case name == may && (err != nil || !bytes.Equal(b, layerA)):
						t.Errorf("who may got %d bytes, %v", len(b), err)
					case name == mayNot && (!errors.Is(err, oci.ErrBlobUnknown) || len(b) > 0):
						t.Errorf("who may not got %d bytes, %v", len(b), err)
					}
				}
				ended := make(chan struct{})
				for _, name := range order {
					go func() {
						b, err := read(name)
						check(name, b, err)
						ended <- struct{}{}
					}()
					synctest.Wait() // so that the order is known
				}
				close(up.gate)
				<-ended
				<-ended
				synctest.Wait()
				if n := f.up.count("blob"); n > 2 {
					t.Errorf("asked for the blob %d times", n)
				}
				for _, name := range order { // now that it is stored
					b, err := read(name)
					check(name, b, err)
				}
				if n := f.up.count("blob"); n != 0 {
					t.Errorf("asked for a blob that is stored %d times", n)
				}
			})
		})
	}
}
