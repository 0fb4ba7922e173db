package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer"
)

func platform(t *testing.T, names ...string) []transfer.Platform {
	t.Helper()
	var list []transfer.Platform
	for _, name := range names {
		p, err := transfer.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func threePlatforms() registrytest.ImageSpec {
	return registrytest.ImageSpec{Layers: []int64{100_000, 1, 512, 0}, Platforms: []oci.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "arm", Variant: "v7"},
	}}
}

func TestAnArchiveHoldsImagesAsTheirRegistryDoes(t *testing.T) {
	for fact, o := range map[string]WriteOptions{
		"plain": {}, "zstd": {Zstd: true}, "volumes": {Volume: 50_000}, "zstd in volumes": {Zstd: true, Volume: 60_000}, "bare": {Bare: true},
	} {
		t.Run(fact, func(t *testing.T) {
			b := start(t)
			one := b.AddImage("library/one", "1", threePlatforms())
			two := b.AddImage("two", "2", registrytest.ImageSpec{Docker: true, Seed: 7})
			name := write(t, plan(t, PlanOptions{}, b.source(t, "one:1", "library/one:1"), b.source(t, "quay.io/a/two:2", "two:2")), o)
			if checked, err := CheckSums(name); err != nil || checked == o.Bare {
				t.Errorf("checksums: %v, %v", checked, err)
			}
			a := opened(t, name)
			wantWhole(t, a, reference(t, "one:1"), one.Manifest.Descriptor.Digest)
			wantWhole(t, a, reference(t, "quay.io/a/two:2"), two.Manifest.Descriptor.Digest)
			for _, ref := range []oci.Reference{reference(t, "one:1"), reference(t, "quay.io/a/two:2")} {
				if _, err := a.ResolveTag(t.Context(), ref.Repository, ref.Tag); err != nil {
					t.Error(err)
				}
			}
			if left, _ := filepath.Glob(name + "*" + partialSuffix); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestTheSameImagesAreTheSameArchive(t *testing.T) {
	for fact, o := range map[string]WriteOptions{
		"OCI": {}, "Docker": {Format: Docker}, "zstd": {Zstd: true}, "one blob at a time": {Blobs: 1},
	} {
		t.Run(fact, func(t *testing.T) {
			var first []byte
			for range 2 {
				b := start(t)
				b.AddImage("one", "1", threePlatforms())
				b.AddImage("two", "2", registrytest.ImageSpec{Docker: true, Seed: 7})
				sources := []Source{b.source(t, "one:1", "one:1"), b.source(t, "two:2", "two:2")}
				raw := content(t, write(t, plan(t, PlanOptions{}, sources...), o))
				if first == nil {
					first = raw
				}
				if !bytes.Equal(first, raw) {
					t.Error("two saves differ")
				}
				var stream bytes.Buffer
				if err := Stream(t.Context(), plan(t, PlanOptions{}, sources...), &stream, o); err != nil || !bytes.Equal(stream.Bytes(), raw) {
					t.Errorf("the stream differs from the file: %v", err)
				}
			}
		})
	}
}

// In which order images are named, and how often, is no part of what is saved.
func TestTheOrderOfNamesDoesNotMatter(t *testing.T) {
	b := start(t)
	b.AddImage("two", "2", registrytest.ImageSpec{Seed: 7})
	b.AddImage("one", "1", threePlatforms())
	b.AddArtifact("one", "", "application/spdx+json", b.AddImage("one", "2", registrytest.ImageSpec{Seed: 8}).Manifest.Descriptor, []byte("sbom"))
	one, other, two := b.source(t, "one:1", "one:1"), b.source(t, "one:2", "one:2"), b.source(t, "two:2", "two:2")
	o := PlanOptions{Referrers: true}
	first := write(t, plan(t, o, one, other, two), WriteOptions{})
	second := write(t, plan(t, o, two, other, one, two), WriteOptions{})
	for _, suffix := range []string{"", BundleSuffix, ChecksumSuffix} {
		if !bytes.Equal(content(t, first+suffix), content(t, second+suffix)) {
			t.Errorf("images.tar%s is another in another order", suffix)
		}
	}
}

func TestVolumesAreTheArchiveInPieces(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", threePlatforms())
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	whole := content(t, write(t, p, WriteOptions{}))
	name := filepath.Join(t.TempDir(), "x.tar")
	for _, each := range []int64{30_000, 100_000} { // the second time there are fewer
		names, err := Write(t.Context(), p, name, WriteOptions{Volume: each, Pause: noPause})
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for n, v := range names {
			raw := content(t, v)
			if all = append(all, raw...); v != VolumeName(name, n+1) || int64(len(raw)) > each {
				t.Errorf("%s has %d bytes", v, len(raw))
			}
		}
		if !bytes.Equal(all, whole) {
			t.Error("the volumes are not the archive")
		}
		if there, _ := filepath.Glob(name + ".[0-9]*"); !slices.Equal(there, names) {
			t.Errorf("there are %v, want %v", there, names)
		}
	}
	if err := os.Remove(VolumeName(name, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), name, OpenOptions{}); !errors.Is(err, ErrArchive) {
		t.Errorf("a missing volume: %v", err)
	}
	if _, err := Write(t.Context(), p, name, WriteOptions{Volume: 100, Pause: noPause}); !errors.Is(err, ErrVolumes) {
		t.Errorf("too many volumes: %v", err)
	}
}

// A save that fails in the middle leaves no archive, and the next one fetches only
// what was not complete.
func TestASaveGoesOnWhereItWas(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{Layers: []int64{200_000, 300_000, 400_000}})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	want := content(t, write(t, p, WriteOptions{}))
	for _, volume := range []int64{0, 250_000} {
		name := filepath.Join(t.TempDir(), "x.tar")
		last := sorted(p.blobs)[len(p.blobs)-1]
		broken := *p
		broken.blobs = map[oci.Digest]plannedBlob{}
		for d, blob := range p.blobs {
			if d == last {
				blob.reader = refusing{blob.reader}
			}
			broken.blobs[d] = blob
		}
		if _, err := Write(t.Context(), &broken, name, WriteOptions{Volume: volume, Blobs: 1, Pause: noPause}); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Fatalf("got %v", err)
		}
		if _, err := Open(t.Context(), name, OpenOptions{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an archive that is not complete: %v", err)
		}
		b.ResetCounts()
		names, err := Write(t.Context(), p, name, WriteOptions{Volume: volume, Pause: noPause})
		if err != nil {
			t.Fatal(err)
		}
		if n := b.Count(registrytest.KindBlob, http.MethodGet); n != 1 {
			t.Errorf("%d blobs were fetched again, want the one that was missing", n)
		}
		var got []byte
		for _, n := range names {
			got = append(got, content(t, n)...)
		}
		if !bytes.Equal(got, want) {
			t.Error("the archive is another")
		}
	}
}

// refusing has no blobs.
type refusing struct{ oci.Reader }

func (refusing) Blob(context.Context, oci.Repository, oci.Digest) (oci.BlobReader, error) {
	return nil, oci.ErrBlobUnknown
}

// What an earlier save left is not believed.
func TestWhatWasLeftIsProven(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{Layers: []int64{200_000}})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	want := content(t, write(t, p, WriteOptions{}))
	for fact, spoil := range map[string]func([]byte) []byte{
		"a byte of a blob is wrong": func(b []byte) []byte { b[len(b)-100_000] ^= 1; return b },
		"all is rubbish":            func(b []byte) []byte { return bytes.Repeat([]byte{7}, len(b)) },
		"it is cut off":             func(b []byte) []byte { return b[:len(b)/2] },
		"it is longer":              func(b []byte) []byte { return append(b, b...) },
	} {
		t.Run(fact, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "x.tar")
			if err := os.WriteFile(name+partialSuffix, spoil(bytes.Clone(want)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Write(t.Context(), p, name, WriteOptions{Pause: noPause}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, name), want) {
				t.Error("the archive is another")
			}
		})
	}
}

func TestTwoSavesOfOneArchiveAreOne(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	name := filepath.Join(t.TempDir(), "x.tar")
	v, _, err := openPartial([]string{name}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := Write(t.Context(), p, name, WriteOptions{Pause: noPause}); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
}

func TestAFolderIsNotReplaced(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	dir := t.TempDir()
	for _, name := range []string{dir, dir + "/", filepath.Join(dir, "new") + "/", os.DevNull} {
		if _, err := Write(t.Context(), p, name, WriteOptions{Pause: noPause}); !errors.Is(err, ErrNoFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if there, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*"+partialSuffix)); len(there) > 0 {
		t.Errorf("left behind: %v", there)
	}
}

// The names of an archive and what is beside it never belong to different saves.
func TestAnArchiveIsReplacedWhole(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{})
	b.AddImage("one", "2", registrytest.ImageSpec{Seed: 2})
	name := filepath.Join(t.TempDir(), "x.tar")
	for _, tag := range []string{"1", "2"} {
		p := plan(t, PlanOptions{}, b.source(t, "one:"+tag, "one:"+tag))
		if _, err := Write(t.Context(), p, name, WriteOptions{Pause: noPause}); err != nil {
			t.Fatal(err)
		}
		if _, err := CheckSums(name); err != nil {
			t.Error(err)
		}
	}
	raw := content(t, name)
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckSums(name); !errors.Is(err, ErrChecksum) {
		t.Errorf("a changed archive: %v", err)
	}
}

// What is loaded under a name is what was saved last, in one file or in volumes, with what
// is beside it or without.
func TestAnArchiveTakesThePlaceOfOneOfTheOtherForm(t *testing.T) {
	b := start(t)
	forms := []WriteOptions{{}, {Volume: 8_000}, {Bare: true}, {Bare: true, Volume: 8_000}, {Zstd: true}}
	name := filepath.Join(t.TempDir(), "x.tar")
	for i, before := range forms {
		for j, after := range forms {
			for n, o := range []WriteOptions{before, after} {
				seed := uint64(100 + 10*i + 2*j + n)
				tag := fmt.Sprintf("%d", seed)
				b.AddImage("one", tag, registrytest.ImageSpec{Seed: seed})
				o.Pause = noPause
				if _, err := Write(t.Context(), plan(t, PlanOptions{}, b.source(t, "one:"+tag, "one:"+tag)), name, o); err != nil {
					t.Fatal(err)
				}
				checked, err := CheckSums(name)
				if err != nil || checked == o.Bare {
					t.Errorf("%d after %d: checksums %v, %v", j, i, checked, err)
				}
				if got := opened(t, name).Images()[0].Ref.Tag.String(); got != tag {
					t.Errorf("%d after %d: image %s, want %s", j, i, got, tag)
				}
			}
		}
	}
}

// Saving one file removes volumes only where checksums tell that they were saved.
func TestFilesOfOthersAreKept(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{})
	name := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(VolumeName(name, 1), []byte("of somebody"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	if _, err := Write(t.Context(), p, name, WriteOptions{Pause: noPause}); err != nil {
		t.Fatal(err)
	}
	if got := string(content(t, VolumeName(name, 1))); got != "of somebody" {
		t.Errorf("the other file has %q", got)
	}
}

// Checksums that are about other files say nothing of an archive.
func TestChecksumsOfAnotherArchiveAreNone(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{})
	name := write(t, plan(t, PlanOptions{}, b.source(t, "one:1", "one:1")), WriteOptions{})
	moved := filepath.Join(t.TempDir(), "moved.tar")
	for _, suffix := range []string{"", ChecksumSuffix} {
		if err := os.Rename(name+suffix, moved+suffix); err != nil {
			t.Fatal(err)
		}
	}
	if checked, err := CheckSums(moved); checked || !errors.Is(err, ErrChecksum) {
		t.Errorf("checked %v, %v", checked, err)
	}
}

// A source that breaks off is read on, and one that sends something else is not kept.
func TestABlobIsReadOnOrRefused(t *testing.T) {
	b := start(t)
	image := b.AddImage("one", "1", registrytest.ImageSpec{Layers: []int64{300_000}})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	want := content(t, write(t, p, WriteOptions{}))
	with := func(wrap func(oci.Reader) oci.Reader) *Plan {
		q := *p
		q.blobs = map[oci.Digest]plannedBlob{}
		for d, blob := range p.blobs {
			if blob.reader = b.reader; d == image.Layers[0][0].Digest {
				blob.reader = wrap(b.reader)
			}
			q.blobs[d] = blob
		}
		return &q
	}
	got := content(t, write(t, with(func(r oci.Reader) oci.Reader { return &breaking{Reader: r} }), WriteOptions{}))
	if !bytes.Equal(got, want) {
		t.Error("what was read on is another archive")
	}
	name := filepath.Join(t.TempDir(), "x.tar")
	lie := with(func(r oci.Reader) oci.Reader { return lying{r, image.Configs[0].Digest} })
	if _, err := Write(t.Context(), lie, name, WriteOptions{Pause: noPause}); err == nil {
		t.Error("another blob was saved")
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is an archive: %v", err)
	}
}

// breaking cuts each blob off after some bytes.
type breaking struct{ oci.Reader }

func (r *breaking) Blob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	b, err := r.Reader.Blob(ctx, repo, digest)
	return &cut{b, 100_000}, err
}

type cut struct {
	oci.BlobReader
	left int
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("connection reset")
	}
	n, err := c.BlobReader.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// lying opens another blob.
type lying struct {
	oci.Reader
	other oci.Digest
}

func (r lying) Blob(ctx context.Context, repo oci.Repository, _ oci.Digest) (oci.BlobReader, error) {
	return r.Reader.Blob(ctx, repo, r.other)
}
