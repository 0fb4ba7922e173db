package bolt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

var _ refs.Catalog = (*Index)(nil)

// pinPrefix is what the names of pins among the tags begin with: no repository is
// without a name, and earlier versions look none up.
const pinPrefix = "\x00"

// separator stands between the repository and the rest of a name.
const separator = "\x00"

type pinRecord struct {
	Since time.Time `json:"s"`
}

// pageSize is how many records are read in one transaction: a long one would keep
// the file from giving space free.
const pageSize = 1000

// scan calls use with the names of a bucket that begin with prefix and come behind
// after, in order, with the payloads of those that can be read, until use has
// enough. What is not written to the file yet is in it. size is how many are read
// at once.
func (x *Index) scan(ctx context.Context, bucket, prefix, after string, size int, use func(name string, payload []byte) (more bool)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, last, err := x.page(bucket, prefix, after, size)
		if err != nil {
			return err
		}
		for _, r := range page {
			payload, err := unseal(key{bucket, r.name}, r.value)
			if err != nil {
				x.log.Error("index record damaged, leaving it out", "bucket", bucket, "err", err)
				continue
			}
			if !use(r.name, payload) {
				return nil
			}
		}
		if last == "" {
			return nil
		}
		after = last
	}
}

// A record is a name with its sealed value.
type record struct {
	name  string
	value []byte
}

// page reads some records behind after, and tells the name that the next page
// begins behind, empty for the last one.
func (x *Index) page(bucket, prefix, after string, size int) (page []record, last string, err error) {
	behind := func(name string) bool { return name > after && strings.HasPrefix(name, prefix) }
	fresh := make(map[string][]byte)
	x.mu.RLock()
	for _, records := range []map[key][]byte{x.batch, x.pending} {
		for k, v := range records {
			if k.bucket == bucket && behind(k.name) {
				fresh[k.name] = v
			}
		}
	}
	x.mu.RUnlock()
	stored, last, err := x.stored(bucket, prefix, after, size)
	if err != nil {
		return nil, "", err
	}
	for _, r := range stored {
		if _, newer := fresh[r.name]; !newer {
			page = append(page, r)
		}
	}
	for name, v := range fresh {
		if v != nil && (last == "" || name <= last) {
			page = append(page, record{name, v})
		}
	}
	slices.SortFunc(page, func(a, b record) int { return cmp.Compare(a.name, b.name) })
	return page, last, nil
}

