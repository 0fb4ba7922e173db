package bolt

import (
	"context"
	"encoding/json"
	"errors"

	"sampan/internal/refs"
)

// notePrefix is what the names of notes among the lists begin with: no repository is
// without a name, and earlier versions look none up.
const notePrefix = "\x00note\x00"

// Note returns what was kept under a name; nil when there is nothing, or nothing that
// can be read any more.
func (x *Index) Note(ctx context.Context, name string) ([]byte, error) {
	var note json.RawMessage
	err := x.load(ctx, key{bucketLists, notePrefix + name}, &note)
	if errors.Is(err, refs.ErrNotFound) {
		return nil, nil
	}
	return note, err
}

// PutNote keeps a JSON document that is nobody's in particular under a name, as durably
// as everything else here.
func (x *Index) PutNote(ctx context.Context, name string, note []byte) error {
	return x.save(ctx, key{bucketLists, notePrefix + name}, json.RawMessage(note))
}
