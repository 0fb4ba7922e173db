package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sampan/internal/progress"
	"sampan/internal/transfer"
	"sampan/internal/transfer/layout"
)

// WriteOptions say how an archive is written. The zero value is good.
type WriteOptions struct {
	Format Format
	// Zstd compresses the whole archive.
	Zstd bool
	// Volume is the size of each file in bytes that the archive is split into; zero
	// means one file.
	Volume int64
	// Bare leaves out the files beside the archive: checksums and the bundle.
	Bare bool
	// Blobs bounds how many are fetched at once; zero means 4.
	Blobs int
	// Progress hears how it goes; nil means nobody.
	Progress progress.Sink
	// Text is the language of errors; nil means English.
	Text layout.Text
	// Pause waits before a source that gave no answer is asked again, the n-th time from 1
	// on without a byte, or returns why not; nil means [transfer.Backoff].
	Pause func(ctx context.Context, n int, err error) error
}

func (o *WriteOptions) fill() {
	o.Blobs = cmp.Or(o.Blobs, 4)
	if o.Progress == nil {
		o.Progress = progress.None()
	}
	if o.Text == nil {
		o.Text = layout.English
	}
	if o.Pause == nil {
		o.Pause = transfer.Backoff
	}
}

// Write fetches the blobs of a plan and writes the archive, and returns the names of
// its files. Where it fails, what was fetched stays in files that end in ".partial",
// and the same call goes on from there.
func Write(ctx context.Context, p *Plan, name string, o WriteOptions) ([]string, error) {
	o.fill()
	f, err := formOf(p, o.Format, o.Text)
	if err != nil {
		return nil, err
	}
	each := o.Volume
	if o.Zstd {
		each = 0 // where volumes end is known after compression
	}
	names, err := volumeNames(name, f.size, each)
	if err != nil {
		return nil, err
	}
	if err := replaceable(append(names, name)); err != nil {
		return nil, err
	}
	v, fresh, err := openPartial(names, each)
	if err != nil {
		return nil, err
	}
	w := &writer{plan: p, form: f, options: o, file: v}
	err = w.write(ctx, fresh)
	if err == nil {
		err = v.sync()
	}
	if err == nil && o.Zstd {
		names, err = w.compress(ctx, name)
	}
	if err == nil {
		err = w.finish(name, names)
	}
	return names, errors.Join(err, v.Close())
}

// replaceable fails where a name is that of a folder or a device: an archive takes the
// place of files alone.
func replaceable(names []string) error {
	for _, name := range names {
		info, err := os.Stat(name)
		if err == nil && !info.Mode().IsRegular() || strings.HasSuffix(name, string(filepath.Separator)) {
			return fmt.Errorf("%s: %w", name, ErrNoFile)
		}
	}
	return nil
}

type writer struct {
	plan    *Plan
	form    *form
	options WriteOptions
	file    *volumes
}

// openPartial opens the files that are being written, and locks them. fresh tells that
// nothing is in them.
func openPartial(names []string, each int64) (v *volumes, fresh bool, err error) {
	v, fresh = &volumes{each: each}, true
	for _, name := range names {
		f, err := os.OpenFile(name+partialSuffix, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // an archive is for whoever may read its directory
		if err != nil {
			return nil, false, errors.Join(err, v.Close())
		}
		v.files = append(v.files, f)
		info, err := f.Stat()
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		if err != nil {
			return nil, false, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), v.Close())
		}
		fresh = fresh && info.Size() == 0
	}
	return v, fresh, nil
}

