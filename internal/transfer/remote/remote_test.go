package remote

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer"
)

const layer = 300 << 10 // bytes

// atOnce is a Pause that takes no time, four times.
func atOnce(ctx context.Context, n int, err error) error {
	if n > 4 || ctx.Err() != nil || oci.IsAnswer(err) {
		return err
	}
	return nil
}

// A bed is a source with images and a target.
type bed struct {
	source *registrytest.Registry
	target *fake
	image  registrytest.Image
}

func newBed(t *testing.T, b behavior) *bed {
	t.Helper()
	s := registrytest.StartTest(t, registrytest.Options{})
	image := s.AddImage("team/app", "1", registrytest.ImageSpec{
		Layers: []int64{layer, layer}, Seed: 7, Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
	})
	return &bed{s, newFake(t, b), image}
}

func open(t *testing.T, name oci.Registry, writing bool) *Registry {
	t.Helper()
	r, err := Open(name, Options{Pause: atOnce}, writing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (b *bed) job(t *testing.T, source, target string) transfer.Job {
	t.Helper()
	ref, err := oci.ParseReference(b.source.Host() + "/" + source)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := b.target.registry(t).Repository(target)
	if err != nil {
		t.Fatal(err)
	}
	job := transfer.Job{Source: ref, Reader: open(t, ref.Repository.Registry(), false), Target: repo}
	if !ref.Tag.IsZero() {
		job.Tags = []oci.Tag{ref.Tag}
	}
	return job
}

func (b *bed) copy(t *testing.T, o transfer.Options, jobs ...transfer.Job) (transfer.Report, error) {
	t.Helper()
	o.Pause = atOnce
	return transfer.Copy(t.Context(), jobs, open(t, b.target.registry(t), true), o)
}

func TestCopiesArriveWhateverTheTargetIsLike(t *testing.T) {
	for fact, behave := range map[string]behavior{
		"a registry by the book":                      {},
		"addresses with a query":                      {absolute: true},
		"no HEAD":                                     {noHead: true},
		"tokens for the right scope are wanted":       {auth: true},
		"uploads break off and are read on":           {dropAt: 100 << 10},
		"… at an address with a query":                {dropAt: 100 << 10, absolute: true},
		"uploads break off and are forgotten":         {dropAt: 100 << 10, forgets: true},
		"a limit of the rate":                         {busy: 3},
		"manifests are put again after a 503":         {unavailable: 2},
		"one request may not be large":                {largest: 64 << 10},
		"pieces have a least size":                    {largest: 200 << 10, least: 128 << 10},
		"mounts are denied":                           {refuseMount: true},
		"a mount begins an upload":                    {noMount: true},
		"no referrers":                                {noReferrers: true},
		"no referrers, tokens, and breaks altogether": {noReferrers: true, auth: true, dropAt: 1 << 10},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, behave)
			report, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app"), b.job(t, "team/app:1", "b/app"))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range report.Images {
				if r.Descriptor.Digest != b.image.Manifest.Descriptor.Digest {
					t.Errorf("it arrived as %s", r.Descriptor.Digest)
				}
			}
			for _, repo := range []string{"a/app", "b/app"} {
				if got := b.target.manifests[repo]["1"]; string(got.raw) != string(b.image.Manifest.Bytes) {
					t.Errorf("%s:1 is %q", repo, got.raw)
				}
				for _, d := range b.image.Blobs() {
					if !d.Digest.Verify(b.target.blobs[repo][d.Digest.String()]) {
						t.Errorf("%s lacks blob %s", repo, d.Digest)
					}
				}
			}
		})
	}
}

func TestABlobCrossesOnce(t *testing.T) {
	b := newBed(t, behavior{})
	_, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app"), b.job(t, "team/app:1", "b/app"), b.job(t, "team/app:1", "c/app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range b.image.Blobs() {
		if got := b.source.BytesSentOf(d.Digest); got != d.Size {
			t.Errorf("of a blob of %d bytes %d were read", d.Size, got)
		}
	}
}

func TestASecondCopyAsksLittle(t *testing.T) {
	b := newBed(t, behavior{})
	if _, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app")); err != nil {
		t.Fatal(err)
	}
	b.target.forget()
	b.source.ResetCounts()
	report, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app"))
	if err != nil || !report.Images[0].Unchanged {
		t.Fatalf("%v, %+v", err, report)
	}
	if n := len(b.target.requests) + len(b.source.Requests()); n >= 10 {
		t.Errorf("%d requests: %v", n, b.target.requests)
	}
	if b.source.BytesSent() > 64<<10 {
		t.Errorf("%d bytes were read", b.source.BytesSent())
	}
}

func TestABreakIsReadOnAtTheTarget(t *testing.T) {
	b := newBed(t, behavior{dropAt: 200 << 10})
	report, err := b.copy(t, transfer.Options{Blobs: 1}, b.job(t, "team/app:1", "a/app"))
	if err != nil {
		t.Fatal(err)
	}
	if n := b.target.count("PATCH "); n != 1 {
		t.Errorf("%d pieces were sent to read on", n)
	}
	if report.Sent.Blobs != len(b.image.Blobs()) {
		t.Errorf("got %+v", report.Sent)
	}
}

