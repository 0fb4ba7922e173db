package bolt

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// A value is a CRC-32C of the record's bucket, name and payload, big-endian, and
// the payload, which is JSON: read by people and by later versions. Bucket and
// name are in it so that a record changes neither its owner nor its meaning.
const crcSize = 4

// maxName bounds the name of a record in bytes. Repositories, tags and digests
// stay far below; bbolt takes 32 KiB.
const maxName = 4 << 10

var (
	errChecksum = errors.New("checksum differs")
	errTooLong  = errors.New("the key is too long")
)

func seal(k key, payload []byte) []byte {
	v := make([]byte, crcSize, crcSize+len(payload))
	binary.BigEndian.PutUint32(v, checksum(k, payload))
	return append(v, payload...)
}

func unseal(k key, v []byte) ([]byte, error) {
	if len(v) < crcSize || binary.BigEndian.Uint32(v) != checksum(k, v[crcSize:]) {
		return nil, errChecksum
	}
	return v[crcSize:], nil
}

func checksum(k key, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the library
	owner := make([]byte, 0, 256)
	owner = append(append(append(owner, k.bucket...), 0), k.name...)
	return crc32.Update(crc32.Checksum(owner, table), table, payload)
}

// target is the stored form of a descriptor.
type target struct {
	MediaType string     `json:"m,omitempty"`
	Digest    oci.Digest `json:"d"`
	Size      int64      `json:"s"`
	Held      bool       `json:"h,omitempty"` // of links: not in those of earlier versions
}

func (t target) descriptor() oci.Descriptor {
	return oci.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}
}

type tagRecord struct {
	Target  target    `json:"t"`
	Checked time.Time `json:"c"`
}

type listRecord struct {
	Body    []byte    `json:"b"`
	Checked time.Time `json:"c"`
}

// Tag implements [refs.Index].
func (x *Index) Tag(ctx context.Context, repo oci.Repository, tag oci.Tag) (refs.TagEntry, error) {
	r, err := recall[tagRecord](ctx, x, key{bucketTags, recordName(repo, tag.String())})
	if err != nil {
		return refs.TagEntry{}, err
	}
	return refs.TagEntry{Manifest: r.Target.descriptor(), Checked: r.Checked}, nil
}

// PutTag implements [refs.Index].
func (x *Index) PutTag(ctx context.Context, repo oci.Repository, tag oci.Tag, e refs.TagEntry) error {
	m := e.Manifest
	return x.save(ctx, key{bucketTags, recordName(repo, tag.String())},
		tagRecord{target{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, e.Checked})
}

// DeleteTag implements [refs.Index].
func (x *Index) DeleteTag(ctx context.Context, repo oci.Repository, tag oci.Tag) error {
	return x.publish(ctx, map[key][]byte{{bucketTags, recordName(repo, tag.String())}: nil})
}

// Link implements [refs.Index].
func (x *Index) Link(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	t, err := recall[target](ctx, x, key{bucketLinks, recordName(repo, digest.String())})
	if err != nil {
		return oci.Descriptor{}, err
	}
	return t.descriptor(), nil
}

// PutLinks implements [refs.Index]. Links that say nothing new are not written
// again.
func (x *Index) PutLinks(ctx context.Context, repo oci.Repository, descs ...oci.Descriptor) error {
	return x.putLinks(ctx, repo, false, descs)
}

func (x *Index) putLinks(ctx context.Context, repo oci.Repository, held bool, descs []oci.Descriptor) error {
	// What is written depends on what was read.
	x.linking.Lock()
	defer x.linking.Unlock()
	records := make(map[key][]byte, len(descs))
	links := make(map[oci.Digest]target, len(descs))
	for _, d := range descs {
		k := key{bucketLinks, recordName(repo, d.Digest.String())}
		old, known := links[d.Digest]
		if !known {
			stored, err := recall[target](ctx, x, k)
			if err != nil && !errors.Is(err, refs.ErrNotFound) {
				return err
			}
			old, known = stored, err == nil
		}
		link := target{d.MediaType, d.Digest, d.Size, held}
		if known {
			if link = old.update(link); link == old {
				continue
			}
		}
		links[d.Digest] = link
		payload, err := json.Marshal(link)
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		records[k] = seal(k, payload)
	}
	if len(records) == 0 {
		return ctx.Err()
	}
	return x.publish(ctx, records)
}

// update returns t with what is known of it in other.
func (t target) update(other target) target {
	if other.MediaType != "" {
		t.MediaType = other.MediaType
	}
	if other.Size >= 0 {
		t.Size = other.Size
	}
	t.Held = t.Held || other.Held
	return t
}

// List implements [refs.Index].
func (x *Index) List(ctx context.Context, repo oci.Repository, name string) (refs.ListEntry, error) {
	var r listRecord
	if err := x.load(ctx, key{bucketLists, recordName(repo, name)}, &r); err != nil {
		return refs.ListEntry{}, err
	}
	return refs.ListEntry(r), nil
}

// PutList implements [refs.Index].
func (x *Index) PutList(ctx context.Context, repo oci.Repository, name string, e refs.ListEntry) error {
	return x.save(ctx, key{bucketLists, recordName(repo, name)}, listRecord(e))
}

// recall is load for records that are read on every request.
func recall[T any](ctx context.Context, x *Index, k key) (T, error) {
	record, epoch := x.memo.get(k)
	if r, ok := record.(T); ok {
		return r, ctx.Err()
	}
	var r T
	if err := x.load(ctx, k, &r); err != nil {
		return r, err
	}
	x.memo.put(k, r, epoch)
	return r, nil
}

func (x *Index) load(ctx context.Context, k key, into any) error {
	payload, err := x.get(ctx, k)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("%w: %w", refs.ErrNotFound, err)
	}
	return nil
}

func (x *Index) save(ctx context.Context, k key, record any) error {
	if len(k.name) > maxName {
		return fmt.Errorf("index: %d bytes: %w", len(k.name), errTooLong)
	}
	payload, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return x.publish(ctx, map[key][]byte{k: seal(k, payload)})
}

// publish is put, and makes the memo forget.
func (x *Index) publish(ctx context.Context, records map[key][]byte) error {
	err := x.put(ctx, records)
	x.memo.forget(records)
	return err
}
