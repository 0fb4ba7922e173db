package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer/archive"
)

const app = "docker.io/team/app"

// A file that takes the place of another is seen when a tag is asked for, and whoever
// reads from the one before goes on.
func TestAReplacedArchiveIsOpenedAgain(t *testing.T) {
	place := archiveOf(t, one)
	u := serve(t, nil, place)
	wantTag(t, u, app, "1", one)
	before := u.endpoints[0].current
	b, err := u.Blob(t.Context(), repository(t, app), one.blob())
	if err != nil {
		t.Fatal(err)
	}
	part, err := u.FetchBlob(repository(t, app), one.blob()).Part(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	newer := image{name: one.name, layer: "a newer layer"}
	writeArchive(t, place.Path, files(newer))
	if _, err := u.Manifest(t.Context(), repository(t, app), one.digest()); err != nil {
		t.Errorf("what is open is not looked at again for a digest: %v", err)
	}
	wantTag(t, u, app, "1", newer)
	_, err = u.Manifest(t.Context(), repository(t, app), one.digest())
	wantCode(t, err, oci.CodeManifestUnknown)
	for name, r := range map[string]io.ReadCloser{"blob": b, "part": part.Body} {
		if got, err := io.ReadAll(r); string(got) != one.layer || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if before.users != 0 || !before.retired {
		t.Errorf("%d use what was replaced", before.users)
	}
	c, err := before.Layout.Part(t.Context(), repository(t, app), one.blob(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file that was replaced is open still: %v", err)
	}
}

func TestALayoutIsOpenedAgainWhenItsIndexHasChanged(t *testing.T) {
	p := Place{Path: t.TempDir(), Layout: true}
	writeLayout(t, p.Path, files(one))
	u := serve(t, nil, p)
	wantTag(t, u, app, "1", one)
	writeLayout(t, p.Path, files(one, two))
	wantTag(t, u, app, "2", two)
	wantTag(t, u, app, "1", one)
}

func TestVolumesAreOneArchive(t *testing.T) {
	whole := archiveOf(t, one)
	raw, err := os.ReadFile(whole.Path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "split.tar")
	const each = 4000
	for n := 1; len(raw) > 0; n++ {
		part := raw[:min(each, len(raw))]
		replace(t, archive.VolumeName(name, n), part)
		raw = raw[len(part):]
	}
	for _, path := range []string{name, archive.VolumeName(name, 1)} {
		u := serve(t, nil, Place{Path: path})
		wantTag(t, u, app, "1", one)
		if n := len(u.endpoints[0].current.stamp); n < 2 {
			t.Errorf("%d volumes are looked at", n)
		}
	}
	u := serve(t, nil, Place{Path: name})
	wantTag(t, u, app, "1", one)
	if err := os.Remove(archive.VolumeName(name, 2)); err != nil {
		t.Fatal(err)
	}
	_, err = u.ResolveTag(t.Context(), repository(t, app), tag(t, "1"))
	wantCode(t, err, oci.CodeUnavailable)
}

// A disk that is not there is no answer, and no client is told where it was.
func TestAnArchiveThatGoesAwayGivesNoAnswer(t *testing.T) {
	place := archiveOf(t, one)
	u := serve(t, nil, place)
	wantTag(t, u, app, "1", one)
	if s := u.Status().Endpoints[0]; s.State != "up" || s.Error != "" || s.URL != place.String() {
		t.Errorf("%+v", s)
	}
	if err := os.Rename(place.Path, place.Path+".away"); err != nil {
		t.Fatal(err)
	}
	repo := repository(t, app)
	_, err := u.ResolveTag(t.Context(), repo, tag(t, "1"))
	wantCode(t, err, oci.CodeUnavailable)
	var told *oci.Error
	if !errors.As(err, &told) || strings.Contains(told.Message, place.Path) || !strings.Contains(err.Error(), place.Path) {
		t.Errorf("clients are told %q, the log %q", told.Message, err)
	}
	for what, ask := range map[string]func() error{
		"manifest": func() error { _, err := u.Manifest(t.Context(), repo, one.digest()); return err },
		"blob":     func() error { _, err := u.StatBlob(t.Context(), repo, one.blob()); return err },
		"part":     func() error { _, err := u.FetchBlob(repo, one.blob()).Part(t.Context(), 0, -1); return err },
		"tags":     func() error { _, err := u.Tags(t.Context(), repo); return err },
		"other":    func() error { _, err := u.Tags(t.Context(), repository(t, "docker.io/a/b")); return err },
	} {
		if err := ask(); oci.CodeOf(err) != oci.CodeUnavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := u.Status().Endpoints[0]; s.State != "down" || s.Failures < 2 || !strings.Contains(s.Error, "no such file") {
		t.Errorf("%+v", s)
	}
	if err := os.Rename(place.Path+".away", place.Path); err != nil {
		t.Fatal(err)
	}
	wantTag(t, u, app, "1", one)
	if s := u.Status().Endpoints[0]; s.State != "up" || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// That the registry does not know an image says nothing about one that was on a disk
// which is not there now; about others, it does.
func TestARefusalDoesNotStandInForAnArchiveThatIsGone(t *testing.T) {
	r, up := network(t)
	two.add(r, "team/app", "2")
	place := archiveOf(t, one)
	u := serve(t, up, place)
	wantTag(t, u, app, "1", one)
	if err := os.Remove(place.Path); err != nil {
		t.Fatal(err)
	}
	repo := repository(t, app)
	wantTag(t, u, app, "2", two)
	_, err := u.ResolveTag(t.Context(), repo, tag(t, "1"))
	wantCode(t, err, oci.CodeUnavailable)
	_, err = u.FetchBlob(repo, one.blob()).Part(t.Context(), 0, -1)
	wantCode(t, err, oci.CodeUnavailable)
	_, err = u.ResolveTag(t.Context(), repository(t, "docker.io/team/other"), tag(t, "1"))
	wantCode(t, err, oci.CodeManifestUnknown)
	_, err = u.Tags(t.Context(), repo)
	wantCode(t, err, oci.CodeUnavailable)
}

// What could not be opened is not read again for each question, as long as it is the same.
func TestABrokenArchiveIsLeftAloneForAWhile(t *testing.T) {
	place := archiveOf(t, one)
	raw, err := os.ReadFile(place.Path)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, place.Path, raw[:len(raw)/2+100])
	synctest.Test(t, func(t *testing.T) {
		u := serve(t, nil, place)
		s := u.endpoints[0].source
		ask := func() time.Time {
			t.Helper()
			_, err := u.ResolveTag(t.Context(), repository(t, app), tag(t, "1"))
			wantCode(t, err, oci.CodeUnavailable)
			return s.failure.at
		}
		first := ask()
		time.Sleep(retryAfter - time.Second)
		if again := ask(); !again.Equal(first) {
			t.Error("it was opened again")
		}
		time.Sleep(time.Second)
		if again := ask(); again.Equal(first) {
			t.Error("it is never opened again")
		}
		if st := u.Status().Endpoints[0]; st.State != "down" || !strings.Contains(st.Error, "cut off") {
			t.Errorf("%+v", st)
		}
		replace(t, place.Path, raw)
		wantTag(t, u, app, "1", one)
	})
}

// Content that is not what it should be is no answer, and asked of the next.
func TestADigestThatLiesIsNoAnswer(t *testing.T) {
	content := files(one)
	lie := bytes.Repeat([]byte("y"), len(one.layer))
	content["blobs/sha256/"+one.blob().Hex()] = lie
	place := Place{Path: filepath.Join(t.TempDir(), "x.tar")}
	writeArchive(t, place.Path, content)
	r, up := network(t)
	one.add(r, "team/app", "1")
	repo := repository(t, app)

	u := serve(t, up, place)
	p := u.FetchBlob(repo, one.blob())
	if got, err := readPart(t, p, 0, -1); got != string(lie) || err != nil {
		t.Fatalf("%q, %v: parts are proven by whoever keeps them", got, err)
	}
	p.(oci.BlobAvoider).Avoid(place.String())
	if got, err := readPart(t, p, 0, -1); got != one.layer || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if s := u.Status().Endpoints[0]; !strings.Contains(s.Error, one.blob().String()) {
		t.Errorf("%+v", s)
	}
	if got, err := readPart(t, u.FetchBlob(repo, one.blob()), 0, -1); got != one.layer || err != nil {
		t.Errorf("the next fetch begins with the bytes that lie: %q, %v", got, err)
	}
	b, err := u.Blob(t.Context(), repo, one.blob())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); len(got) == len(lie) || err == nil {
		t.Errorf("all of what lies was read: %q, %v", got, err)
	}

	// A manifest that lies, or is none, is not there for clients.
	for fact, change := range map[string]func(map[string][]byte){
		"other bytes": func(c map[string][]byte) {
			c["blobs/sha256/"+one.digest().Hex()] = bytes.Repeat([]byte(" "), len(one.manifest()))
		},
		"another length": func(c map[string][]byte) { c["blobs/sha256/"+one.digest().Hex()] = []byte("{}") },
		"no manifest's media type": func(c map[string][]byte) {
			c["index.json"] = bytes.ReplaceAll(c["index.json"], []byte(oci.MediaTypeImageManifest), []byte("text/html"))
		},
	} {
		content := files(one)
		change(content)
		writeArchive(t, place.Path, content)
		wantTag(t, serve(t, up, place), app, "1", one)
		_, err := serve(t, nil, place).ResolveTag(t.Context(), repo, tag(t, "1"))
		if oci.CodeOf(err) != oci.CodeUnavailable {
			t.Errorf("%s: %v", fact, err)
		}
	}
}

// Where nobody else sends a blob, it is read again of who failed.
func TestAnEndpointThatFailedIsAskedLast(t *testing.T) {
	place := archiveOf(t, one)
	u := serve(t, nil, place)
	p := u.FetchBlob(repository(t, app), one.blob())
	p.(oci.BlobAvoider).Avoid(place.String())
	if got, err := readPart(t, p, 0, -1); got != one.layer || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err := p.Part(t.Context(), int64(len(one.layer)), -1)
	wantCode(t, err, oci.CodeRangeInvalid)
}

// A file that is cut off under a reader breaks the part, and the next one comes from
// elsewhere.
func TestBytesThatBreakOffComeFromTheNext(t *testing.T) {
	big := image{name: one.name, layer: strings.Repeat("0123456789abcdef", 1<<14)}
	place := archiveOf(t, big)
	r, up := network(t)
	big.add(r, "team/app", "1")
	u := serve(t, up, place)
	p := u.FetchBlob(repository(t, app), big.blob())
	part, err := p.Part(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Body.Close()
	begin := make([]byte, 1000)
	if _, err := io.ReadFull(part.Body, begin); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(place.Path, 1); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, part.Body)
	wantCode(t, err, oci.CodeUnavailable)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	at := int64(len(begin)) + n
	if got, err := readPart(t, p, at, -1); got != big.layer[at:] || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Upstreams that name the same archive have it open once, until the last of them ends.
func TestAnArchiveIsOpenedOnceForAll(t *testing.T) {
	place := archiveOf(t, one)
	pool := NewPool(slog.New(slog.DiscardHandler))
	o := Options{Registry: hub(t), Pool: pool, Endpoints: []Endpoint{{Place: place}}}
	first, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	second := made(t, o)
	wantTag(t, first, app, "1", one)
	if first.endpoints[0].current != second.endpoints[0].current {
		t.Error("it is open twice")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	wantTag(t, second, app, "1", one)
	third, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := third.Blob(t.Context(), repository(t, app), one.blob())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(second.Close(), third.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != one.layer || err != nil {
		t.Errorf("a reader ended with the upstream: %q, %v", got, err)
	}
	b.Close()
	_, err = third.ResolveTag(t.Context(), repository(t, app), tag(t, "1"))
	wantCode(t, err, oci.CodeUnavailable)
}

// Who does not want to wait takes nothing along.
func TestOpeningIsNobodysWhoAsks(t *testing.T) {
	u := serve(t, nil, archiveOf(t, one))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := u.ResolveTag(gone, repository(t, app), tag(t, "1")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	u.Begin()
	wantTag(t, u, app, "1", one)
	if s := u.Status().Endpoints[0]; s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// Replaced again and again under those who read, it is always one of the two.
func TestReplacementsUnderLoad(t *testing.T) {
	place := archiveOf(t, one)
	newer := image{name: one.name, layer: "a newer layer"}
	u := serve(t, nil, place)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				d, err := u.ResolveTag(t.Context(), repository(t, app), tag(t, "1"))
				if err != nil || d.Digest != one.digest() && d.Digest != newer.digest() {
					t.Errorf("%s, %v", d.Digest, err)
					return
				}
				for _, i := range []image{one, newer} {
					b, err := u.Blob(t.Context(), repository(t, app), i.blob())
					if oci.IsUnknown(err) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := io.ReadAll(b); string(got) != i.layer || err != nil {
						t.Errorf("%q, %v", got, err)
					}
					b.Close()
				}
			}
		})
	}
	for n := range 60 {
		writeArchive(t, place.Path, files([]image{one, newer}[n%2]))
		wantTag(t, u, app, "1", []image{one, newer}[n%2])
	}
	close(done)
	readers.Wait()
}
