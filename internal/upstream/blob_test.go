package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func blobBytes(t *testing.T, reg *registrytest.Registry, d oci.Descriptor) []byte {
	t.Helper()
	b := make([]byte, d.Size)
	if _, err := reg.Content(d.Digest).ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func TestBlobCanBeReadFromEveryOffsetInAnyOrder(t *testing.T) {
	forms := map[string]registrytest.Behavior{
		"plain":                  {},
		"redirected":             registrytest.DockerHub(),
		"range is ignored":       {Blob: registrytest.BlobForm{IgnoreRange: true}},
		"no length":              {Blob: registrytest.BlobForm{Chunked: true}},
		"no length, no range":    {Blob: registrytest.BlobForm{Chunked: true, IgnoreRange: true}},
		"range is not announced": {Blob: registrytest.BlobForm{NoAcceptRanges: true}},
	}
	for name, behavior := range forms {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			const size = 200_000
			blob := reg.AddBlob("a/b", size, 1)
			want := blobBytes(t, reg, blob)
			random := rand.New(rand.NewPCG(1, 2))
			b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			for range 30 {
				offset := random.Int64N(size + 1)
				if _, err := b.Seek(offset, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				length := random.Int64N(size)
				got, err := io.ReadAll(io.LimitReader(b, length))
				if err != nil || !bytes.Equal(got, want[offset:min(size, offset+length)]) {
					t.Fatalf("%d bytes at %d: got %d, %v", length, offset, len(got), err)
				}
			}
		})
	}
}

func TestSeekIsLazyAndCostsOneRequest(t *testing.T) {
	reg, r := start(t, registrytest.Options{}, Options{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	for _, step := range []struct{ offset, whence, want int64 }{{5, io.SeekStart, 5}, {3, io.SeekCurrent, 8}, {-1, io.SeekEnd, 1<<20 - 1}, {0, io.SeekEnd, 1 << 20}, {100, io.SeekStart, 100}} {
		if at, err := b.Seek(step.offset, int(step.whence)); err != nil || at != step.want {
			t.Errorf("at %d, %v; want %d", at, err, step.want)
		}
	}
	for _, bad := range []int64{-1, -(1 << 40)} {
		if _, err := b.Seek(bad, io.SeekStart); err == nil {
			t.Errorf("seek to %d went well", bad)
		}
	}
	if _, err := io.CopyN(io.Discard, b, 1000); err != nil {
		t.Error(err)
	}
	requests := reg.Requests()
	if len(requests) != 2 || requests[1].Range != "bytes=100-" {
		t.Errorf("requests %+v", requests)
	}
	_ = b.Close()
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("a closed blob was read")
	}
}

func TestBlobOfUnknownLengthIsAskedForOnceWithHEAD(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.Behavior{Blob: registrytest.BlobForm{Chunked: true}}}, Options{})
	blob := reg.AddBlob("a/b", 1000, 1)
	b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b); len(got) != 1000 {
		t.Errorf("%d bytes", len(got))
	}
	if n := reg.Count(registrytest.KindBlob, http.MethodHead); n != 1 {
		t.Errorf("%d HEAD requests", n)
	}
}

func TestReadAfterABreakContinuesWhereItStopped(t *testing.T) {
	faults := map[string]registrytest.Fault{
		"truncated": {Truncate: true, TruncateAfter: 50_000, Times: 3},
		"reset":     {Truncate: true, TruncateAfter: 50_000, Reset: true, Times: 3},
	}
	for name, fault := range faults {
		for _, redirected := range []bool{false, true} {
			t.Run(fmt.Sprint(name, redirected), func(t *testing.T) {
				behavior := registrytest.Behavior{}
				if redirected {
					behavior = registrytest.DockerHub()
				}
				behavior.Faults = []registrytest.Fault{fault}
				reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
				blob := reg.AddBlob("a/b", 300_000, 1)
				b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = b.Close() }()
				h, breaks := blob.Digest.Hash(), 0
				for {
					_, err := io.Copy(h, b)
					if err == nil {
						break
					}
					if breaks++; breaks > 3 {
						t.Fatal(err)
					}
					if !errors.Is(err, io.ErrUnexpectedEOF) && oci.CodeOf(err) != oci.CodeUnavailable {
						t.Errorf("got %v", err)
					}
				}
				if !blob.Digest.Matches(h) || breaks != 3 {
					t.Errorf("right %v after %d breaks", blob.Digest.Matches(h), breaks)
				}
			})
		}
	}
}

