package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sampan/internal/cache"
	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/refs"
)

// newPrivateFixture is newFixture where repositories of corp.example are private,
// and evil.example is a registry that may say anything.
func newPrivateFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.private(t, f.index)
	return f
}

// private makes the cache of a fixture that of newPrivateFixture over an index.
func (f *fixture) private(t *testing.T, index refs.Index) {
	t.Helper()
	var err error
	f.Cache, err = cache.New(cache.Options{
		Store:    f.store,
		Refs:     index,
		Fills:    f.fills,
		Upstream: func(oci.Registry) (oci.Reader, error) { return f.up, nil },
		Private:  func(r oci.Repository) bool { return r.Registry().String() == "corp.example" },
		Vouches:  func(r oci.Registry) bool { return r.String() != "evil.example" },
		Policy:   func(oci.Repository) cache.Freshness { return f.policy },
		Prefetch: true,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Cache.Close)
}

// name makes an index that names digests as a manifest and as blobs, without
// having any of them.
func (r *registry) name(t *testing.T, ref string, manifest oci.Manifest, blobs ...[]byte) oci.Manifest {
	t.Helper()
	m := r.push(t, ref, blobs...)
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := oci.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		delete(r.blobs, p.Repository.String()+"@"+oci.DigestOf(b).String())
	}
	if manifest.Descriptor.Digest.IsZero() {
		return m
	}
	doc, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex,
		"manifests": []oci.Descriptor{manifest.Descriptor, m.Descriptor},
	})
	if err != nil {
		t.Fatal(err)
	}
	index := oci.Manifest{Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: oci.DigestOf(doc), Size: int64(len(doc))}, Bytes: doc}
	r.tags[p.Repository.String()+":"+p.Tag.String()] = index
	r.manifests[p.Repository.String()+"@"+index.Descriptor.Digest.String()] = index
	return m
}

func (f *fixture) blob(t *testing.T, repo string, want []byte) error {
	t.Helper()
	b, err := f.Blob(t.Context(), mustRepo(t, repo), oci.DigestOf(want))
	if err != nil {
		return err
	}
	got, err := io.ReadAll(b)
	if err == nil && !bytes.Equal(got, want) {
		t.Errorf("%s: got other bytes", repo)
	}
	return errors.Join(err, b.Close())
}

// TestNamingAPrivateDigestDoesNotOpenIt is the attack: somebody who may push a
// manifest to a public repository names what only others may read.
func TestNamingAPrivateDigestDoesNotOpenIt(t *testing.T) {
	for _, order := range []string{"named before it is here", "named after it is here"} {
		t.Run(order, func(t *testing.T) {
			f := newPrivateFixture(t)
			secret := f.up.push(t, "corp.example/team/app:v1", layerA, layerB)
			named := f.up.name(t, "quay.io/evil/app:v1", secret, layerA)
			attack := func() {
				f.pull(t, "quay.io/evil/app", "v1")
				if _, err := f.Manifest(t.Context(), mustRepo(t, "quay.io/evil/app"), named.Descriptor.Digest); err != nil {
					t.Fatal(err)
				}
			}
			if strings.Contains(order, "before") {
				attack()
			}
			f.pull(t, "corp.example/team/app", "v1", layerA, layerB)
			f.fills.Close()
			if strings.Contains(order, "after") {
				attack()
			}
			f.up.total()
			repo := mustRepo(t, "quay.io/evil/app")
			if err := f.blob(t, "quay.io/evil/app", layerA); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("blob: %v", err)
			}
			if _, err := f.StatBlob(t.Context(), repo, oci.DigestOf(layerA)); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("stat: %v", err)
			}
			if m, err := f.Manifest(t.Context(), repo, secret.Descriptor.Digest); !errors.Is(err, oci.ErrManifestUnknown) {
				t.Errorf("manifest: %s, %v", m.Bytes, err)
			}
			if f.up.count("stat") != 2 || f.up.count("manifest") != 1 || f.up.total() != 0 {
				t.Error("its own upstream was not asked, or more than that")
			}
			// Whoever may read it still does, without a question.
			f.pull(t, "corp.example/team/app", "v1", layerA, layerB)
			if n := f.up.total(); n != 0 {
				t.Errorf("%d questions for what is held", n)
			}
		})
	}
}

func TestOnePrivateRepositoryNamesWhatAnotherHasInVain(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/a/app:v1", layerA)
	f.up.name(t, "corp.example/b/app:v1", oci.Manifest{}, layerA)
	f.pull(t, "corp.example/a/app", "v1", layerA)
	f.pull(t, "corp.example/b/app", "v1")
	if err := f.blob(t, "corp.example/b/app", layerA); !errors.Is(err, oci.ErrBlobUnknown) {
		t.Errorf("got %v", err)
	}
}

