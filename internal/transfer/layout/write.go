package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

func unmarshal(raw []byte, v any) error { return json.Unmarshal(raw, v) }

// A Writer adds content to a layout in a directory. Its methods may be called
// concurrently; two Writers must not share a directory.
type Writer struct {
	root *os.Root

	mu     sync.Mutex
	images []Image
}

var _ transfer.Writer = (*Writer)(nil)

// Create makes a layout in a directory, or goes on with the one that is there. The
// parent of the directory must exist.
func Create(dir string, o Options) (*Writer, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{root: root}
	if err := w.begin(o); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), root.Close())
	}
	return w, nil
}

func (w *Writer) begin(o Options) error {
	_, err := w.root.Stat(File)
	if err == nil {
		there, err := open(w.root, o)
		if err != nil {
			return err
		}
		w.images = there.images
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := fs.ReadDir(w.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != "blobs" && name != IndexFile && !strings.HasPrefix(name, ".tmp-") {
			return fmt.Errorf(o.text("the directory holds %q, and is no OCI layout: %w", "目录中有 %q，不是 OCI layout：%w"), name, fs.ErrExist)
		}
	}
	if err := w.writeIndex(); err != nil {
		return err
	}
	return w.publish(File, func(f *os.File) error {
		_, err := f.WriteString(Marker)
		return err
	})
}

// Close lets the directory go.
func (w *Writer) Close() error { return w.root.Close() }

// Has tells whether content is here, whole. The repository does not matter.
func (w *Writer) Has(_ context.Context, _ oci.Repository, d oci.Descriptor) (bool, error) {
	c, err := rooted{w.root}.Open(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = c.close() }() // of what is only read
	if d.Size >= 0 && c.Size != d.Size {
		return false, nil
	}
	return d.Digest.VerifyReader(io.NewSectionReader(c, 0, c.Size))
}

// Put stores content that r has from its beginning to its end. What does not match
// its descriptor is not kept.
func (w *Writer) Put(ctx context.Context, d oci.Descriptor, r io.Reader) error {
	return w.publish(BlobPath(d.Digest), func(f *os.File) error {
		h := d.Digest.Hash()
		n, err := io.Copy(io.MultiWriter(f, h), Interruptible(ctx, r))
		if err != nil {
			return fmt.Errorf("blob %s: %w", d.Digest, err)
		}
		if d.Size >= 0 && n != d.Size || !d.Digest.Matches(h) {
			return oci.Errorf(oci.CodeDigestInvalid, "what came as %s is something else", d.Digest)
		}
		return nil
	})
}

// Name makes the layout name an image, and no other by that name. What it names must
// be here.
func (w *Writer) Name(image Image) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, other := range w.images {
		same := other.Ref.Repository == image.Ref.Repository && other.Ref.Tag == image.Ref.Tag && other.Named == image.Named
		if same && (!image.Ref.Tag.IsZero() && image.Named || other.Descriptor.Digest == image.Descriptor.Digest) {
			w.images[n] = image
			return w.writeIndex()
		}
	}
	w.images = append(w.images, image)
	return w.writeIndex()
}

func (w *Writer) writeIndex() error {
	raw, err := MarshalIndex(w.images, nil)
	if err != nil {
		return err
	}
	return w.publish(IndexFile, func(f *os.File) error {
		_, err := f.Write(raw)
		return err
	})
}

// publish writes a file beside its final name, syncs and renames it.
func (w *Writer) publish(name string, write func(*os.File) error) error {
	dir := path.Dir(name)
	if err := w.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temporary := path.Join(dir, ".tmp-"+path.Base(name))
	f, err := w.root.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, w.root.Remove(temporary))
	}
	if err := w.root.Rename(temporary, name); err != nil {
		return err
	}
	d, err := w.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Interruptible is a reader that the end of a context ends.
func Interruptible(ctx context.Context, r io.Reader) io.Reader { return &interrupted{ctx, r} }

type interrupted struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (i *interrupted) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// PutBlob implements [transfer.Writer].
func (w *Writer) PutBlob(ctx context.Context, _ oci.Repository, d oci.Descriptor, open transfer.Open, _ []oci.Repository) error {
	r, err := open(ctx, 0)
	if err != nil {
		return err
	}
	return errors.Join(w.Put(ctx, d, r), r.Close())
}

// PutManifest implements [transfer.Writer]. Without tags, the index names only what is
// attached to something else: other manifests are found by those that name them.
func (w *Writer) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	d = oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}
	g, err := oci.Manifest{Descriptor: d, Bytes: raw}.Graph()
	if err != nil {
		return err
	}
	if err := w.Put(ctx, d, bytes.NewReader(raw)); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := w.Name(Image{Ref: oci.Reference{Repository: repo, Tag: tag}, Named: true, Descriptor: d}); err != nil {
			return err
		}
	}
	if len(tags) == 0 && !g.Subject.Digest.IsZero() {
		return w.Name(Image{Descriptor: d})
	}
	return nil
}