func TestAnswersThatDoNotFitARangeAreRefused(t *testing.T) {
	blob := randomBytes(1000)
	for name, test := range map[string]struct {
		status int
		rng    string
		length int
		want   oci.Code // "" means all the bytes
	}{
		"right":               {206, "bytes 100-999/1000", 900, ""},
		"right, size unknown": {206, "bytes 100-999/*", 900, ""},
		"other start":         {206, "bytes 101-999/1000", 899, oci.CodeUnavailable},
		"earlier start":       {206, "bytes 0-999/1000", 1000, oci.CodeUnavailable},
		"other size":          {206, "bytes 100-998/999", 899, oci.CodeUnavailable},
		"no Content-Range":    {206, "", 900, oci.CodeUnavailable},
		"garbage":             {206, "bytes x-y/z", 900, oci.CodeUnavailable},
		"backwards":           {206, "bytes 999-100/1000", 900, oci.CodeUnavailable},
		"beyond the size":     {206, "bytes 100-1000/1000", 900, oci.CodeUnavailable},
		"other unit":          {206, "items 100-999/1000", 900, oci.CodeUnavailable},
		"whole":               {200, "", 1000, ""},
		"whole, other size":   {200, "", 999, oci.CodeUnavailable},
		"no content":          {204, "", 0, oci.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Range") == "" {
					_, _ = w.Write(blob)
					return
				}
				w.Header().Set("Content-Range", test.rng)
				if test.length > 0 {
					w.Header().Set("Content-Length", strconv.Itoa(test.length))
				}
				w.WriteHeader(test.status)
				_, _ = w.Write(blob[len(blob)-test.length:])
			})
			r := open(t, Options{}, f.URL)
			b, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(blob))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			_, _ = b.Seek(100, io.SeekStart)
			got, err := io.ReadAll(b)
			wantCode(t, err, test.want)
			if test.want == "" && !bytes.Equal(got, blob[100:]) {
				t.Errorf("wrong %d bytes", len(got))
			}
		})
	}
}

func TestBlobFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault registrytest.Fault
		code  oci.Code // "" means io.ErrUnexpectedEOF
	}{
		"truncated":     {registrytest.Fault{Truncate: true, TruncateAfter: 10}, ""},
		"short":         {registrytest.Fault{LengthDelta: 5}, ""},
		"empty reply":   {registrytest.Fault{EmptyReply: true}, oci.CodeUnavailable},
		"500":           {registrytest.Fault{Answer: registrytest.Status(500)}, oci.CodeUnavailable},
		"429":           {registrytest.Fault{Answer: registrytest.TooMany(registrytest.TooManyGHCR, 0)}, oci.CodeTooManyRequests},
		"storage's 403": {registrytest.Fault{On: []registrytest.Kind{registrytest.KindCDN}, Answer: registrytest.Status(403)}, oci.CodeUnavailable},
		"storage's 400": {registrytest.Fault{On: []registrytest.Kind{registrytest.KindCDN}, Answer: registrytest.Status(400)}, oci.CodeUnavailable},
		"storage's 404": {registrytest.Fault{On: []registrytest.Kind{registrytest.KindCDN}, Answer: registrytest.Status(404)}, oci.CodeBlobUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			behavior := registrytest.DockerHub()
			behavior.Faults = []registrytest.Fault{test.fault}
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			blob := reg.AddBlob("a/b", 1000, 1)
			b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
			if err == nil {
				_, err = io.Copy(io.Discard, b)
				_ = b.Close()
			}
			wantCode(t, err, test.code)
			if test.code == "" && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestEncodedBlobIsRefused(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("x"))
	})
	r := open(t, Options{}, f.URL)
	_, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(nil))
	wantCode(t, err, oci.CodeUnavailable)
}

func TestBlobThatStandsStillIsGivenUpAndCanBeContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		behavior.Faults = []registrytest.Fault{{HangInBody: registrytest.NewGate(), HangAt: 100_000, Times: 1}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{StallTimeout: 7 * time.Second})
		blob := reg.AddBlob("a/b", 300_000, 1)
		b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close() }()
		began, h := time.Now(), blob.Digest.Hash()
		_, err = io.Copy(h, b)
		wantCode(t, err, oci.CodeUnavailable)
		if !errors.Is(err, errStalled) || time.Since(began) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := io.Copy(h, b); err != nil || !blob.Digest.Matches(h) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestSlowBlobIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			Pace: registrytest.Pace{BytesPerSecond: 1000},
		}}, Options{StallTimeout: 7 * time.Second, Timeout: 10 * time.Second})
		blob := reg.AddBlob("a/b", 60_000, 1)
		b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := blob.Digest.VerifyReader(b); !ok || err != nil {
			t.Errorf("right %v, error %v", ok, err)
		}
		_ = b.Close()
	})
}

func TestCancelledBlobEndsWithTheCallersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			Faults: []registrytest.Fault{{HangAfterHeaders: registrytest.NewGate()}},
		}}, Options{})
		blob := reg.AddBlob("a/b", 1000, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b, err := r.Blob(ctx, repository(t, "a/b"), blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close() }()
		_, err = b.Read(make([]byte, 10))
		if !errors.Is(err, context.DeadlineExceeded) || oci.CodeOf(err) != "" {
			t.Errorf("got %v", err)
		}
	})
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	for range 20 {
		if _, err := r.TaggedManifest(t.Context(), repository(t, "a/b"), tag(t, "v1")); err != nil {
			t.Fatal(err)
		}
		_, err := r.Manifest(t.Context(), repository(t, "a/b"), oci.DigestOf(nil))
		wantCode(t, err, oci.CodeManifestUnknown)
		b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, b)
	}
	if n := reg.Connections(); n != 3 {
		t.Errorf("%d connections, want one per site", n)
	}
}
