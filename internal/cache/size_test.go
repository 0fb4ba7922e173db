package cache_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"sampan/internal/oci"
)

// An endless registry tells no size of a blob, and sends more after its end,
// for ever.
type endless struct{ *registry }

type endlessBody struct {
	io.Reader
	desc oci.Descriptor
}

func (b endlessBody) Descriptor() oci.Descriptor     { return b.desc }
func (b endlessBody) Seek(int64, int) (int64, error) { return 0, nil }
func (b endlessBody) Close() error                   { return nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (e endless) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	b, err := e.registry.Blob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return endlessBody{io.MultiReader(b, zeros{}), oci.Descriptor{Digest: d, Size: -1}}, nil
}

// What an upstream does not say of the size of a blob, the manifest does: readers
// need not wait for the end, and an end that never comes does no harm.
func TestSizeIsThatOfTheManifestWhenTheUpstreamTellsNone(t *testing.T) {
	f := newFixture(t)
	f.up.push(t, "gcr.io/app/web:v1", layerA)
	f.pull(t, "gcr.io/app/web", "v1")
	b, err := f.over(t, endless{f.up}).Blob(t.Context(), mustRepo(t, "gcr.io/app/web"), oci.DigestOf(layerA))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, layerA) || b.Descriptor().Size != int64(len(layerA)) {
		t.Errorf("%d bytes of %d, size %d, %v", len(got), len(layerA), b.Descriptor().Size, err)
	}
}
