package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// A brokenSource gives one part of a blob after the other, and then none.
type brokenSource struct {
	parts []oci.BlobPart
	froms []int64 // that were asked for
}

// Part implements [oci.BlobParts].
func (b *brokenSource) Part(_ context.Context, from, _ int64) (oci.BlobPart, error) {
	b.froms = append(b.froms, from)
	if len(b.froms) > len(b.parts) {
		return oci.BlobPart{}, errors.New("asked too often")
	}
	return b.parts[len(b.froms)-1], nil
}

// readOn reads a blob, and gives up where the source fails twice without a byte in between.
func (b *brokenSource) readOn(t *testing.T, size int64) (string, error) {
	t.Helper()
	body := SteadyBlob{Parts: b, Size: size, Line: progress.None().Start("", size), Pause: func(_ context.Context, n int, err error) error {
		if n > 1 {
			return err
		}
		return nil
	}}.From(t.Context(), 0)
	defer body.Close()
	var got bytes.Buffer
	_, err := io.Copy(&got, body)
	return got.String(), err
}

func partOf(content string, from, size int64) oci.BlobPart {
	return oci.BlobPart{Body: io.NopCloser(strings.NewReader(content)), From: from, Size: size}
}

// A blob ends at its size and nowhere else, also where the source ignores ranges and ends
// before what is wanted of it.
func TestASourceThatEndsEarlyIsNoEnd(t *testing.T) {
	for fact, c := range map[string]struct {
		second []oci.BlobPart
		want   string
		err    error
		asks   int
	}{
		"it is read on":             {[]oci.BlobPart{partOf("456789", 4, -1)}, "0123456789", nil, 2},
		"from its beginning":        {[]oci.BlobPart{partOf("0123456789", 0, -1)}, "0123456789", nil, 2},
		"it ends before that again": {[]oci.BlobPart{partOf("01", 0, -1)}, "0123", io.ErrUnexpectedEOF, 2},
	} {
		t.Run(fact, func(t *testing.T) {
			b := &brokenSource{parts: append([]oci.BlobPart{partOf("0123", 0, -1)}, c.second...)}
			got, err := b.readOn(t, 10)
			if got != c.want || !errors.Is(err, c.err) || len(b.froms) != c.asks {
				t.Errorf("%q, %v after asking %v", got, err, b.froms)
			}
		})
	}
}

// A blob whose size nobody has told ends where its source does, also where that comes with
// the last bytes.
func TestABlobOfUnknownSizeEndsWithItsSource(t *testing.T) {
	for _, body := range []io.Reader{strings.NewReader("0123"), iotest.DataErrReader(strings.NewReader("0123"))} {
		b := &brokenSource{parts: []oci.BlobPart{{Body: io.NopCloser(body), Size: -1}}}
		if got, err := b.readOn(t, -1); got != "0123" || err != nil || len(b.froms) != 1 {
			t.Errorf("%q, %v after asking %v", got, err, b.froms)
		}
	}
}