// TestAFetchOfPrivateBytesIsNotJoinedByNaming: the attacker waits in the fetch
// before the bytes are here.
func TestAFetchOfPrivateBytesIsNotJoinedByNaming(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/team/app:v1", layerA)
	f.up.name(t, "quay.io/evil/app:v1", oci.Manifest{}, layerA)
	f.pull(t, "quay.io/evil/app", "v1")
	f.pull(t, "corp.example/team/app", "v1")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := f.blob(t, "corp.example/team/app", layerA); err != nil {
				t.Errorf("owner: %v", err)
			}
		})
		all.Go(func() {
			if err := f.blob(t, "quay.io/evil/app", layerA); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("attacker: %v", err)
			}
		})
	}
	all.Wait()
}

func TestWhatAPublicRepositoryHasIsNoLongerPrivate(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/team/app:v1", layerA)
	f.pull(t, "corp.example/team/app", "v1", layerA)
	f.fills.Close()
	f.up.push(t, "quay.io/base/os:v1", layerA)
	f.up.push(t, "ghcr.io/third/app:v1", layerA)
	f.pull(t, "quay.io/base/os", "v1", layerA)
	if f.up.count("stat") != 1 || f.up.count("blob") != 1 {
		t.Error("its upstream is asked once, and the bytes are not fetched again")
	}
	f.up.total()
	f.pull(t, "ghcr.io/third/app", "v1", layerA)
	if f.up.count("tagged") != 1 || f.up.total() != 0 {
		t.Error("what is public by now costs a further question")
	}
}

func TestWhatIsHereAndPublicStaysSo(t *testing.T) {
	f := newPrivateFixture(t)
	m := f.up.push(t, "quay.io/base/os:v1", layerA)
	f.pull(t, "quay.io/base/os", "v1", layerA)
	f.fills.Close()
	f.up.push(t, "corp.example/team/app:v1", layerA) // the same manifest
	f.pull(t, "corp.example/team/app", "v1", layerA)
	for _, d := range []oci.Digest{m.Descriptor.Digest, oci.DigestOf(layerA)} {
		if private, err := f.index.Private(t.Context(), d); err != nil || private {
			t.Errorf("%s: private %v, %v", d, private, err)
		}
	}
}

// TestPublicDigestsCostNoFurtherQuestion holds the warm path of those who have
// nothing private.
func TestPublicDigestsCostNoFurtherQuestion(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "quay.io/a/app:v1", layerA, layerB)
	f.up.name(t, "ghcr.io/b/app:v1", oci.Manifest{}, layerA, layerB)
	f.pull(t, "quay.io/a/app", "v1", layerA, layerB)
	f.fills.Close()
	f.pull(t, "ghcr.io/b/app", "v1")
	f.up.total()
	f.pull(t, "ghcr.io/b/app", "v1", layerA, layerB)
	f.pull(t, "quay.io/a/app", "v1", layerA, layerB)
	if n := f.up.total(); n != 0 {
		t.Errorf("%d questions", n)
	}
}

// A liar is a registry that says it has every blob, and sends other bytes.
type liar struct {
	*registry
	size int64
}

func (l liar) StatBlob(_ context.Context, _ oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	return oci.Descriptor{Digest: d, Size: l.size}, nil
}

func (l liar) Blob(_ context.Context, _ oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	return body{bytes.NewReader(make([]byte, l.size)), oci.Descriptor{Digest: d, Size: l.size}}, nil
}

func TestTheWordOfARegistryThatMaySayAnythingDoesNotCount(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/team/app:v1", layerA)
	f.up.name(t, "evil.example/x/app:v1", oci.Manifest{}, layerA)
	var err error
	f.Cache, err = cache.New(cache.Options{
		Store: f.store, Refs: f.index, Fills: f.fills, Log: slog.New(slog.DiscardHandler),
		Policy: func(oci.Repository) cache.Freshness { return f.policy },
		Upstream: func(r oci.Registry) (oci.Reader, error) {
			if r.String() == "evil.example" {
				return liar{f.up, int64(len(layerA))}, nil
			}
			return f.up, nil
		},
		Private: func(r oci.Repository) bool { return r.Registry().String() == "corp.example" },
		Vouches: func(r oci.Registry) bool { return r.String() != "evil.example" },
	})
	if err != nil {
		t.Fatal(err)
	}
	steal := func() {
		t.Helper()
		b, err := f.Blob(t.Context(), mustRepo(t, "evil.example/x/app"), oci.DigestOf(layerA))
		if err != nil {
			t.Fatalf("it is read from where it claims to be: %v", err)
		}
		defer b.Close()
		got, err := io.ReadAll(b)
		if !errors.Is(err, fill.ErrMismatch) || bytes.Contains(got, []byte("layer")) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	f.pull(t, "corp.example/team/app", "v1", layerA)
	steal() // from the fetch or the store
	f.fills.Close()
	f.pull(t, "evil.example/x/app", "v1")
	steal()
	if _, err := f.StatBlob(t.Context(), mustRepo(t, "evil.example/x/app"), oci.DigestOf(layerA)); err != nil {
		t.Fatal(err)
	}
	steal() // although it was confirmed
	if err := f.blob(t, "corp.example/team/app", layerA); err != nil {
		t.Errorf("owner: %v", err)
	}
}

func TestAReaderOfAFetchThatBecomesPrivateEnds(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "evil.example/x/app:v1", layerA)
	b, err := f.Blob(t.Context(), mustRepo(t, "evil.example/x/app"), oci.DigestOf(layerA))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n, err := b.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Fatalf("before: %d, %v", n, err)
	}
	if err := f.index.SetPrivate(t.Context(), true, oci.DigestOf(layerA)); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	if n, err := b.Read(p); n != 0 || oci.CodeOf(err) != oci.CodeUnavailable || !bytes.Equal(p, make([]byte, 10)) {
		t.Errorf("after: %d %q, %v", n, p, err)
	}
}

