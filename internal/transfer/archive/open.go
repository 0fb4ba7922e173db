package archive

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"sampan/internal/oci"
	"sampan/internal/transfer/layout"
)

// OpenOptions say how an archive is read. The zero value is good.
type OpenOptions struct {
	// Base is the repository of images for which the archive tells none; zero means
	// [layout.Unnamed].
	Base oci.Repository
	// TempDir is where a compressed archive is spooled; empty means [os.TempDir].
	TempDir string
	// MaxSpool bounds what is spooled, in bytes; zero means a hundred times what the
	// archive has, and at least a gibibyte.
	MaxSpool int64
	// Text is the language of errors; nil means English.
	Text layout.Text
}

const (
	spoolRatio = 100
	spoolFloor = 1 << 30 // bytes
)

// ErrBomb is what [errors.Is] finds where a compressed archive grows beyond bounds.
var ErrBomb = errors.New("it grows beyond all measure when it is decompressed")

// An Archive is images that were opened. It is closed by whoever opened it, after what
// was opened of it.
type Archive struct {
	*layout.Layout
	closers []io.Closer
}

// Close lets the files go.
func (a *Archive) Close() error {
	var errs []error
	for n := len(a.closers) - 1; n >= 0; n-- {
		errs = append(errs, a.closers[n].Close())
	}
	return errors.Join(errs...)
}

// Open opens the archive in a file, in the volumes of a file of that name, or in the
// directory of a layout.
func Open(ctx context.Context, name string, o OpenOptions) (*Archive, error) {
	if o.Text == nil {
		o.Text = layout.English
	}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		d, err := layout.Open(name, layout.Options{Base: o.Base, Text: o.Text})
		if err != nil {
			return nil, err
		}
		return &Archive{d.Layout, []io.Closer{d}}, nil
	}
	file, size, err := openVolumes(name)
	if err != nil {
		return nil, err
	}
	a, err := openFile(ctx, file, size, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
	}
	a.closers = append([]io.Closer{file}, a.closers...)
	return a, nil
}

// Read opens the archive that r has, which is spooled.
func Read(ctx context.Context, r io.Reader, o OpenOptions) (*Archive, error) {
	if o.Text == nil {
		o.Text = layout.English
	}
	most := o.MaxSpool
	if most == 0 {
		most = 1 << 62 // whoever sends it has to send all of it
	}
	spool, size, err := spoolOf(layout.Interruptible(ctx, r), most, o)
	if err != nil {
		return nil, err
	}
	a, err := openFile(ctx, spool, size, o)
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	a.closers = append([]io.Closer{spool}, a.closers...)
	return a, nil
}

// Base is the name of an archive without that of its first volume.
func Base(name string) string { return strings.TrimSuffix(name, ".001") }

// openVolumes opens a file or all volumes of that name.
func openVolumes(name string) (*volumes, int64, error) {
	f, err := openRegular(name)
	switch {
	case err == nil && !strings.HasSuffix(name, ".001"):
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return &volumes{files: []*os.File{f}}, info.Size(), nil
	case err == nil:
		f.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, 0, err
	}
	v, total, last := new(volumes), int64(0), int64(0)
	for n := 1; n <= MaxVolumes; n++ {
		f, missing := openRegular(VolumeName(Base(name), n))
		if errors.Is(missing, fs.ErrNotExist) && n > 1 {
			break
		}
		if errors.Is(missing, fs.ErrNotExist) {
			return nil, 0, err
		}
		if missing != nil {
			return nil, 0, errors.Join(missing, v.Close())
		}
		v.files = append(v.files, f)
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, v.Close())
		}
		if n == 1 {
			v.each = info.Size()
		} else if last != v.each || info.Size() > v.each {
			return nil, 0, errors.Join(fmt.Errorf("%w: the volume before %s is not as long as the first", ErrArchive, f.Name()), v.Close())
		}
		last = info.Size()
		total += last
	}
	return v, total, nil
}

// openRegular opens nothing that would hang: no pipe, no device.
func openRegular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", name, ErrArchive)
	}
	return os.Open(name)
}

// readAtCloser is what an archive is read from.
type readAtCloser interface {
	io.ReaderAt
	io.Closer
}

