package cache_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"sampan/internal/oci"
)

// An account notes what it is asked to admit.
type account struct {
	costs []oci.Cost
	err   error
}

func (a *account) context(ctx context.Context) context.Context {
	return oci.WithAdmission(ctx, func(_ context.Context, c oci.Cost) error {
		a.costs = append(a.costs, c)
		return a.err
	})
}

func TestWhatHasToComeIsAdmittedFirst(t *testing.T) {
	f := newFixture(t)
	m := f.up.push(t, "docker.io/team/app:1", []byte("a layer"))
	repo, layer := mustRepo(t, "docker.io/team/app"), oci.DigestOf([]byte("a layer"))
	pull := func(a *account) error {
		ctx := a.context(t.Context())
		if _, err := f.ResolveTag(ctx, repo, mustTag("1")); err != nil {
			return err
		}
		if _, err := f.Manifest(ctx, repo, m.Descriptor.Digest); err != nil {
			return err
		}
		b, err := f.Blob(ctx, repo, layer)
		if err != nil {
			return err
		}
		defer b.Close()
		_, err = io.Copy(io.Discard, b)
		return err
	}
	refused := errors.New("too much")
	none := &account{err: refused}
	if err := pull(none); !errors.Is(err, refused) || f.up.total() != 0 {
		t.Errorf("%v, and the upstream was asked", err)
	}
	cold := &account{}
	if err := pull(cold); err != nil {
		t.Fatal(err)
	}
	if len(cold.costs) != 2 || cold.costs[0].Blob || !cold.costs[1].Blob || cold.costs[1].Size != int64(len("a layer")) {
		t.Errorf("a cold pull costs %+v", cold.costs)
	}
	f.fills.Close() // commits
	if err := pull(none); err != nil {
		t.Errorf("what is here is refused: %v", err)
	}
	f.policy.FreshFor = 0
	warm := &account{err: refused}
	if err := pull(warm); err != nil || len(warm.costs) != 0 {
		t.Errorf("a tag that is asked for again costs %+v, %v", warm.costs, err)
	}
}

// A question that several share is nobody's: that one of them may ask for nothing
// more is not the others' affair.
func TestARefusalOfOneIsNotThatOfOthers(t *testing.T) {
	f := newFixture(t)
	f.policy.FreshFor = 0
	f.up.push(t, "docker.io/team/app:1", []byte("one"))
	repo := mustRepo(t, "docker.io/team/app")
	if _, err := f.ResolveTag(t.Context(), repo, mustTag("1")); err != nil {
		t.Fatal(err)
	}
	moved := f.up.push(t, "docker.io/team/app:1", []byte("two"))
	poor := &account{err: errors.New("too much")}
	got, err := f.ResolveTag(poor.context(t.Context()), repo, mustTag("1")) // begins the question that finds that it has moved
	if err != nil || got.Digest != moved.Descriptor.Digest || len(poor.costs) != 0 {
		t.Errorf("%v, %v, %+v", got.Digest, err, poor.costs)
	}
}

// Whoever asks for digests out of the blue has the upstream asked as well.
func TestABlobThatNoManifestNamesIsAdmitted(t *testing.T) {
	f := newFixture(t)
	f.up.push(t, "docker.io/team/app:1", []byte("a layer"))
	repo, layer := mustRepo(t, "docker.io/team/app"), oci.DigestOf([]byte("a layer"))
	f.policy.MissingFor = time.Hour
	madeUp := oci.DigestOf([]byte("made up"))
	poor := &account{err: errors.New("too much")}
	if _, err := f.StatBlob(poor.context(t.Context()), repo, madeUp); !errors.Is(err, poor.err) || f.up.total() != 0 {
		t.Errorf("%v, and the upstream was asked %d times", err, f.up.total())
	}
	a := &account{}
	if _, err := f.StatBlob(a.context(t.Context()), repo, madeUp); !oci.IsUnknown(err) || len(a.costs) != 1 {
		t.Errorf("%v, %+v", err, a.costs)
	}
	if _, err := f.StatBlob(poor.context(t.Context()), repo, madeUp); !oci.IsUnknown(err) || len(poor.costs) != 1 {
		t.Errorf("what is known to be refused costs: %v, %+v", err, poor.costs)
	}
	a.costs = nil
	b, err := f.Blob(a.context(t.Context()), repo, layer)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	want := []oci.Cost{{Blob: true, Size: -1, Digest: layer}, {Blob: true, Size: int64(len("a layer")), Digest: layer, Late: true}}
	if !slices.Equal(a.costs, want) {
		t.Errorf("a blob of unknown size costs %+v", a.costs)
	}
}

// What the upstream refuses, or fails to send, is given back.
func TestABlobThatDoesNotComeIsGivenBack(t *testing.T) {
	f := newFixture(t)
	f.up.push(t, "docker.io/team/app:1", []byte("a layer"))
	f.pull(t, "docker.io/team/app", "1")
	repo, layer := mustRepo(t, "docker.io/team/app"), oci.DigestOf([]byte("a layer"))
	f.policy.MissingFor = time.Hour
	f.up.set(oci.Errorf(oci.CodeDenied, "not for you"))
	a := &account{}
	if _, err := f.Blob(a.context(t.Context()), repo, layer); !errors.Is(err, oci.ErrDenied) {
		t.Fatal(err)
	}
	size := int64(len("a layer"))
	want := []oci.Cost{{Blob: true, Size: size, Digest: layer}, {Blob: true, Digest: layer, Late: true}}
	if !slices.Equal(a.costs, want) {
		t.Errorf("a blob that is refused costs %+v", a.costs)
	}
	f.up.total()
	poor := &account{err: errors.New("too much")}
	if _, err := f.Blob(poor.context(t.Context()), repo, layer); !errors.Is(err, oci.ErrDenied) || f.up.total() != 0 {
		t.Errorf("what is known to be refused: %v, %+v", err, poor.costs)
	}
}

// A registry whose word does not count has its blobs read past the store, which
// costs its budget like any other fetch, whether the bytes are here or not.
func TestABlobThatIsReadPastTheStoreIsAdmitted(t *testing.T) {
	f := newPrivateFixture(t)
	f.up.push(t, "corp.example/team/app:1", layerA)
	f.up.push(t, "evil.example/x/app:1", layerA)
	layer, evil := oci.DigestOf(layerA), mustRepo(t, "evil.example/x/app")
	if err := f.index.SetPrivate(t.Context(), true, layer); err != nil {
		t.Fatal(err)
	}
	for _, fact := range []string{"not here", "here, for others"} {
		if fact != "not here" {
			f.pull(t, "corp.example/team/app", "1", layerA)
			f.fills.Close() // commits
		}
		f.up.total()
		poor := &account{err: errors.New("too much")}
		if b, err := f.Blob(poor.context(t.Context()), evil, layer); !errors.Is(err, poor.err) || f.up.total() != 0 {
			t.Errorf("%s: %v, %v, and the upstream was asked", fact, b, err)
		}
		a := &account{}
		b, err := f.Blob(a.context(t.Context()), evil, layer)
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Close()
		if n := len(a.costs); n != 2 || !a.costs[1].Late || a.costs[1].Size != int64(len(layerA)) {
			t.Errorf("%s: it costs %+v", fact, a.costs)
		}
	}
}
