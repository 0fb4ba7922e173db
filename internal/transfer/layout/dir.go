package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"sampan/internal/oci"
)

// A Dir is a layout in a directory. It is closed by whoever opened it.
type Dir struct {
	*Layout
	root *os.Root
}

// Open opens the layout in a directory. The error is [fs.ErrNotExist] where there is
// no such directory or no layout in it.
func Open(dir string, o Options) (*Dir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d, err := open(root, o)
	if errors.Is(err, fs.ErrNotExist) {
		err = &noLayout{o.text("a directory, but no OCI layout: that has oci-layout and index.json", "是目录，但不是 OCI layout：其中应有 oci-layout 和 index.json"), err}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), root.Close())
	}
	return d, nil
}

// A noLayout is a directory without a layout.
type noLayout struct {
	message string
	err     error
}

func (e *noLayout) Error() string { return e.message }
func (e *noLayout) Unwrap() error { return e.err }

func open(root *os.Root, o Options) (*Dir, error) {
	marker, err := readFile(root, File, 1<<10)
	if err != nil {
		return nil, err
	}
	if err := CheckMarker(marker, o); err != nil {
		return nil, err
	}
	raw, err := readFile(root, IndexFile, maxIndex)
	if err != nil {
		return nil, err
	}
	l, err := New(raw, rooted{root}, o)
	if err != nil {
		return nil, err
	}
	return &Dir{l, root}, nil
}

// Close lets the directory go. Blobs that are open go on.
func (d *Dir) Close() error { return d.root.Close() }

// readFile reads a regular file of at most so many bytes.
func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return raw, nil
}

// openRegular opens nothing that would hang or be none of ours: no pipe, no device.
func openRegular(root *os.Root, name string) (*os.File, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return root.Open(name)
}

// rooted is the blobs directory of a layout.
type rooted struct{ root *os.Root }

// Open implements [Blobs].
func (r rooted) Open(digest oci.Digest) (Content, error) {
	f, err := openRegular(r.root, BlobPath(digest))
	if err != nil {
		return Content{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return Content{}, errors.Join(err, f.Close())
	}
	return Content{ReaderAt: f, Size: info.Size(), Close: f.Close}, nil
}

// BlobPath is where a layout has the content of a digest, with slashes.
func BlobPath(digest oci.Digest) string {
	return path.Join("blobs", digest.Algorithm(), digest.Hex())
}

// CheckMarker looks at what is in [File].
func CheckMarker(raw []byte, o Options) error {
	var marker struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := unmarshal(raw, &marker); err != nil || marker.Version != "1.0.0" {
		return fmt.Errorf(o.text("this is no OCI layout of version 1.0.0: %w", "这不是 1.0.0 版的 OCI layout：%w"), fs.ErrInvalid)
	}
	return nil
}
