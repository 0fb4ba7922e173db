package remote

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// listed are what a fake lists under the tag of the specification, in order.
func (f *fake) listed(t *testing.T, subject oci.Digest) []oci.Digest {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var index referrersIndex
	raw := f.manifests["a/app"]["sha256-"+subject.Hex()].raw
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	var list []oci.Digest
	for _, d := range index.Manifests {
		list = append(list, d.Digest)
	}
	return list
}

// A copy that was killed between what refers to an image and the list of it, or whose list
// somebody else has overwritten, is finished by running it again.
func TestAReferrerThatWasNotListedIsListed(t *testing.T) {
	b := newBed(t, behavior{noReferrers: true})
	digest := b.image.Manifest.Descriptor
	one := b.source.AddArtifact("team/app", "", "application/spdx+json", digest, []byte("{}"))
	job := b.job(t, "team/app:1", "a/app")
	job.Referrers = true
	for range 2 {
		report, err := b.copy(t, transfer.Options{}, job)
		if err != nil || report.Images[0].Unchanged {
			t.Fatalf("%v, %+v", err, report.Images[0])
		}
		if got := b.target.listed(t, digest.Digest); !slices.Equal(got, []oci.Digest{one.Descriptor.Digest}) {
			t.Errorf("listed are %v", got)
		}
		delete(b.target.manifests["a/app"], "sha256-"+digest.Digest.Hex())
	}
}

func TestReferrersThatArePutAtOnceAreAllListed(t *testing.T) {
	b := newBed(t, behavior{noReferrers: true})
	job := b.job(t, "team/app:1", "a/app")
	if _, err := b.copy(t, transfer.Options{}, job); err != nil {
		t.Fatal(err)
	}
	subject := b.image.Manifest.Descriptor
	config := b.image.Configs[0]
	r := open(t, b.target.registry(t), true)
	var group sync.WaitGroup
	var want []string
	for i := range 8 {
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x","config":{"mediaType":"application/x","digest":%q,"size":%d},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"n":"%d"}}`,
			oci.MediaTypeImageManifest, config.Digest, config.Size, subject.MediaType, subject.Digest, subject.Size, i)
		d := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(raw), Size: int64(len(raw))}
		want = append(want, d.Digest.String())
		group.Go(func() {
			if err := r.PutManifest(t.Context(), job.Target, d, raw, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var got []string
	for _, d := range b.target.listed(t, subject.Digest) {
		got = append(got, d.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d are listed of %d", len(got), len(want))
	}
}