// A repository that is no longer private by its configuration is asked for at its
// registry before what came from it in private is anybody's.
func TestWhatWasPrivateIsConfirmedBeforeItIsEverybodys(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/team/app:v1", layerA)
	f.pull(t, "corp.example/team/app", "v1", layerA)
	f.up.total()
	public, err := cache.New(cache.Options{
		Store: f.store, Refs: f.index, Fills: f.fills, Log: slog.New(slog.DiscardHandler),
		Upstream: func(oci.Registry) (oci.Reader, error) { return f.up, nil },
		Policy:   func(oci.Repository) cache.Freshness { return f.policy },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer public.Close()
	repo, d := mustRepo(t, "corp.example/team/app"), oci.DigestOf(layerA)
	f.up.set(oci.Errorf(oci.CodeUnauthorized, "who are you?"))
	if b, err := public.Blob(t.Context(), repo, d); oci.CodeOf(err) != oci.CodeUnauthorized {
		t.Errorf("a blob that was private: %v, %v", b, err)
	}
	f.up.set(nil)
	public.Forget()
	b, err := public.Blob(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, layerA) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// A client that gets a manifest makes its blobs come before anybody asks for them:
// they are as private as those that somebody has asked for.
func TestWhatIsPrefetchedFromAPrivateRepositoryIsPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPrivateFixture(t)
		secret := f.up.push(t, "corp.example/team/app:v1", layerA, layerB)
		named := f.up.name(t, "quay.io/evil/app:v1", secret, layerA)
		clientGets(t, f.Cache, "corp.example/team/app", secret.Descriptor.Digest)
		synctest.Wait()
		if !f.stored(t, oci.DigestOf(layerA)) || !f.stored(t, oci.DigestOf(layerB)) {
			t.Fatal("nothing was prefetched")
		}
		f.pull(t, "quay.io/evil/app", "v1")
		if _, err := f.Manifest(t.Context(), mustRepo(t, "quay.io/evil/app"), named.Descriptor.Digest); err != nil {
			t.Fatal(err)
		}
		if err := f.blob(t, "quay.io/evil/app", layerA); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("who names it: %v", err)
		}
		f.up.total()
		if err := f.blob(t, "corp.example/team/app", layerA); err != nil {
			t.Errorf("who has it: %v", err)
		}
		if n := f.up.total(); n != 0 {
			t.Errorf("%d questions for what was delivered", n)
		}
	})
}

// A forgetful index makes nothing durable.
type forgetful struct{ refs.Index }

func (forgetful) Flush(context.Context) error { return errors.New("no space left on device") }

// A mark that a crash may undo guards nothing: then the bytes do not stay either.
func TestAPrivateManifestIsNotKeptWithoutItsMark(t *testing.T) {
	f := newFixture(t)
	f.private(t, forgetful{f.index})
	secret := f.up.push(t, "corp.example/team/app:v1", layerA)
	f.pull(t, "corp.example/team/app", "v1")
	if f.stored(t, secret.Descriptor.Digest) {
		t.Error("it is in the store")
	}
	repo, d := mustRepo(t, "corp.example/team/app"), secret.Descriptor.Digest
	if m, err := f.Manifest(t.Context(), repo, d); err != nil || !bytes.Equal(m.Bytes, secret.Bytes) {
		t.Errorf("who may read it got %q, %v", m.Bytes, err)
	}
}

// Bytes that are here and not for a repository come for whoever asks, and count as
// such.
func TestWhatComesPastTheStoreIsAdmitted(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/team/app:v1", layerA)
	f.up.push(t, "evil.example/x/app:v1", layerA)
	f.pull(t, "corp.example/team/app", "v1", layerA)
	f.fills.Close()
	f.up.total()
	a := &account{err: errors.New("too much")}
	b, err := f.Blob(a.context(t.Context()), mustRepo(t, "evil.example/x/app"), oci.DigestOf(layerA))
	if !errors.Is(err, a.err) {
		t.Errorf("got %v, %v", b, err)
	}
	if len(a.costs) != 1 || !a.costs[0].Blob || a.costs[0].Digest != oci.DigestOf(layerA) {
		t.Errorf("it costs %+v", a.costs)
	}
	if n := f.up.total(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}
