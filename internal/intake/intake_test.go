package intake_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"sampan/internal/intake"
	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

var (
	one = bytes.Repeat([]byte("one "), 600_000) // more than is read at once
	two = bytes.Repeat([]byte("two "), 1000)
)

func TestWhatWasBroughtIsServedWithoutAskingAnybody(t *testing.T) {
	for _, repo := range []string{"docker.io/library/app", "corp.example/app", "evil.example/app"} {
		t.Run(repo, func(t *testing.T) {
			m := newMirror(t, disk.Limits{})
			d := m.bring(t, repo, "v1", one, two, nil)
			m.wantServed(t, repo, "v1", d, one, two, nil)
			m.wantAsked(t, 0)
			r := repository(t, repo)
			if got, err := m.ResolveTag(t.Context(), r, tag(t, "v1")); err != nil || got.Digest != d.Digest {
				t.Errorf("the tag is told as %v: %v", got, err)
			}
			if _, err := m.ResolveTag(t.Context(), r, tag(t, "v2")); !oci.IsUnknown(err) {
				t.Errorf("a tag that nobody brought: %v", err)
			}
			for _, has := range []oci.Descriptor{d, described(one), described(two)} {
				if ok, err := m.Has(t.Context(), r, has); !ok || err != nil {
					t.Errorf("%s is not had: %v", has.Digest, err)
				}
			}
		})
	}
}

func TestSignaturesAndTagsAreListedWithoutTheRegistry(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	const repo = "docker.io/library/app"
	r := repository(t, repo)
	d := m.bring(t, repo, "v1", two)
	m.bring(t, repo, "v0", one)
	about, raw := document(t, oci.MediaTypeImageManifest, map[string]any{
		"artifactType": "application/vnd.example", "subject": d, "layers": []oci.Descriptor{described(two)},
	})
	for range 2 { // the second time nothing is new
		if err := m.PutManifest(t.Context(), r, about, raw, nil); err != nil {
			t.Fatal(err)
		}
	}
	list, err := m.cache.Referrers(t.Context(), r, d.Digest)
	if err != nil || len(list) != 1 || list[0].Digest != about.Digest || list[0].ArtifactType != "application/vnd.example" {
		t.Errorf("the referrers are %v: %v", list, err)
	}
	tags, err := m.cache.Tags(t.Context(), r)
	if err != nil || len(tags) != 2 || tags[0].String() != "v0" || tags[1].String() != "v1" {
		t.Errorf("the tags are %v: %v", tags, err)
	}
	if m.net.asked.Load() == 0 {
		t.Error("a list that no registry has said is to be asked for where that can be")
	}
}

func TestWhatWasRefusedBeforeIsServedOnceItWasBrought(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	m.net.err = oci.ErrManifestUnknown
	r := repository(t, "docker.io/library/app")
	if _, err := m.cache.ResolveTag(t.Context(), r, tag(t, "v1")); !oci.IsUnknown(err) {
		t.Fatal(err)
	}
	d := m.bring(t, r.String(), "v1", two)
	m.wantAsked(t, 1)
	m.wantServed(t, r.String(), "v1", d, two)
	m.wantAsked(t, 0)
	m.fresh, m.net.err = 0, oci.ErrUnavailable // the refusal is not what the registry said last
	m.wantServed(t, r.String(), "v1", d, two)
}

func TestABlobThatBrokeOffGoesOnWhereItDid(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	const cut = 1_500_000
	err := m.PutBlob(t.Context(), r, described(one), (&sender{bytes: one, cut: cut}).open, nil)
	if !errors.Is(err, intake.ErrShort) {
		t.Fatalf("got %v, want ErrShort", err)
	}
	m.wantHave(t, one, cut)
	if has, err := m.Has(t.Context(), r, described(one)); has || err != nil {
		t.Errorf("half a blob is had: %v", err)
	}
	s := &sender{bytes: one}
	if err := m.PutBlob(t.Context(), r, described(one), s.open, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.from, []int64{cut}) {
		t.Errorf("it was read from %v", s.from)
	}
	s.from = nil
	if err := m.PutBlob(t.Context(), r, described(one), s.open, nil); err != nil || len(s.from) > 0 {
		t.Errorf("what is here was read again, from %v: %v", s.from, err)
	}
}