func TestASourceThatBreaksIsReadOn(t *testing.T) {
	b := newBed(t, behavior{})
	b.source.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{Times: 3, Truncate: true, TruncateAfter: 100 << 10}}})
	if _, err := b.copy(t, transfer.Options{Blobs: 1}, b.job(t, "team/app:1", "a/app")); err != nil {
		t.Fatal(err)
	}
	if n := b.target.count("PATCH ") + b.target.count("GET /v2/a/app/blobs/uploads"); n != 0 {
		t.Errorf("the target noticed: %d requests", n)
	}
}

func TestNothingIncompleteIsPublished(t *testing.T) {
	for fact, c := range map[string]struct {
		behave behavior
		source registrytest.Behavior
		code   oci.Code
		says   string
	}{
		"the quota ends in the middle":      {behave: behavior{quota: layer + layer/2}, code: oci.CodeDenied, says: "takes no more"},
		"a media type is refused":           {behave: behavior{refusedType: oci.MediaTypeImageIndex}, code: oci.CodeManifestInvalid, says: "does not take manifests of type"},
		"another digest is echoed":          {behave: behavior{wrongDigest: true}, code: oci.CodeDigestInvalid, says: "says that it has stored"},
		"the bytes are others, says target": {behave: behavior{corruptBlobs: true}, code: oci.CodeDigestInvalid, says: "others than its digest says"},
		"the source's bytes are others":     {source: registrytest.Behavior{Faults: []registrytest.Fault{{Corrupt: true}}}, code: oci.CodeDigestInvalid, says: "others than its digest says"},
		"the source has lost a blob":        {source: registrytest.Behavior{Faults: []registrytest.Fault{{Answer: registrytest.Status(404)}}}, code: oci.CodeBlobUnknown, says: "does not have it"},
		"manifests are never taken":         {behave: behavior{unavailable: 1 << 20}, code: oci.CodeUnavailable},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, c.behave)
			b.source.SetBehavior(c.source)
			report, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app"))
			if oci.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if report.Images[0].Err == nil {
				t.Error("the report tells of no error")
			}
			if tags := b.target.tags("a/app"); len(tags) != 0 {
				t.Errorf("published: %v", tags)
			}
		})
	}
}

func TestWhatIsToldBeforeAnythingIsSent(t *testing.T) {
	b := newBed(t, behavior{noReferrers: true})
	good, missing := b.job(t, "team/app:1", "a/app"), b.job(t, "team/gone:1", "a/gone")
	other := b.source.AddImage("team/other", "1", registrytest.ImageSpec{Layers: []int64{1}, Seed: 8})
	collides := b.job(t, "team/other:1", "a/app")
	windows := good
	windows.Platforms = []transfer.Platform{{OS: "windows", Architecture: "amd64"}}
	for fact, jobs := range map[string][]transfer.Job{
		"an image that is not there":    {good, missing},
		"two sources on one name":       {good, collides},
		"a platform that is not there":  {windows},
		"the same, in the other order":  {collides, good},
		"two platforms on the one name": {good, windows},
	} {
		t.Run(fact, func(t *testing.T) {
			if _, err := b.copy(t, transfer.Options{}, jobs...); err == nil {
				t.Error("it is no error")
			}
			for _, method := range []string{"POST", "PUT", "PATCH"} {
				if n := b.target.count(method); n != 0 {
					t.Errorf("%d times %s", n, method)
				}
			}
		})
	}
	report, err := b.copy(t, transfer.Options{KeepGoing: true}, missing, good)
	if oci.CodeOf(err) == "" || report.Images[0].Err == nil || report.Images[1].Err != nil || len(b.target.tags("a/app")) != 1 {
		t.Errorf("the others do not keep going: %v", err)
	}
	var collision *transfer.Collision
	if _, err = b.copy(t, transfer.Options{KeepGoing: true}, good, collides); !errors.As(err, &collision) || collision.Target.Tag.String() != "1" {
		t.Errorf("got %v", err)
	}
	if _, err := b.target.registry(t).Repository("a/app"); err != nil || other.Manifest.Descriptor.Size == 0 {
		t.Fatal(err)
	}
}

