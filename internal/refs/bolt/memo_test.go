package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

func TestAWriteIsSeenByTheNextRead(t *testing.T) {
	x := openIndex(t, filepath.Join(t.TempDir(), "index.db"))
	repo, latest := repository(t, "nginx"), tag(t, "latest")
	for i := range 3 {
		want := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf([]byte{byte(i)}), Size: int64(i)}
		must(t, x.PutTag(t.Context(), repo, latest, refs.TagEntry{Manifest: want}))
		must(t, x.PutLinks(t.Context(), repo, oci.Descriptor{Digest: oci.DigestOf(nil), Size: int64(i)}))
		for range 2 { // the second one from memory
			if got, err := x.Tag(t.Context(), repo, latest); err != nil || got.Manifest.Digest != want.Digest {
				t.Errorf("write %d: got %v, %v", i, got, err)
			}
			if got, err := x.Link(t.Context(), repo, oci.DigestOf(nil)); err != nil || got.Size != int64(i) {
				t.Errorf("write %d: got %v, %v", i, got, err)
			}
		}
	}
	must(t, x.DeleteTag(t.Context(), repo, latest))
	if _, err := x.Tag(t.Context(), repo, latest); !errors.Is(err, refs.ErrNotFound) {
		t.Errorf("a deleted tag answers %v", err)
	}
	must(t, x.Close())
	if _, err := x.Link(t.Context(), repo, oci.DigestOf(nil)); err == nil || errors.Is(err, refs.ErrNotFound) {
		t.Errorf("a closed index answers %v", err)
	}
}

// A reader that looked before a write must not leave what it saw behind it.
func TestMemoKeepsNothingReadBeforeAWrite(t *testing.T) {
	var m memo
	k := key{bucketTags, "a"}
	_, epoch := m.get(k)
	m.forget(map[key][]byte{k: nil})
	m.put(k, "old", epoch)
	if r, _ := m.get(k); r != nil {
		t.Errorf("it remembers %v", r)
	}
	_, epoch = m.get(k)
	m.put(k, "new", epoch)
	if r, _ := m.get(k); r != "new" {
		t.Errorf("it remembers %v", r)
	}
}

func TestMemoIsBounded(t *testing.T) {
	var m memo
	for i := range 3 * maxMemo {
		k := key{bucketLinks, fmt.Sprint(i)}
		_, epoch := m.get(k)
		m.put(k, i, epoch)
		if r, _ := m.get(k); r != i {
			t.Fatalf("%d: it remembers %v", i, r)
		}
	}
	if n := len(m.m); n > maxMemo {
		t.Errorf("it keeps %d records", n)
	}
}
