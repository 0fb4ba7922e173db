package upstream

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// start runs a simulated registry and a Registry in front of it.
func start(t *testing.T, ro registrytest.Options, o Options) (*registrytest.Registry, *Registry) {
	t.Helper()
	reg := registrytest.StartTest(t, ro)
	if o.Transport == nil {
		o.Transport = reg.Transport()
	}
	return reg, open(t, o, reg.URL())
}

func presets() map[string]registrytest.Behavior {
	return map[string]registrytest.Behavior{
		"plain":     {},
		"docker.io": registrytest.DockerHub(),
		"quay.io":   registrytest.Quay(),
		"ghcr.io":   registrytest.GHCR(),
		"gcr.io":    registrytest.GCR(),
		"k8s":       registrytest.K8s(),
		"mcr":       registrytest.MCR(),
		"ecr": {
			Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer, Scope: "aws"},
			Redirect:  registrytest.Redirect{Status: 307, Head: true, RejectHead: true, RejectAuthorization: true},
		},
		"pkg.dev": {Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer, NoService: true, PingOnly: true}},
	}
}

func TestEveryKindOfRegistryCanBePulledFrom(t *testing.T) {
	for name, behavior := range presets() {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%v", name, tls), func(t *testing.T) {
				reg, r := start(t, registrytest.Options{TLS: tls, Behavior: behavior}, Options{})
				pull(t, reg, r)
			})
		}
	}
}

// pull reads a whole image and holds the number of requests to the promise.
func pull(t *testing.T, reg *registrytest.Registry, r *Registry) {
	t.Helper()
	const layers = 6
	most := layers + 1 + 4 // the config, and 401, token, HEAD and GET of the manifest
	if reg.Behavior().Challenge.PingOnly {
		most++
	}
	ctx, repo := t.Context(), repository(t, "library/app")
	img := reg.AddImage("library/app", "v1", registrytest.ImageSpec{Layers: []int64{1, 100, 1 << 10, 64 << 10, 300 << 10, 1 << 20}})

	d, err := r.ResolveTag(ctx, repo, tag(t, "v1"))
	if err != nil {
		t.Fatal(err)
	}
	want := img.Manifest.Descriptor
	if d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
		t.Fatalf("resolved %+v, want %+v", d, want)
	}
	m, err := r.Manifest(ctx, repo, d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Bytes) != string(img.Manifest.Bytes) || m.Descriptor.MediaType != want.MediaType {
		t.Errorf("another manifest: %+v", m.Descriptor)
	}
	for _, blob := range img.Blobs() {
		b, err := r.Blob(ctx, repo, blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Descriptor(); got.Size != blob.Size || got.Digest != blob.Digest {
			t.Errorf("blob is %+v, want %+v", got, blob)
		}
		if ok, err := blob.Digest.VerifyReader(b); !ok || err != nil {
			t.Errorf("blob of %d bytes: right %v, error %v", blob.Size, ok, err)
		}
		_ = b.Close()
	}
	if n := reg.Count("") - reg.Count(registrytest.KindCDN); n > most {
		t.Errorf("%d requests besides redirects, want at most %d", n, most)
	}
	if n := reg.TokensIssued(); n > 1 {
		t.Errorf("%d tokens", n)
	}
	for _, req := range reg.Requests() {
		if req.Kind == registrytest.KindCDN && (req.Authorization != "" && req.Host != reg.Host() || req.Method == http.MethodHead) {
			t.Errorf("redirect target got %s with authorization %q", req.Method, req.Authorization)
		}
		if req.AcceptEncoding != "identity" {
			t.Errorf("%s %s had Accept-Encoding %q", req.Method, req.Path, req.AcceptEncoding)
		}
	}
}

func TestStatBlobConfirmsWithoutTheBytes(t *testing.T) {
	for name, behavior := range presets() {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			blob := reg.AddBlob("library/app", 10<<20, 1)
			d, err := r.StatBlob(t.Context(), repository(t, "library/app"), blob.Digest)
			if err != nil || d.Size != blob.Size {
				t.Errorf("got %+v, %v", d, err)
			}
			if n := reg.BytesSent(); n > 1<<20 {
				t.Errorf("%d bytes were sent", n)
			}
			_, err = r.StatBlob(t.Context(), repository(t, "library/app"), oci.DigestOf(nil))
			wantCode(t, err, oci.CodeBlobUnknown)
		})
	}
}

