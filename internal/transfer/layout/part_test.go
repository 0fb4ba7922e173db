package layout

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
)

func TestPartsAreTheBytesAsTheyAreStored(t *testing.T) {
	dir, _ := create(t, "quay.io/a/b:1")
	d := openDir(t, dir, Options{})
	repo, digest := reference(t, "quay.io/a/b:1").Repository, describe("", layer).Digest
	size := int64(len(layer))
	for _, c := range []struct {
		fact     string
		from, to int64
		want     string
		code     oci.Code
	}{
		{"all", 0, -1, layer, ""},
		{"the beginning", 0, 3, layer[:3], ""},
		{"from the middle to the end", 10, -1, layer[10:], ""},
		{"beyond the end", 10, 999, layer[10:], ""},
		{"an empty part", 3, 3, "", oci.CodeRangeInvalid},
		{"before the beginning", -1, 3, "", oci.CodeRangeInvalid},
		{"behind the end", size, -1, "", oci.CodeRangeInvalid},
	} {
		t.Run(c.fact, func(t *testing.T) {
			part, err := d.Part(t.Context(), repo, digest, c.from, c.to)
			if oci.CodeOf(err) != c.code {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			got, err := io.ReadAll(part.Body)
			if string(got) != c.want || err != nil || part.From != c.from || part.Size != size || !part.Vouched {
				t.Errorf("%q, %v, %+v", got, err, part)
			}
			if err := part.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	_, err := d.Part(t.Context(), repo, oci.DigestOf([]byte("x")), 0, -1)
	if oci.CodeOf(err) != oci.CodeBlobUnknown {
		t.Errorf("a blob that the repository does not name: %v", err)
	}
}

func TestAPartEndsWithItsContextAndItsFile(t *testing.T) {
	dir, _ := create(t, "quay.io/a/b:1")
	d := openDir(t, dir, Options{})
	repo, digest := reference(t, "quay.io/a/b:1").Repository, describe("", layer).Digest
	ctx, cancel := context.WithCancel(t.Context())
	part, err := d.Part(ctx, repo, digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Body.Close()
	cancel()
	if n, err := part.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", n, err)
	}
	cut, err := d.Part(t.Context(), repo, digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Body.Close()
	if err := os.Truncate(filepath.Join(dir, BlobPath(digest)), 5); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(cut.Body); !strings.HasPrefix(layer, string(got)) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, err)
	}
}