// stored is page for what is in the file.
func (x *Index) stored(bucket, prefix, after string, size int) (page []record, last string, err error) {
	tx, err := x.begin(false)
	if err != nil {
		return nil, "", fmt.Errorf("index: %w", err)
	}
	defer x.end(tx)
	err = guard(func() error {
		c := tx.Bucket([]byte(bucket)).Cursor()
		for k, v := seek(c, max(prefix, after)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			if string(k) == after {
				continue
			}
			if len(page) == size {
				last = page[size-1].name
				return nil
			}
			page = append(page, record{string(k), bytes.Clone(v)})
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("index: %w", err)
	}
	return page, last, nil
}

func seek(c *bbolt.Cursor, name string) (k, v []byte) { return c.Seek([]byte(name)) }

// Repositories implements [refs.Catalog]. It leaps from one to the next.
func (x *Index) Repositories(ctx context.Context, after oci.Repository, n int) ([]oci.Repository, error) {
	var list []oci.Repository
	start := "\x01" // behind marks and pins
	if !after.IsZero() {
		start = behindAll(after.String())
	}
	for len(list) < n {
		next := ""
		for _, at := range []struct{ bucket, prefix string }{{bucketTags, ""}, {bucketLinks, ""}, {bucketTags, pinPrefix}} {
			err := x.scan(ctx, at.bucket, at.prefix, at.prefix+start, 1, func(name string, _ []byte) bool {
				name = strings.TrimPrefix(name, at.prefix)
				if repo, _, ok := strings.Cut(name, separator); ok && (next == "" || repo < next) {
					next = repo
				}
				return false
			})
			if err != nil {
				return nil, err
			}
		}
		if next == "" {
			break
		}
		start = behindAll(next)
		if repo, err := oci.ParseRepository(next); err == nil {
			list = append(list, repo)
		}
	}
	return list, nil
}

// behindAll is a name that comes behind all of a repository and before those of
// every other: the separator is less than whatever a name has.
func behindAll(repo string) string { return repo + "\x01" }

// Tags implements [refs.Catalog].
func (x *Index) Tags(ctx context.Context, repo oci.Repository, after oci.Tag, n int) ([]refs.TagRecord, error) {
	var list []refs.TagRecord
	prefix := recordName(repo, "")
	err := x.scan(ctx, bucketTags, prefix, prefix+after.String(), pageSize, func(name string, payload []byte) bool {
		var r tagRecord
		tag, err := oci.ParseTag(strings.TrimPrefix(name, prefix))
		if err == nil && json.Unmarshal(payload, &r) == nil {
			list = append(list, refs.TagRecord{Tag: tag, TagEntry: refs.TagEntry{Manifest: r.Target.descriptor(), Checked: r.Checked}})
		}
		return len(list) < n
	})
	return list, err
}

// Links implements [refs.Catalog].
func (x *Index) Links(ctx context.Context, repo oci.Repository, after oci.Digest, n int) ([]refs.LinkRecord, error) {
	var list []refs.LinkRecord
	prefix := recordName(repo, "")
	from := prefix
	if !after.IsZero() {
		from += after.String()
	}
	err := x.scan(ctx, bucketLinks, prefix, from, pageSize, func(_ string, payload []byte) bool {
		var t target
		if json.Unmarshal(payload, &t) == nil {
			list = append(list, refs.LinkRecord{Descriptor: t.descriptor(), Held: t.Held})
		}
		return len(list) < n
	})
	return list, err
}

// DeleteLinks implements [refs.Catalog].
func (x *Index) DeleteLinks(ctx context.Context, repo oci.Repository, digests ...oci.Digest) error {
	x.linking.Lock() // a link that is being written must not come back of what was read before
	defer x.linking.Unlock()
	gone := make(map[key][]byte, len(digests))
	for _, d := range digests {
		gone[key{bucketLinks, recordName(repo, d.String())}] = nil
	}
	return x.publish(ctx, gone)
}

// DeleteLists implements [refs.Catalog].
func (x *Index) DeleteLists(ctx context.Context, repo oci.Repository) error {
	gone := make(map[key][]byte)
	prefix := recordName(repo, "")
	err := x.scan(ctx, bucketLists, prefix, prefix, pageSize, func(name string, _ []byte) bool {
		gone[key{bucketLists, name}] = nil
		return true
	})
	if err != nil {
		return err
	}
	return x.publish(ctx, gone)
}

// SetPin implements [refs.Catalog].
func (x *Index) SetPin(ctx context.Context, repo oci.Repository, reference string, pinned bool) error {
	k := key{bucketTags, pinPrefix + recordName(repo, reference)}
	if !pinned {
		return x.publish(ctx, map[key][]byte{k: nil})
	}
	var old pinRecord
	err := x.load(ctx, k, &old)
	if !errors.Is(err, refs.ErrNotFound) {
		return err // it is pinned already
	}
	return x.save(ctx, k, pinRecord{time.Now()})
}

// Pins implements [refs.Catalog].
func (x *Index) Pins(ctx context.Context) ([]refs.Pin, error) {
	var list []refs.Pin
	err := x.scan(ctx, bucketTags, pinPrefix, pinPrefix, pageSize, func(name string, payload []byte) bool {
		var r pinRecord
		repo, reference, ok := strings.Cut(strings.TrimPrefix(name, pinPrefix), separator)
		parsed, err := oci.ParseRepository(repo)
		if ok && err == nil && json.Unmarshal(payload, &r) == nil {
			list = append(list, refs.Pin{Repository: parsed, Reference: reference, Since: r.Since})
		}
		return true
	})
	return list, err
}