func TestWhatIsNotThereIsUnknown(t *testing.T) {
	behaviors := presets()
	for form := registrytest.MissingSpec; form <= registrytest.MissingEmpty; form++ {
		if form != registrytest.MissingDenied {
			behaviors[fmt.Sprint("form ", form)] = registrytest.Behavior{Missing: form}
			behaviors[fmt.Sprint("bearer, form ", form)] = registrytest.Behavior{
				Missing: form, Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer},
			}
		}
	}
	for name, behavior := range behaviors {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			reg.AddImage("library/app", "v1", registrytest.ImageSpec{})
			ctx, absent := t.Context(), oci.DigestOf([]byte("absent"))
			for _, path := range []string{"library/app", "no/such"} {
				repo := repository(t, path)
				_, tagErr := r.ResolveTag(ctx, repo, tag(t, "absent"))
				_, getErr := r.TaggedManifest(ctx, repo, tag(t, "absent"))
				_, digestErr := r.Manifest(ctx, repo, absent)
				_, blobErr := r.Blob(ctx, repo, absent)
				for _, err := range []error{tagErr, getErr, digestErr, blobErr} {
					if !oci.IsUnknown(err) {
						t.Errorf("%s: got %v", path, err)
					}
				}
			}
			before := reg.Count("")
			_, err := r.Blob(ctx, repository(t, "no/such2"), absent)
			if n := reg.Count("") - before; !oci.IsUnknown(err) || n > 3 {
				t.Errorf("%d requests for one that is missing: %v", n, err)
			}
		})
	}
}

func TestManifestForms(t *testing.T) {
	tests := map[string]struct {
		form registrytest.ManifestForm
		want oci.Code
	}{
		"schema 1 for those who do not ask":  {form: registrytest.ManifestForm{Schema1: true}},
		"no digest on HEAD":                  {form: registrytest.ManifestForm{NoDigestOnHead: true}},
		"no digest":                          {form: registrytest.ManifestForm{NoDigest: true}},
		"wrong digest":                       {form: registrytest.ManifestForm{WrongDigest: true}, want: oci.CodeUnavailable},
		"parameters on the type":             {form: registrytest.ManifestForm{ContentTypeSuffix: "; charset=utf-8"}},
		"no type":                            {form: registrytest.ManifestForm{NoContentType: true}},
		"type is json":                       {form: registrytest.ManifestForm{ContentType: "application/json"}},
		"type is text":                       {form: registrytest.ManifestForm{ContentType: "text/plain; charset=utf-8"}},
		"type is html although it is not":    {form: registrytest.ManifestForm{ContentType: "text/html"}},
		"no length":                          {form: registrytest.ManifestForm{Chunked: true}},
		"bytes that the digest lacks":        {form: registrytest.ManifestForm{PadTo: 64 << 10}, want: oci.CodeUnavailable},
		"too large":                          {form: registrytest.ManifestForm{PadTo: oci.MaxManifestSize + 1, NoDigest: true}, want: oci.CodeUnavailable},
		"too large, without length":          {form: registrytest.ManifestForm{PadTo: oci.MaxManifestSize + 1, NoDigest: true, Chunked: true}, want: oci.CodeUnavailable},
		"cache control that sampan ignores":  {form: registrytest.ManifestForm{CacheControl: "private, no-store"}},
		"neither ETag nor digest nor length": {form: registrytest.ManifestForm{NoETag: true, NoDigest: true, Chunked: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: registrytest.Behavior{Manifest: test.form}}, Options{})
			img := reg.AddImage("a/b", "v1", registrytest.ImageSpec{Docker: true})
			m, err := r.TaggedManifest(t.Context(), repository(t, "a/b"), tag(t, "v1"))
			wantCode(t, err, test.want)
			if test.want != "" {
				return
			}
			d, err := r.ResolveTag(t.Context(), repository(t, "a/b"), tag(t, "v1"))
			if err != nil {
				t.Fatal(err)
			}
			want := img.Manifest.Descriptor
			for _, got := range []oci.Descriptor{m.Descriptor, d} {
				if got.Digest != want.Digest || got.MediaType != want.MediaType || got.Size != want.Size {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
}

func TestBrokenManifestIsNoAnswerAndTheNextOneIsRight(t *testing.T) {
	on := []registrytest.Kind{registrytest.KindManifest}
	faults := map[string]registrytest.Fault{
		"corrupt":     {On: on, Corrupt: true, CorruptAt: 3},
		"html":        {On: on, Answer: registrytest.HTML},
		"truncated":   {On: on, Truncate: true, TruncateAfter: 10},
		"reset":       {On: on, Reset: true},
		"empty reply": {On: on, EmptyReply: true},
		"too short":   {On: on, LengthDelta: -1},
		"too long":    {On: on, LengthDelta: 1},
		"more":        {On: on, Extra: 5},
		"500":         {On: on, Answer: registrytest.Status(500)},
		"503":         {On: on, Answer: registrytest.Status(503)},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{}, Options{})
			img := reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
			reg.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{fault}})
			digest := img.Manifest.Descriptor.Digest
			_, err := r.Manifest(t.Context(), repository(t, "a/b"), digest)
			if oci.CodeOf(err) != oci.CodeUnavailable {
				t.Errorf("by digest: got %v", err)
			}
			reg.SetBehavior(registrytest.Behavior{})
			if _, err := r.Manifest(t.Context(), repository(t, "a/b"), digest); err != nil {
				t.Errorf("after it has healed: %v", err)
			}
		})
	}
}

func TestSHA512ManifestsAreProven(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	blob := reg.AddBlobSHA512("a/b", 1000, 1)
	b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if ok, err := blob.Digest.VerifyReader(b); !ok || err != nil {
		t.Errorf("right %v, error %v", ok, err)
	}
}

