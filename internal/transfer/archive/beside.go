package archive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"sampan/internal/oci"
	"sampan/internal/transfer/layout"
)

// What is written beside an archive has its name with these behind.
const (
	ChecksumSuffix = ".sha256sum"
	BundleSuffix   = ".bundle.json"
)

// ErrChecksum is what [errors.Is] finds where a file is not the one that was saved.
var ErrChecksum = errors.New("the checksum does not match")

// writeChecksums writes what `sha256sum -c` reads.
func writeChecksums(name string, names []string) error {
	var b strings.Builder
	for _, n := range names {
		sum, err := sumOf(n)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, filepath.Base(n))
	}
	return publish(name+ChecksumSuffix, []byte(b.String()))
}

func sumOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ReadChecksums are the checksums beside an archive in hex, by the names of its files
// without their directory. The error is [fs.ErrNotExist] where there are none.
func ReadChecksums(name string) (map[string]string, error) {
	raw, err := readBounded(name+ChecksumSuffix, 1<<20)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		sum, file, ok := strings.Cut(lines.Text(), "  ")
		if !ok || file != filepath.Base(file) || len(sum) != 2*sha256.Size || sums[file] != "" {
			return nil, fmt.Errorf("%s: %w", name+ChecksumSuffix, ErrBeside)
		}
		sums[file] = strings.ToLower(sum)
	}
	return sums, lines.Err()
}

// CheckSums compares the files of an archive with the checksums beside it, and tells
// whether there were any. Checksums of other files alone are [ErrChecksum].
func CheckSums(name string) (checked bool, err error) {
	sums, err := ReadChecksums(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	first := name
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		first = VolumeName(name, 1)
	}
	if _, err := os.Stat(first); err == nil && len(sums) > 0 && sums[filepath.Base(first)] == "" {
		return false, fmt.Errorf("%s: %w: %s does not name it", first, ErrChecksum, name+ChecksumSuffix)
	}
	for _, file := range slices.Sorted(maps.Keys(sums)) {
		path := filepath.Join(filepath.Dir(name), file)
		got, err := sumOf(path)
		if err != nil {
			return false, err
		}
		if got != sums[file] {
			return false, fmt.Errorf("%s: %w", path, ErrChecksum)
		}
	}
	return len(sums) > 0, nil
}

// ErrBeside is what [errors.Is] finds where a file is none of those beside an archive.
var ErrBeside = errors.New("it is not what was written beside an archive")

func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s: %w", name, ErrBeside)
	}
	return raw, err
}

// A Bundle tells what whoever has loaded an archive has: the next one needs to carry
// only what is new.
type Bundle struct {
	Version int           `json:"version"` // 1
	Images  []BundleImage `json:"images"`
	// Blobs are in the archive, in the order of their digests.
	Blobs []BundleBlob `json:"blobs"`
	// Before are those that the archive names and does not hold: they were there
	// before.
	Before []BundleBlob `json:"before,omitempty"`
}

// A BundleImage is an image that an archive names.
type BundleImage struct {
	Name   string     `json:"name,omitempty"` // empty for what is attached to another
	Digest oci.Digest `json:"digest"`
}

// A BundleBlob is a blob of an archive.
type BundleBlob struct {
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"` // bytes
	// Repository is one that has it, by its name in the archive; empty where that is
	// not known.
	Repository string `json:"repository,omitempty"`
}

// repository is the zero value for a name that is none.
func (b BundleBlob) repository() oci.Repository {
	repo, err := oci.ParseRepository(b.Repository)
	if err != nil {
		return oci.Repository{}
	}
	return repo
}

func writeBundle(p *Plan, name string) error {
	b := Bundle{Version: 1, Images: []BundleImage{}, Blobs: []BundleBlob{}, Before: p.without}
	for _, i := range p.images {
		image := BundleImage{Digest: i.Descriptor.Digest}
		if i.Named {
			image.Name = i.Ref.String()
		}
		b.Images = append(b.Images, image)
	}
	for _, d := range p.Descriptors() {
		b.Blobs = append(b.Blobs, BundleBlob{d.Digest, d.Size, p.blobs[d.Digest].name.String()})
	}
	raw, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return publish(name+BundleSuffix, append(raw, '\n'))
}