// openFile reads the archive in a file, which is spooled where it is compressed.
func openFile(ctx context.Context, file io.ReaderAt, size int64, o OpenOptions) (*Archive, error) {
	if size == 0 {
		return nil, fmt.Errorf(o.Text("%w: it is empty", "%w：文件为空"), ErrArchive)
	}
	plain, err := decompressor(io.NewSectionReader(file, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrArchive, err) //nolint:errorlint // the cause is for people
	}
	a := new(Archive)
	if plain != nil {
		defer plain.Close()
		most := o.MaxSpool
		if most == 0 {
			most = max(size, spoolFloor/spoolRatio) * spoolRatio
		}
		spool, n, err := spoolOf(layout.Interruptible(ctx, broken{plain}), most, o)
		if err != nil {
			return nil, err
		}
		a.closers = append(a.closers, spool)
		file, size = spool, n
	}
	if a.Layout, err = read(file, size, o); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Beginnings of compressed files.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

const maxWindow = 128 << 20 // bytes of memory that a zstd stream may ask for

// decompressor reads what r has decompressed; nil where it is not compressed.
func decompressor(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(magic), gzipMagic):
		return gzip.NewReader(b)
	case string(magic) == zstdMagic:
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, nil //nolint:nilnil // nothing to decompress is no error
}

// broken makes errors of what is decompressed those of an archive.
type broken struct{ r io.Reader }

// Read implements [io.Reader].
func (b broken) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %v", ErrArchive, err) //nolint:errorlint // the cause is for people
	}
	return n, err
}

// A spool is a file that nobody else sees, and that is gone when it is closed. Where the
// system allows that, its name is gone at once: nothing is left of a process that is
// killed.
type spool struct {
	*os.File
	named bool
}

func newSpool(dir string) (spool, error) {
	f, err := os.CreateTemp(dir, "sampan-archive-")
	if err != nil {
		return spool{}, err
	}
	return spool{f, os.Remove(f.Name()) != nil}, nil
}

// Close removes it.
func (s spool) Close() error {
	err := s.File.Close()
	if s.named {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}

func spoolOf(r io.Reader, most int64, o OpenOptions) (readAtCloser, int64, error) {
	s, err := newSpool(o.TempDir)
	if err != nil {
		return nil, 0, err
	}
	n, err := io.Copy(s, io.LimitReader(r, most))
	if err == nil && n == most {
		var more [1]byte
		if m, _ := io.ReadFull(r, more[:]); m > 0 {
			err = fmt.Errorf(o.Text("%w: more than %d bytes", "%w：超过 %d 字节"), ErrBomb, most)
		}
	}
	if err != nil {
		return nil, 0, errors.Join(err, s.Close())
	}
	return s, n, nil
}

// read makes a layout of a tar, whichever form it has.
func read(file io.ReaderAt, size int64, o OpenOptions) (*layout.Layout, error) {
	c, err := scan(file, size, o.Text)
	if err != nil {
		return nil, err
	}
	options := layout.Options{Base: o.Base, Text: o.Text}
	marker, err := c.document(layout.File)
	if err != nil {
		return nil, err
	}
	index, err := c.document(layout.IndexFile)
	if err != nil {
		return nil, err
	}
	if marker != nil && index != nil {
		if err := layout.CheckMarker(marker, options); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		l, err := layout.New(index, tarBlobs{c, nil}, options)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return l, nil
	}
	images, err := c.document(dockerIs)
	if err != nil {
		return nil, err
	}
	if images == nil {
		return nil, fmt.Errorf(o.Text("%w: it has neither %s nor %s", "%w：其中既没有 %s，也没有 %s"), ErrArchive, layout.IndexFile, dockerIs)
	}
	return readDocker(c, images, options)
}

// tarBlobs are the blobs of a tar, and those that were made of it.
type tarBlobs struct {
	*contents
	made map[oci.Digest][]byte
}

// Open implements [layout.Blobs].
func (b tarBlobs) Open(digest oci.Digest) (layout.Content, error) {
	if raw, ok := b.made[digest]; ok {
		return layout.Content{ReaderAt: strings.NewReader(string(raw)), Size: int64(len(raw))}, nil
	}
	r, ok := b.blobs[digest]
	if !ok {
		if r, ok = b.find(layout.BlobPath(digest)); !ok {
			return layout.Content{}, fs.ErrNotExist
		}
	}
	return layout.Content{ReaderAt: b.section(r), Size: r.size}, nil
}
