package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/transfer/layout"
)

// Bounds on what is read of an archive.
const (
	maxEntries  = 200_000
	maxName     = 512      // bytes of an entry's name; longer ones are none of an image's
	maxDocument = 16 << 20 // bytes of a document of an archive
	maxLinks    = 8        // in a row
)

// ErrArchive is what [errors.Is] finds where a file is no archive of images, or a
// broken one.
var ErrArchive = errors.New("no archive of images")

// contents is where everything in a tar is. Names are clean and relative.
type contents struct {
	file  io.ReaderAt
	files map[string]region
	links map[string]string // to names
	blobs map[oci.Digest]region
}

// A region is some bytes of a file.
type region struct{ at, size int64 }

// scan finds the entries of a tar. Nothing of what they hold is read.
func scan(file io.ReaderAt, size int64, text layout.Text) (*contents, error) {
	c := &contents{file: file, files: map[string]region{}, links: map[string]string{}, blobs: map[oci.Digest]region{}}
	section := io.NewSectionReader(file, 0, size)
	r := tar.NewReader(section)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, fmt.Errorf(text("%w: it is broken or cut off after %d entries: %v", "%w：归档在第 %d 个条目之后损坏或被截断：%v"), ErrArchive, n, err)
		}
		if n >= maxEntries {
			return nil, fmt.Errorf(text("%w: it has more than %d entries", "%w：条目超过 %d 个"), ErrArchive, maxEntries)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := c.add(h, at); err != nil {
			return nil, fmt.Errorf(text("%w: %v", "%w：%v"), ErrArchive, err)
		}
	}
}

// add notes an entry. What cannot belong to an image is passed over: nothing is
// extracted, so that it can do no harm.
func (c *contents) add(h *tar.Header, at int64) error {
	name, ok := clean(h.Name)
	if !ok {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		if sparse(h) {
			return fmt.Errorf("%.100q is stored with holes", name)
		}
		if digest, ok := blobOf(name); ok {
			if _, ok := c.blobs[digest]; !ok { // they are the same, or one of them lies and is found out
				c.blobs[digest] = region{at, h.Size}
			}
		}
		if c.has(name) {
			if _, ok := blobOf(name); ok {
				return nil
			}
			return fmt.Errorf("%.100q is in it twice", name)
		}
		c.files[name] = region{at, h.Size}
	case tar.TypeSymlink, tar.TypeLink:
		target := h.Linkname
		if h.Typeflag == tar.TypeSymlink && !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		target, ok := clean(target)
		if !ok || c.has(name) {
			return nil
		}
		c.links[name] = target
	}
	return nil
}

func (c *contents) has(name string) bool {
	_, file := c.files[name]
	_, link := c.links[name]
	return file || link
}

// clean makes names of an archive alike. One that leads out of it is none.
func clean(name string) (string, bool) {
	if len(name) > maxName || strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
		return "", false
	}
	name = path.Clean(name)
	return name, name != "." && name != ".." && !strings.HasPrefix(name, "../")
}

// sparse tells whether the bytes of an entry are not those in the file.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// blobOf is the digest that the name of an entry claims.
func blobOf(name string) (oci.Digest, bool) {
	rest, ok := strings.CutPrefix(name, "blobs/")
	if !ok {
		return oci.Digest{}, false
	}
	algorithm, hex, ok := strings.Cut(rest, "/")
	if !ok {
		return oci.Digest{}, false
	}
	digest, err := oci.ParseDigest(algorithm + ":" + hex)
	return digest, err == nil
}

// find is where a file is, by its name or by links to it.
func (c *contents) find(name string) (region, bool) {
	name, ok := clean(name)
	for range maxLinks {
		if !ok {
			break
		}
		if r, ok := c.files[name]; ok {
			return r, true
		}
		name, ok = c.links[name]
	}
	return region{}, false
}

// document reads a small file whole; nil where there is none.
func (c *contents) document(name string) ([]byte, error) {
	r, ok := c.find(name)
	if !ok {
		return nil, nil
	}
	if r.size > maxDocument {
		return nil, fmt.Errorf("%w: %.100q has %d bytes", ErrArchive, name, r.size)
	}
	raw := make([]byte, r.size)
	if _, err := io.ReadFull(c.section(r), raw); err != nil {
		return nil, fmt.Errorf("%w: %.100q: %v", ErrArchive, name, err) //nolint:errorlint // the cause is for people
	}
	return raw, nil
}

func (c *contents) section(r region) *io.SectionReader {
	return io.NewSectionReader(c.file, r.at, r.size)
}
