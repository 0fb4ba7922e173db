package bolt

import (
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sampan/internal/oci"
)

// TestLinksOfEarlierVersionsAreReadAndHoldNothing has a record as it was written
// before links were told apart.
func TestLinksOfEarlierVersionsAreReadAndHoldNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	repo, d := repository(t, "nginx"), oci.DigestOf([]byte("x"))
	must(t, openIndex(t, path).Close())
	old(t, path, key{bucketLinks, recordName(repo, d.String())}, `{"m":"a/b","d":"`+d.String()+`","s":7}`)
	x := openIndex(t, path)
	got, err := x.Link(t.Context(), repo, d)
	if err != nil || got.MediaType != "a/b" || got.Size != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	if held, err := x.Held(t.Context(), repo, d); err != nil || held {
		t.Errorf("held %v, %v", held, err)
	}
	if private, err := x.Private(t.Context(), d); err != nil || private {
		t.Errorf("private %v, %v", private, err)
	}
}

// old puts a record into the file of a closed index.
func old(t *testing.T, path string, k key, payload string) {
	t.Helper()
	db, err := bbolt.Open(path, fileMode, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(k.bucket)).Put([]byte(k.name), seal(k, []byte(payload)))
	}))
	must(t, db.Close())
}

func TestADamagedMarkIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	d := oci.DigestOf([]byte("x"))
	x := openIndex(t, path)
	must(t, x.Distrust(t.Context()))
	must(t, x.SetPrivate(t.Context(), false, d))
	must(t, x.Close())
	db, err := bbolt.Open(path, fileMode, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketLinks)).Put([]byte(markKey(d).name), []byte("rotten"))
	}))
	must(t, db.Close())
	x = openIndex(t, path)
	if private, err := x.Private(t.Context(), d); err != nil || !private {
		t.Errorf("private %v, %v", private, err)
	}
}

// TestARepairThatLostRecordsTrustsNoName: one of them may have been a mark.
func TestARepairThatLostRecordsTrustsNoName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	repo, d := repository(t, "nginx"), oci.DigestOf([]byte("x"))
	x := openIndex(t, path)
	must(t, x.PutHeld(t.Context(), repo, oci.Descriptor{Digest: d, Size: 1}))
	must(t, x.Close())
	for _, lost := range []bool{false, true} {
		if lost {
			old(t, path, key{bucketLinks, "gone"}, "{}")
			db, err := bbolt.Open(path, fileMode, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bucketLinks)).Put([]byte("gone"), []byte("rotten"))
			}))
			must(t, db.Close())
		}
		_, err := Repair(path, time.Now())
		must(t, err)
		x = openIndex(t, path)
		if private, err := x.Private(t.Context(), d); err != nil || private != lost {
			t.Errorf("lost %v: private %v, %v", lost, private, err)
		}
		if held, err := x.Held(t.Context(), repo, d); err != nil || !held {
			t.Errorf("lost %v: held %v, %v", lost, held, err)
		}
		must(t, x.Close())
	}
}