// Who brings a blob leaves; what has come stays.
func TestABlobWhoseSenderLeavesGoesOn(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	ctx, leave := context.WithCancel(t.Context())
	err := m.PutBlob(ctx, r, described(one), func(context.Context, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(one[:1<<20]), readerFunc(func([]byte) (int, error) {
			leave()
			return 0, context.Canceled
		}))), nil
	}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	m.wantHave(t, one, 1<<20)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLiesAreNotKept(t *testing.T) {
	lie := slices.Concat(two[:10], []byte("!"), two[11:])
	for _, c := range []struct {
		name string
		sent []byte
		want func(error) bool
	}{
		{"other bytes", lie, func(err error) bool { return oci.CodeOf(err) == oci.CodeDigestInvalid }},
		{"a byte more", append(slices.Clone(two), '!'), func(err error) bool { return errors.Is(err, intake.ErrLong) }},
		{"other bytes and more", append(slices.Clone(lie), lie...), func(err error) bool { return errors.Is(err, intake.ErrLong) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMirror(t, disk.Limits{})
			r := repository(t, "docker.io/library/app")
			if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: c.sent}).open, nil); !c.want(err) {
				t.Errorf("got %v", err)
			}
			if m.stored(t, two) {
				t.Error("it is stored")
			}
			m.wantHave(t, two, 0)
		})
	}
}

// What somebody left that was wrong keeps nobody from bringing what is right.
func TestALieThatWasLeftIsReplaced(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	lie := bytes.Repeat([]byte("lie "), 500)
	if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: lie}).open, nil); !errors.Is(err, intake.ErrShort) {
		t.Fatal(err)
	}
	m.wantHave(t, two, 2000)
	s := &sender{bytes: two}
	if err := m.PutBlob(t.Context(), r, described(two), s.open, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.from, []int64{2000, 0}) || !m.stored(t, two) {
		t.Errorf("it was read from %v", s.from)
	}
}

func TestABlobLargerThanThePartThatIsHereIsToldOf(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	long := described(two)
	long.Size += 1000
	if err := m.PutBlob(t.Context(), r, long, (&sender{bytes: two}).open, nil); !errors.Is(err, intake.ErrShort) {
		t.Fatal(err)
	}
	short := described(two)
	short.Size -= 1000
	if err := m.PutBlob(t.Context(), r, short, (&sender{bytes: two}).open, nil); !errors.Is(err, intake.ErrLong) {
		t.Fatal(err)
	}
	if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: two}).open, nil); err != nil || !m.stored(t, two) {
		t.Error(err)
	}
}

func TestOfTwoWhoBringOneBlobTheSecondIsToldToWait(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	began, wait, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- m.PutBlob(t.Context(), r, described(two), func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			close(began)
			<-wait
			return (&sender{bytes: two}).open(ctx, offset)
		}, nil)
	}()
	<-began
	s := &sender{bytes: two}
	if err := m.PutBlob(t.Context(), r, described(two), s.open, nil); !errors.Is(err, store.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	close(wait)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := m.PutBlob(t.Context(), r, described(two), s.open, nil); err != nil || len(s.from) > 0 {
		t.Errorf("it was read from %v: %v", s.from, err)
	}
}

func TestAFullDiskRefusesAndPublishesNothing(t *testing.T) {
	m := newMirror(t, disk.Limits{MaxSize: disk.Bound{Bytes: 1 << 20}})
	r := repository(t, "docker.io/library/app")
	s := &sender{bytes: one}
	if err := m.PutBlob(t.Context(), r, described(one), s.open, nil); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("got %v, want ErrUnwritable", err)
	}
	if len(s.from) > 0 {
		t.Error("what there is no room for was read")
	}
	if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: two}).open, nil); err != nil {
		t.Errorf("what there is room for: %v", err)
	}
}