// write fills the file. A blob's header is written after the blob is proven and
// synced: by it, a later run knows what may be complete.
func (w *writer) write(ctx context.Context, fresh bool) error {
	if err := w.file.resize(w.form.size); err != nil {
		return err
	}
	_, bytes := w.plan.Blobs()
	w.options.Progress.Expect(bytes)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(w.options.Blobs)
	for _, e := range w.form.entries {
		if e.digest.IsZero() {
			if err := w.writeData(e); err != nil {
				return errors.Join(err, g.Wait())
			}
			continue
		}
		g.Go(func() error { return w.writeBlob(ctx, e, fresh) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return zero(w.file, w.form.size-2*block, 2*block)
}

// writeData writes an entry whose bytes are known. Padding is written too: something
// else may have been there.
func (w *writer) writeData(e entry) error {
	if _, err := w.file.WriteAt(e.header, e.at); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(e.data, e.dataAt()); err != nil {
		return err
	}
	return zero(w.file, e.dataAt()+e.size, padded(e.size)-e.size)
}

func zero(w io.WriterAt, off, n int64) error {
	_, err := w.WriteAt(make([]byte, n), off)
	return err
}

func (w *writer) writeBlob(ctx context.Context, e entry, fresh bool) error {
	if err := ctx.Err(); err != nil {
		return err // another has failed, or it was ended
	}
	b := w.plan.blobs[e.digest]
	line := w.options.Progress.Start(b.short(), b.descriptor.Size)
	if !fresh && w.complete(e) {
		line.Add(e.size)
		line.End(progress.Present)
		return nil
	}
	err := zero(w.file, e.at, int64(len(e.header))) // it is not complete from here on
	if err == nil {
		err = w.fetchTo(ctx, e, fresh, line)
	}
	if err == nil {
		err = zero(w.file, e.dataAt()+e.size, padded(e.size)-e.size)
	}
	if err == nil {
		err = w.file.sync()
	}
	if err == nil {
		_, err = w.file.WriteAt(e.header, e.at)
	}
	if err != nil {
		line.End(progress.Failed)
		return fmt.Errorf("blob %s: %w", e.digest, err)
	}
	line.End(progress.Done)
	return nil
}

// complete tells whether an earlier run left the whole blob in its place.
func (w *writer) complete(e entry) bool {
	header := make([]byte, len(e.header))
	if _, err := w.file.ReadAt(header, e.at); err != nil || !bytes.Equal(header, e.header) {
		return false
	}
	ok, err := e.digest.VerifyReader(io.NewSectionReader(w.file, e.dataAt(), e.size))
	return err == nil && ok && zero(w.file, e.dataAt()+e.size, padded(e.size)-e.size) == nil
}

// finish gives the files their names: what is beside an archive goes before it, and
// comes after it, so that it never belongs to another. The first volume is the last to
// be renamed: without it there is no archive.
func (w *writer) finish(name string, names []string) error {
	before, _ := ReadChecksums(name) // what cannot be read tells of nothing
	for _, beside := range []string{name + ChecksumSuffix, name + BundleSuffix} {
		if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for n := len(names) - 1; n >= 0; n-- {
		if err := os.Rename(names[n]+partialSuffix, names[n]); err != nil {
			return err
		}
	}
	if err := w.supersede(name, len(names), before); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(name)); err != nil || w.options.Bare {
		return err
	}
	if err := writeBundle(w.plan, name); err != nil {
		return err
	}
	return writeChecksums(name, names)
}

// supersede removes what is left of the archive that was there before: the one file
// where there are volumes now, volumes of one that was longer, and volumes where there is
// one file now, of those that its checksums named: others may be somebody else's.
func (w *writer) supersede(name string, volumes int, before map[string]string) error {
	if w.options.Volume > 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return removeAfter(name, volumes)
	}
	for n := 1; before[filepath.Base(VolumeName(name, n))] != ""; n++ {
		if err := os.Remove(VolumeName(name, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeAfter removes volumes of an archive that was longer.
func removeAfter(name string, last int) error {
	for n := last + 1; n <= MaxVolumes; n++ {
		err := os.Remove(VolumeName(name, n))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Stream writes the archive of a plan to w, blob after blob. Its order and bytes are
// those of [Write]; Volume, Bare and Blobs have no meaning.
func Stream(ctx context.Context, p *Plan, w io.Writer, o WriteOptions) error {
	o.fill()
	f, err := formOf(p, o.Format, o.Text)
	if err != nil {
		return err
	}
	_, bytes := p.Blobs()
	o.Progress.Expect(bytes)
	s := &writer{plan: p, form: f, options: o}
	if !o.Zstd {
		return s.stream(ctx, w)
	}
	z, err := newZstd(w)
	if err != nil {
		return err
	}
	if err := s.stream(ctx, z); err != nil {
		return errors.Join(err, z.Close())
	}
	return z.Close()
}

func (w *writer) stream(ctx context.Context, to io.Writer) error {
	for _, e := range w.form.entries {
		if _, err := to.Write(e.header); err != nil {
			return err
		}
		if e.digest.IsZero() {
			if _, err := to.Write(e.data); err != nil {
				return err
			}
		} else if err := w.streamBlob(ctx, to, e); err != nil {
			return fmt.Errorf("blob %s: %w", e.digest, err)
		}
		if _, err := to.Write(make([]byte, padded(e.size)-e.size)); err != nil {
			return err
		}
	}
	_, err := to.Write(make([]byte, 2*block))
	return err
}

func (w *writer) streamBlob(ctx context.Context, to io.Writer, e entry) error {
	b := w.plan.blobs[e.digest]
	line := w.options.Progress.Start(b.short(), e.size)
	if err := w.fetch(ctx, e, to, line, 0); err != nil {
		line.End(progress.Failed)
		return err
	}
	line.End(progress.Done)
	return nil
}