// ReadBundle reads a bundle.json and returns the blobs that whoever loaded its archive
// has, with the repositories that have them, which are zero where that is not known.
func ReadBundle(name string) (map[oci.Digest]oci.Repository, error) {
	raw, err := readBounded(name, 64<<20)
	if err != nil {
		return nil, err
	}
	var b Bundle
	if err := json.Unmarshal(raw, &b); err != nil || b.Version != 1 {
		return nil, fmt.Errorf("%s: %w", name, ErrBeside)
	}
	has := make(map[oci.Digest]oci.Repository)
	for _, blob := range slices.Concat(b.Before, b.Blobs) {
		has[blob.Digest] = blob.repository()
	}
	delete(has, oci.Digest{})
	return has, nil
}

// Contents are the blobs that whoever has a bundle.json, an archive or a layout has, as
// [ReadBundle] returns them.
func Contents(ctx context.Context, name string, o OpenOptions) (map[oci.Digest]oci.Repository, error) {
	if strings.HasSuffix(name, ".json") {
		return ReadBundle(name)
	}
	a, err := Open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Close() }() // of what was only read
	has := a.Before()
	if has == nil {
		has = make(map[oci.Digest]oci.Repository)
	}
	for _, i := range a.Images() {
		blobs, err := a.Present(ctx, i.Ref.Repository)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, d := range blobs {
			has[d.Digest] = i.Ref.Repository
		}
	}
	return has, nil
}

// newZstd compresses by one goroutine: the same bytes each time.
func newZstd(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
}

// compress makes the volumes of the final archive of the tar, which is complete.
func (w *writer) compress(ctx context.Context, name string) (names []string, err error) {
	out := &split{name: name, each: w.options.Volume}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.discard())
		}
	}()
	z, err := newZstd(out)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, layout.Interruptible(ctx, io.NewSectionReader(w.file, 0, w.form.size))); err != nil {
		return nil, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if err := out.sync(); err != nil {
		return nil, err
	}
	return out.commit(w.file.files[0].Name())
}

// split writes files of a size, whose number nobody knows yet.
type split struct {
	name  string
	each  int64 // bytes; zero for one file
	files volumes
	size  int64 // of the last
}

const zstdSuffix = ".zst"

// Write implements [io.Writer].
func (s *split) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if len(s.files.files) == 0 || s.each > 0 && s.size == s.each {
			if err := s.next(); err != nil {
				return done, err
			}
		}
		part := p[done:]
		if s.each > 0 {
			part = part[:min(int64(len(part)), s.each-s.size)]
		}
		n, err := s.files.files[len(s.files.files)-1].Write(part)
		done += n
		if s.size += int64(n); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *split) next() error {
	n := len(s.files.files) + 1
	if n > MaxVolumes {
		return ErrVolumes
	}
	f, err := os.OpenFile(s.temporary(n), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644) //nolint:gosec // an archive is for whoever may read its directory
	if err != nil {
		return err
	}
	s.files.files, s.size = append(s.files.files, f), 0
	return nil
}

// temporary is never the name of the tar that is compressed.
func (s *split) temporary(n int) string { return VolumeName(s.name, n) + zstdSuffix + partialSuffix }

func (s *split) sync() error { return s.files.sync() }

// discard removes what was written.
func (s *split) discard() error {
	err := s.files.Close()
	for _, f := range s.files.files {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// commit puts what was written where partial volumes are, in the place of the tar.
func (s *split) commit(tar string) ([]string, error) {
	if err := s.files.Close(); err != nil {
		return nil, err
	}
	if err := os.Remove(tar); err != nil {
		return nil, err
	}
	var names []string
	for n := range s.files.files {
		name := s.name
		if s.each > 0 {
			name = VolumeName(s.name, n+1)
		}
		if err := os.Rename(s.temporary(n+1), name+partialSuffix); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
