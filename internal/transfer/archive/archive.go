// Package archive is images in one file: tar archives that hold an OCI layout, what
// `docker save` writes, or both, compressed or not, in one piece or in volumes.
//
// It promises:
//   - what is written depends on nothing but the images and the options: the same
//     archive each time, byte for byte;
//   - a file appears under its name only when it is whole, proven and synced. A save
//     that was killed at any moment goes on where it was when it runs again, and fetches
//     no blob twice that was complete;
//   - nothing of an archive is extracted: its entries are found by their place in the
//     file, links are followed among names of the archive alone, and a name that leads
//     out of it leads nowhere;
//   - what is read is bounded: entries, their names, manifests, and what a compressed
//     archive grows to;
//   - digests are proven as package layout proves them.
//
// It asks [oci.Reader]s and knows no registries; it carries nothing into an archive that
// exists, and it does not convert layers.
//
// Lock order: none; no function holds a lock of this package while it waits.
package archive

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"sampan/internal/oci"
)

// ErrBusy is what [errors.Is] finds where another process writes the same archive.
var ErrBusy = errors.New("another process writes it")

// ErrNoFile is what [errors.Is] finds where an archive would take the place of a folder
// or a device.
var ErrNoFile = errors.New("it is no file that could be replaced")

// syncDir makes a rename in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// publish writes a small file so that it is there whole or not at all.
func publish(name string, content []byte) error {
	temporary := name + partialSuffix
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // an archive is for whoever may read its directory
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// verified copies a blob of a known size, and fails where it is another.
func verified(w io.Writer, r io.Reader, d oci.Descriptor) error {
	h := d.Digest.Hash()
	n, err := io.Copy(io.MultiWriter(w, h), r)
	if err != nil {
		return err
	}
	if n != d.Size || !d.Digest.Matches(h) {
		return oci.Errorf(oci.CodeDigestInvalid, "what came as the blob %s is something else", d.Digest)
	}
	return nil
}