func TestADryRunSendsNothingAndCounts(t *testing.T) {
	b := newBed(t, behavior{})
	report, err := b.copy(t, transfer.Options{DryRun: true}, b.job(t, "team/app:1", "a/app"))
	if err != nil || report.Sent.Blobs != len(b.image.Blobs()) || report.Images[0].Unchanged {
		t.Errorf("%v, %+v", err, report)
	}
	if n := b.target.count("P"); n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestPlatforms(t *testing.T) {
	b := newBed(t, behavior{})
	job := b.job(t, "team/app:1", "a/app")
	job.Platforms = []transfer.Platform{{OS: "linux", Architecture: "arm64"}}
	report, err := b.copy(t, transfer.Options{}, job)
	if err != nil || report.Images[0].Descriptor.Digest != b.image.Platforms[1].Descriptor.Digest {
		t.Fatalf("%v: got %s", err, report.Images[0].Descriptor.Digest)
	}
	if report.Images[0].Manifests != 1 || b.source.BytesSentOf(b.image.Layers[0][0].Digest) != 0 {
		t.Errorf("another platform was read: %+v", report.Images[0])
	}
	// The whole index afterwards is not taken for present.
	if report, err = b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app")); err != nil || report.Images[0].Unchanged {
		t.Fatalf("%v, %+v", err, report.Images[0])
	}
	if got := b.target.manifests["a/app"]["1"]; string(got.raw) != string(b.image.Manifest.Bytes) {
		t.Errorf("the tag is %s", got.raw)
	}
}

func TestReferrersGoAlong(t *testing.T) {
	for fact, none := range map[string]bool{"by the API": false, "by the tag of the specification": true} {
		t.Run(fact, func(t *testing.T) {
			b := newBed(t, behavior{noReferrers: none})
			digest := b.image.Manifest.Descriptor
			one := b.source.AddArtifact("team/app", "", "application/spdx+json", digest, []byte("{}"))
			two := b.source.AddArtifact("team/app", "", "application/signature", one.Descriptor, []byte("signed"))
			cosign := "sha256-" + digest.Digest.Hex() + ".sig"
			b.source.AddImage("team/app", cosign, registrytest.ImageSpec{Layers: []int64{10}, Seed: 99})
			job := b.job(t, "team/app:1", "a/app")
			job.Referrers = true
			var told []transfer.Note
			if _, err := b.copy(t, transfer.Options{Noted: func(n []transfer.Note) { told = n }}, job); err != nil {
				t.Fatal(err)
			}
			for _, m := range []oci.Manifest{one, two} {
				if got := b.target.manifests["a/app"][m.Descriptor.Digest.String()]; string(got.raw) != string(m.Bytes) {
					t.Errorf("%s is missing", m.Descriptor.Digest)
				}
			}
			want := []string{"1", cosign}
			if none {
				want = append(want, "sha256-"+digest.Digest.Hex(), "sha256-"+one.Descriptor.Digest.Hex())
			}
			slices.Sort(want)
			if got := b.target.tags("a/app"); !slices.Equal(got, want) {
				t.Errorf("the tags are %v, want %v", got, want)
			}
			if (len(told) == 1) != none {
				t.Errorf("told %v", told)
			}
			report, err := b.copy(t, transfer.Options{}, job)
			if err != nil || !report.Images[0].Unchanged {
				t.Errorf("the second time: %v, %+v", err, report.Images[0])
			}
		})
	}
}

func TestACopyThatWasCutOffIsFinished(t *testing.T) {
	b := newBed(t, behavior{})
	for n := range 12 {
		ctx, cancel := context.WithCancel(t.Context())
		var steps atomic.Int64 // blobs and manifests go at once
		pause := func(ctx context.Context, k int, err error) error { return atOnce(ctx, k, err) }
		w := &cutting{Registry: open(t, b.target.registry(t), true), cut: func() {
			if steps.Add(1) > int64(n) {
				cancel()
			}
		}}
		_, err := transfer.Copy(ctx, []transfer.Job{b.job(t, "team/app:1", "a/app")}, w, transfer.Options{Blobs: 1, Images: 1, Pause: pause})
		cancel()
		if err == nil {
			break
		}
		if slices.Contains(b.target.tags("a/app"), "1") && n < 2 {
			t.Errorf("published after %d steps", n)
		}
	}
	if _, err := b.copy(t, transfer.Options{}, b.job(t, "team/app:1", "a/app")); err != nil || len(b.target.tags("a/app")) != 1 {
		t.Errorf("%v: %v", err, b.target.tags("a/app"))
	}
	for _, d := range b.image.Blobs() { // each was read to its end once
		if got := b.target.count("PUT "); got > 60 {
			t.Errorf("%s: %d writes", d.Digest, got)
		}
	}
}

// A cutting target ends its run after some steps.
type cutting struct {
	*Registry
	cut func()
}

func (c *cutting) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, from []oci.Repository) error {
	c.cut()
	return c.Registry.PutBlob(ctx, repo, d, open, from)
}

func (c *cutting) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	c.cut()
	return c.Registry.PutManifest(ctx, repo, d, raw, tags)
}

func TestEndpoints(t *testing.T) {
	for name, want := range map[string]string{
		"docker.io": "https://registry-1.docker.io", "quay.io": "https://quay.io", "localhost:5000": "http://localhost:5000",
		"127.0.0.1:5000": "http://127.0.0.1:5000", "10.0.0.1:5000": "https://10.0.0.1:5000", "plain.example:80": "http://plain.example:80",
		"localhost.example": "https://localhost.example",
	} {
		r, err := oci.ParseRegistry(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := Endpoint(r, []string{"plain.example:80"}).String(); got != want {
			t.Errorf("%s is at %s, want %s", name, got, want)
		}
	}
}
