package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sampan/internal/oci"
)

// One manifest that is broken, or gone, is that of its image alone.
func TestABrokenImageKeepsNoOtherFromBeingRead(t *testing.T) {
	for what, spoil := range map[string]func(file string) error{
		"something else": func(file string) error { return os.WriteFile(file, []byte("{}"), 0o600) },
		"gone":           os.Remove,
	} {
		dir, good := create(t, "a:1")
		w, err := Create(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		raw := manifest(t, nil, 1)
		bad := describe(oci.MediaTypeImageManifest, raw)
		attached := manifest(t, &good, 2)
		signature := describe(oci.MediaTypeImageManifest, attached)
		for _, s := range []string{raw, attached} {
			if err := w.Put(t.Context(), describe("", s), strings.NewReader(s)); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range []Image{{Ref: reference(t, "a:2"), Named: true, Descriptor: bad}, {Descriptor: signature}} {
			if err := w.Name(i); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if err := spoil(filepath.Join(dir, BlobPath(bad.Digest))); err != nil {
			t.Fatal(err)
		}
		l := openDir(t, dir, Options{})
		repo := reference(t, "a:1").Repository
		if m, err := l.Manifest(t.Context(), repo, good.Digest); err != nil || m.Descriptor.Digest != good.Digest {
			t.Errorf("%s: the other image: %v", what, err)
		}
		if _, err := l.Blob(t.Context(), repo, oci.DigestOf([]byte(layer))); err != nil {
			t.Errorf("%s: its layer: %v", what, err)
		}
		if got, err := l.Referrers(t.Context(), repo, good.Digest); err != nil || len(got) != 1 {
			t.Errorf("%s: what is attached: %v, %v", what, got, err)
		}
		if gone, err := l.Missing(t.Context(), repo); err != nil || len(gone) != 0 {
			t.Errorf("%s: missing %v, %v", what, gone, err)
		}
		_, err = l.Manifest(t.Context(), repo, bad.Digest)
		if err == nil || !strings.Contains(err.Error(), bad.Digest.String()) {
			t.Errorf("%s: the image itself: %v", what, err)
		}
		if _, err := l.Present(t.Context(), repo); err == nil {
			t.Errorf("%s: what is here of the repository is told, though nobody knows", what)
		}
	}
}

// A disk that fails once, or has no more files to give, is no broken image: who asks again
// is answered.
func TestWhatCouldNotBeReadOnceIsReadAgain(t *testing.T) {
	signed := manifest(t, nil, 0)
	image := describe(oci.MediaTypeImageManifest, signed)
	signing := manifest(t, &image, 1)
	signature := describe(oci.MediaTypeImageManifest, signing)
	for fact, failing := range map[string]oci.Digest{"an image": image.Digest, "what is attached to it": signature.Digest} {
		blobs := &unsteady{content: map[oci.Digest]string{image.Digest: signed, signature.Digest: signing}, failing: failing}
		l := &Layout{
			images: []Image{{Ref: reference(t, "a:1"), Named: true, Descriptor: image}, {Descriptor: signature}},
			blobs:  blobs, reach: make(map[oci.Repository]*graph),
		}
		repo := reference(t, "a:1").Repository
		_, err := l.Manifest(t.Context(), repo, failing)
		if err == nil || failing == image.Digest && !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s, the first time: %v", fact, err)
		}
		blobs.failing = oci.Digest{}
		if _, err := l.Manifest(t.Context(), repo, failing); err != nil {
			t.Errorf("%s, again: %v", fact, err)
		}
		if got, err := l.Referrers(t.Context(), repo, image.Digest); err != nil || len(got) != 1 {
			t.Errorf("%s: what is attached: %v, %v", fact, got, err)
		}
		opened := blobs.opened
		if _, err := l.StatManifest(t.Context(), repo, failing); err != nil || blobs.opened != opened {
			t.Errorf("%s: known, and read %d times more: %v", fact, blobs.opened-opened, err)
		}
	}
}

// unsteady are blobs of which one cannot be opened.
type unsteady struct {
	content map[oci.Digest]string
	failing oci.Digest // zero for none
	opened  int
}

func (u *unsteady) Open(digest oci.Digest) (Content, error) {
	u.opened++
	if digest == u.failing {
		return Content{}, &fs.PathError{Op: "open", Path: digest.String(), Err: syscall.EMFILE}
	}
	s, ok := u.content[digest]
	if !ok {
		return Content{}, fs.ErrNotExist
	}
	return Content{ReaderAt: strings.NewReader(s), Size: int64(len(s))}, nil
}
