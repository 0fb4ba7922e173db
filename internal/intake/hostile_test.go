package intake_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"sampan/internal/intake"
	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// What is here of a private blob in part is given to nobody for its end alone: else a
// digest and a guess of the last bytes would open it.
func TestAPartOfWhatIsPrivateIsNobodyElses(t *testing.T) {
	const cut = 2000
	for name, begin := range map[string]func(*testing.T, *mirror){
		"a part that was brought": func(t *testing.T, m *mirror) {
			err := m.PutBlob(t.Context(), repository(t, "corp.example/app"), described(two), (&sender{bytes: two, cut: cut}).open, nil)
			if !errors.Is(err, intake.ErrShort) {
				t.Fatal(err)
			}
		},
		"a part that was fetched": func(t *testing.T, m *mirror) { m.fetched(t, "corp.example/app", two[:cut]) },
		"all of it, of which nobody was told": func(t *testing.T, m *mirror) {
			m.fetched(t, "corp.example/app", two)
		},
	} {
		for _, repo := range []string{"docker.io/library/app", "corp.example/other", "evil.example/app"} {
			t.Run(name+" for "+repo, func(t *testing.T) {
				m := newMirror(t, disk.Limits{})
				begin(t, m)
				r := repository(t, repo)
				guess := append(bytes.Repeat([]byte("?"), cut), two[cut:]...)
				s := &sender{bytes: guess}
				if err := m.PutBlob(t.Context(), r, described(two), s.open, nil); oci.CodeOf(err) != oci.CodeDigestInvalid {
					t.Errorf("who has the end alone: %v, read from %v", err, s.from)
				}
				if has, err := m.Has(t.Context(), r, described(two)); has || err != nil {
					t.Errorf("it has it: %v", err)
				}
				m.bring(t, repo, "v1", two)
			})
		}
	}
}

// fetched has bytes of a private blob left by a fetch.
func (m *mirror) fetched(t *testing.T, repo string, b []byte) {
	t.Helper()
	if _, err := m.cache.Expect(t.Context(), repository(t, repo), oci.DigestOf(two)); err != nil {
		t.Fatal(err)
	}
	in, err := m.store.Ingest(t.Context(), oci.DigestOf(two))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := in.Keep(); err != nil {
		t.Fatal(err)
	}
}

// That nothing can be marked leaves a part whose it was.
func TestAFailureGivesAPartToNobody(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	m.fetched(t, "corp.example/app", two[:2000])
	r := repository(t, "corp.example/other")
	guess := append(bytes.Repeat([]byte("?"), 2000), two[2000:]...)
	m.index.lost.Store(true)
	if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: guess}).open, nil); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	m.index.lost.Store(false)
	if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: guess}).open, nil); oci.CodeOf(err) != oci.CodeDigestInvalid {
		t.Errorf("got %v", err)
	}
}

// A repository's own part of a private blob goes on, unless somebody else had it meanwhile.
func TestAPrivateBlobGoesOnForItsOwnRepository(t *testing.T) {
	const repo = "corp.example/app"
	for name, c := range map[string]struct {
		between func(*testing.T, *mirror)
		from    int64
	}{
		"at once":                   {func(*testing.T, *mirror) {}, 2000},
		"after a fetch has gone on": {func(t *testing.T, m *mirror) { m.fetched(t, repo, two[2000:2500]) }, 0},
		"after others have begun it anew": {func(t *testing.T, m *mirror) {
			s := &sender{bytes: two, cut: 2000}
			if err := m.PutBlob(t.Context(), repository(t, "corp.example/other"), described(two), s.open, nil); !errors.Is(err, intake.ErrShort) {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t, disk.Limits{})
			s := &sender{bytes: two, cut: 2000}
			if err := m.PutBlob(t.Context(), repository(t, repo), described(two), s.open, nil); !errors.Is(err, intake.ErrShort) {
				t.Fatal(err)
			}
			c.between(t, m)
			s = &sender{bytes: two}
			if err := m.PutBlob(t.Context(), repository(t, repo), described(two), s.open, nil); err != nil || s.from[0] != c.from {
				t.Errorf("it was read from %v, want %d: %v", s.from, c.from, err)
			}
		})
	}
}

