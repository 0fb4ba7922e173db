package upstream

import (
	"context"
	"net/http"

	"sampan/internal/oci"
)

var _ oci.ManifestStater = (*Registry)(nil)

// StatManifest implements [oci.ManifestStater] with a HEAD, and with a GET where
// HEAD is not liked or is redirected.
func (r *Registry) StatManifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	return eachWithin(ctx, r, func(ctx context.Context, ep *endpoint) (oci.Descriptor, error) {
		q := manifestQuestion(repo, digest.String())
		q.method = http.MethodHead
		rep, err := r.ask(ctx, ep, q)
		switch {
		case err == nil && rep.method == http.MethodHead:
			rep.close()
			return oci.Descriptor{MediaType: mediaTypeOf(rep.Header), Digest: digest, Size: rep.ContentLength}, nil
		case err == nil:
			rep.cut()
		case !headIsNotLiked(err):
			return oci.Descriptor{}, err
		}
		m, err := r.manifestAt(ctx, ep, repo, digest.String(), digest)
		return m.Descriptor, err
	})
}
