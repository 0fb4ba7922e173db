package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// Marks of digests stand among the links, under a repository without a name,
// which no repository is: before all others, and nowhere in the files of earlier
// versions.
const (
	markPrefix = "\x00"
	// markOfAll is the mark of every digest that has none.
	markOfAll = markPrefix + "*"
)

// A mark says whether a digest is private.
type mark struct {
	Private bool `json:"p"`
}

func markKey(d oci.Digest) key { return key{bucketLinks, markPrefix + d.String()} }

// Held implements [refs.Index].
func (x *Index) Held(ctx context.Context, repo oci.Repository, digest oci.Digest) (bool, error) {
	t, err := recall[target](ctx, x, key{bucketLinks, recordName(repo, digest.String())})
	if errors.Is(err, refs.ErrNotFound) {
		return false, nil
	}
	return t.Held, err
}

// PutHeld implements [refs.Index].
func (x *Index) PutHeld(ctx context.Context, repo oci.Repository, descs ...oci.Descriptor) error {
	return x.putLinks(ctx, repo, true, descs)
}

// Private implements [refs.Index]. An index without any mark looks nothing up.
func (x *Index) Private(ctx context.Context, digest oci.Digest) (bool, error) {
	if !x.marked.Load() {
		return false, ctx.Err()
	}
	for _, k := range []key{markKey(digest), {bucketLinks, markOfAll}} {
		m, err := x.recallMark(ctx, k)
		if err != nil || m != nil {
			return m != nil && m.Private, err
		}
	}
	return false, nil
}

// recallMark is recall for a mark that is mostly not there, which is remembered
// too: a nil *mark.
func (x *Index) recallMark(ctx context.Context, k key) (*mark, error) {
	record, epoch := x.memo.get(k)
	if m, ok := record.(*mark); ok {
		return m, ctx.Err()
	}
	m := new(mark)
	err := x.load(ctx, k, m)
	switch {
	case errors.Is(err, errChecksum), errors.Is(err, refs.ErrDamaged):
		*m = mark{Private: true} // whatever it said: nobody loses by one more question
	case errors.Is(err, refs.ErrNotFound):
		m = nil
	case err != nil:
		return nil, err
	}
	x.memo.put(k, m, epoch)
	return m, nil
}

// SetPrivate implements [refs.Index]. A mark that says nothing new is not written
// again.
func (x *Index) SetPrivate(ctx context.Context, private bool, digests ...oci.Digest) error {
	x.linking.Lock()
	defer x.linking.Unlock()
	records := make(map[key][]byte, len(digests))
	for _, d := range digests {
		is, err := x.Private(ctx, d)
		if err != nil {
			return err
		}
		if is == private {
			continue
		}
		if err := addMark(records, markKey(d), private); err != nil {
			return err
		}
	}
	return x.publishMarks(ctx, records)
}

// Distrust implements [refs.Index].
func (x *Index) Distrust(ctx context.Context) error {
	x.linking.Lock()
	defer x.linking.Unlock()
	records := make(map[key][]byte)
	if err := addMark(records, key{bucketLinks, markOfAll}, true); err != nil {
		return err
	}
	return x.publishMarks(ctx, records)
}

func addMark(records map[key][]byte, k key, private bool) error {
	payload, err := json.Marshal(mark{private})
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	records[k] = seal(k, payload)
	return nil
}

func (x *Index) publishMarks(ctx context.Context, records map[key][]byte) error {
	if len(records) == 0 {
		return ctx.Err()
	}
	x.marked.Store(true)
	return x.publish(ctx, records)
}

// hasMarks tells whether a file has any mark.
func hasMarks(db *bbolt.DB) (has bool, err error) {
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			name, _ := tx.Bucket([]byte(bucketLinks)).Cursor().Seek([]byte(markPrefix))
			has = bytes.HasPrefix(name, []byte(markPrefix))
			return nil
		})
	})
	return has, err
}