// A size that is a lie is seen before the bytes are read, also of what is here for others.
func TestASizeThatCannotBeIsRefused(t *testing.T) {
	for _, size := range []int64{int64(len(two)) + 1, math.MaxInt64 - 1, math.MaxInt64} {
		m := newMirror(t, disk.Limits{MaxSize: disk.Bound{Bytes: 16 << 20}})
		m.bring(t, "corp.example/app", "v1", two)
		d, s := described(two), &sender{bytes: two}
		d.Size = size
		if err := m.PutBlob(t.Context(), repository(t, "docker.io/library/app"), d, s.open, nil); oci.CodeOf(err) != oci.CodeSizeInvalid || len(s.from) > 0 {
			t.Errorf("%d: read from %v: %v", size, s.from, err)
		}
	}
	m := newMirror(t, disk.Limits{})
	d := described(two)
	d.Size = math.MaxInt64
	if err := m.PutBlob(t.Context(), repository(t, "docker.io/library/app"), d, (&sender{bytes: two}).open, nil); err == nil {
		t.Error("more than any disk has is taken")
	}
}

// What is still in memory, and no longer in the store, is not had: a restart would forget it.
func TestAManifestThatHasLeftTheStoreIsNotHad(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	const repo = "docker.io/library/app"
	d := m.bring(t, repo, "v1", two)
	if err := m.store.Delete(t.Context(), d.Digest); err != nil {
		t.Fatal(err)
	}
	r := repository(t, repo)
	if has, err := m.Has(t.Context(), r, d); has || err != nil {
		t.Errorf("it is had: %v", err)
	}
	if _, err := m.ResolveTag(t.Context(), r, tag(t, "v1")); !oci.IsUnknown(err) {
		t.Errorf("its tag is told: %v", err)
	}
	m.bring(t, repo, "v1", two)
	if _, err := m.store.Lookup(t.Context(), d.Digest); err != nil {
		t.Error(err)
	}
}

// Naming is not having: neither as what clients get from elsewhere, nor as a child, nor as a
// subject.
func TestAManifestThatNamesAPrivateBlobDoesNotOpenIt(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	m.bring(t, "corp.example/app", "v1", two)
	here := []byte("here")
	elsewhere := described(two)
	elsewhere.MediaType, elsewhere.URLs = "application/vnd.oci.image.layer.nondistributable.v1.tar", []string{"https://example.com/x"}
	child := described(two)
	child.MediaType = oci.MediaTypeImageManifest
	for _, repo := range []string{"docker.io/library/app", "corp.example/other", "evil.example/app"} {
		good := m.bring(t, repo, "good", here)
		for name, c := range map[string]struct {
			mediaType string
			fields    map[string]any
		}{
			"a layer from elsewhere": {oci.MediaTypeImageManifest, map[string]any{"layers": []oci.Descriptor{described(here), elsewhere}}},
			"a child":                {oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{good, child}}},
			"a subject":              {oci.MediaTypeImageManifest, map[string]any{"layers": []oci.Descriptor{described(here)}, "subject": child}},
		} {
			d, raw := document(t, c.mediaType, c.fields)
			r := repository(t, repo)
			if err := m.PutManifest(t.Context(), r, d, raw, []oci.Tag{tag(t, "v1")}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := m.read(t, repo, two); err == nil {
				t.Errorf("%s opens it for %s", name, repo)
			}
			if _, err := m.cache.Manifest(t.Context(), r, child.Digest); err == nil {
				t.Errorf("%s opens it for %s as a manifest", name, repo)
			}
		}
	}
}

// A startled store has something happen before the next ingest.
type startled struct {
	*disk.Store
	before func()
}

func (s *startled) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
	return s.Store.Ingest(ctx, d)
}

// Bytes that come for everybody while a private repository begins to bring the same stay
// everybody's.
func TestWhatComesForEverybodyMeanwhileStaysEverybodys(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	s := &startled{m.store, func() { m.bring(t, "docker.io/library/app", "v1", two) }}
	i, err := intake.New(intake.Options{Cache: m.cache, Store: s, Log: m.log})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.PutBlob(t.Context(), repository(t, "corp.example/app"), described(two), (&sender{bytes: two}).open, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.read(t, "docker.io/library/app", two); err != nil {
		t.Error(err)
	}
	m.wantAsked(t, 0)
}

// What a load has been told is here does not leave for what the same load brings next.
func TestWhatIsHadIsUsed(t *testing.T) {
	m := newMirror(t, disk.Limits{MaxSize: disk.Bound{Bytes: 16 << 20}})
	r := repository(t, "docker.io/library/app")
	put := func(b []byte) {
		t.Helper()
		if err := m.PutBlob(t.Context(), r, described(b), (&sender{bytes: b}).open, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(two)
	for n := range 3 {
		put(bytes.Repeat([]byte{byte(n)}, 4<<20))
	}
	if has, err := m.Has(t.Context(), r, described(two)); !has || err != nil {
		t.Fatalf("%t %v", has, err)
	}
	put(bytes.Repeat([]byte{9}, 6<<20))
	if !m.stored(t, two) {
		t.Error("it has left")
	}
}