func TestSilenceIsUnavailableAfterTheTimeout(t *testing.T) {
	for _, kind := range []registrytest.Kind{registrytest.KindManifest, registrytest.KindToken, registrytest.KindTags, registrytest.KindReferrers, registrytest.KindBlob} {
		for _, headers := range []bool{false, true} {
			if headers && kind != registrytest.KindManifest && kind != registrytest.KindBlob {
				continue // these have no body to hold back
			}
			t.Run(fmt.Sprintf("%s/headers=%v", kind, headers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fault := registrytest.Fault{On: []registrytest.Kind{kind}, HangBeforeHeaders: registrytest.NewGate()}
					if headers {
						fault = registrytest.Fault{On: []registrytest.Kind{kind}, HangAfterHeaders: registrytest.NewGate()}
					}
					behavior := registrytest.Behavior{Faults: []registrytest.Fault{fault}}
					behavior.Challenge.Scheme = registrytest.SchemeBearer
					reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{Timeout: 20 * time.Second, StallTimeout: 20 * time.Second})
					img := reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
					began := time.Now()
					err := read(t.Context(), r, repository(t, "a/b"), kind, img)
					wantCode(t, err, oci.CodeUnavailable)
					if d := time.Since(began); d != 20*time.Second {
						t.Errorf("took %v", d)
					}
				})
			})
		}
	}
}

// read asks for what makes a request of the kind.
func read(ctx context.Context, r *Registry, repo oci.Repository, kind registrytest.Kind, img registrytest.Image) error {
	var err error
	switch kind {
	case registrytest.KindTags:
		_, err = r.Tags(ctx, repo)
	case registrytest.KindReferrers:
		_, err = r.Referrers(ctx, repo, img.Manifest.Descriptor.Digest)
	case registrytest.KindBlob:
		var b oci.BlobReader
		if b, err = r.Blob(ctx, repo, img.Layers[0][0].Digest); err == nil {
			_, err = img.Layers[0][0].Digest.VerifyReader(b)
			_ = b.Close()
		}
	default:
		_, err = r.Manifest(ctx, repo, img.Manifest.Descriptor.Digest)
	}
	return err
}

func TestTagsAreReadToTheLastPageAndSorted(t *testing.T) {
	for name, form := range map[string]registrytest.TagsForm{
		"one page":       {},
		"pages":          {Page: 100},
		"oldest first":   {Page: 7, Unsorted: true},
		"absolute links": {Page: 100, AbsoluteLink: true},
		"extra fields":   {Extra: true},
	} {
		t.Run(name, func(t *testing.T) {
			behavior := registrytest.DockerHub()
			behavior.Tags = form
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			img := reg.AddImage("a/b", "", registrytest.ImageSpec{})
			var want []string
			for i := range 250 {
				name := fmt.Sprintf("v%d", (i*7919)%250)
				reg.SetTag("a/b", name, img.Manifest.Descriptor.Digest)
				want = append(want, name)
			}
			slices.Sort(want)
			tags, err := r.Tags(t.Context(), repository(t, "a/b"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tag := range tags {
				got = append(got, tag.String())
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %d tags, want %d: %v", len(got), len(want), got)
			}
			_, err = r.Tags(t.Context(), repository(t, "no/such"))
			wantCode(t, err, oci.CodeNameUnknown)
		})
	}
}

func TestReferrersWithAndWithoutTheAPI(t *testing.T) {
	for name, behavior := range presets() {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			img := reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
			lone := reg.AddImage("a/b", "v2", registrytest.ImageSpec{Seed: 2})
			want := map[oci.Digest]bool{}
			for _, kind := range []string{"application/x.sbom", "application/x.signature"} {
				want[reg.AddArtifact("a/b", "", kind, img.Manifest.Descriptor, []byte(kind)).Descriptor.Digest] = true
			}
			list, err := r.Referrers(t.Context(), repository(t, "a/b"), img.Manifest.Descriptor.Digest)
			if err != nil || len(list) != len(want) {
				t.Fatalf("got %d, %v", len(list), err)
			}
			for _, d := range list {
				if !want[d.Digest] || d.ArtifactType == "" {
					t.Errorf("got %+v", d)
				}
			}
			list, err = r.Referrers(t.Context(), repository(t, "a/b"), lone.Manifest.Descriptor.Digest)
			if err != nil || list == nil || len(list) != 0 {
				t.Errorf("without referrers: %v, %v", list, err)
			}
			reg.FailNext(registrytest.KindReferrers, 1, registrytest.HTML)
			if _, err = r.Referrers(t.Context(), repository(t, "a/b"), lone.Manifest.Descriptor.Digest); err != nil {
				t.Errorf("a web page in place of the API: %v", err)
			}
			reg.FailNext(registrytest.KindReferrers, 1, registrytest.Status(502))
			_, err = r.Referrers(t.Context(), repository(t, "a/b"), lone.Manifest.Descriptor.Digest)
			wantCode(t, err, oci.CodeUnavailable)
		})
	}
}
