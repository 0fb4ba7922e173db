package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// fetch reads one part.
func fetch(ctx context.Context, p oci.BlobParts, from, to int64) ([]byte, oci.BlobPart, error) {
	part, err := p.Part(ctx, from, to)
	if err != nil {
		return nil, part, err
	}
	defer func() { _ = part.Body.Close() }()
	got, err := io.ReadAll(part.Body)
	return got, part, err
}

// fetchAll reads a blob in n parts at once, and compares.
func fetchAll(t *testing.T, p oci.BlobParts, n int, want []byte) {
	t.Helper()
	var all sync.WaitGroup
	size := int64(len(want))
	for i := range int64(n) {
		all.Go(func() {
			from, to := i*size/int64(n), (i+1)*size/int64(n)
			got, part, err := fetch(t.Context(), p, from, to)
			if err != nil || !bytes.Equal(got, want[from:to]) || part.From != from || part.Size != size || part.Whole {
				t.Errorf("part %d: %d bytes, %+v, %v", i, len(got), part, err)
			}
		})
	}
	all.Wait()
}

func TestPartsOfABlobAskTheRegistryOnce(t *testing.T) {
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", tls), func(t *testing.T) {
			reg, r := start(t, registrytest.Options{TLS: tls, Behavior: registrytest.DockerHub()}, Options{})
			blob := reg.AddBlob("a/b", 1<<20, 1)
			want := blobBytes(t, reg, blob)
			p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
			fetchAll(t, p, 8, want)
			fetchAll(t, p, 5, want)
			if n := reg.Count(registrytest.KindBlob); n != 2 { // 401 and 307
				t.Errorf("registry was asked %d times", n)
			}
			if n := reg.Count(registrytest.KindCDN, http.MethodGet); n != 13 || reg.TokensIssued() != 1 {
				t.Errorf("storage was asked %d times, %d tokens", n, reg.TokensIssued())
			}
			if n := reg.BytesSentOf(blob.Digest); n != 2*blob.Size {
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
}

func TestEveryKindOfRegistryGivesParts(t *testing.T) {
	for name, behavior := range presets() {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
			blob := reg.AddBlob("library/app", 1<<20, 1)
			p := r.FetchBlob(repository(t, "library/app"), blob.Digest)
			fetchAll(t, p, 7, blobBytes(t, reg, blob))
			reg.ExpireTokens()
			reg.ExpireRedirects()
			fetchAll(t, p, 7, blobBytes(t, reg, blob))
			if p := p.(*blobParts); behavior.Redirect.Status != 0 && p.ways[0].lead.target == nil {
				t.Error("the redirect was not remembered")
			}
			for _, req := range reg.Requests() {
				if req.Kind == registrytest.KindCDN && req.Authorization != "" && req.Host != reg.Host() {
					t.Error("the storage got an authorization")
				}
			}
		})
	}
}

func TestAnyPartOfAnyForm(t *testing.T) {
	forms := map[string]registrytest.BlobForm{
		"plain":                {},
		"range is ignored":     {IgnoreRange: true},
		"no length":            {Chunked: true},
		"no length, no range":  {Chunked: true, IgnoreRange: true},
		"ranges not announced": {NoAcceptRanges: true},
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: registrytest.Behavior{Blob: form}}, Options{})
			const size = 100_000
			blob := reg.AddBlob("a/b", size, 1)
			want := blobBytes(t, reg, blob)
			p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
			random := rand.New(rand.NewPCG(1, 2))
			for range 50 {
				from := random.Int64N(size)
				to := from + 1 + random.Int64N(size)
				if random.IntN(4) == 0 {
					to = -1
				}
				end := min(to, size)
				if to < 0 {
					end = size
				}
				got, part, err := fetch(t.Context(), p, from, to)
				told := part.Size == size || form.Chunked && form.IgnoreRange && part.Size == -1
				if err != nil || !told || !bytes.Equal(got, want[part.From:end]) {
					t.Fatalf("%d to %d: %d bytes from %d, size %d, %v", from, to, len(got), part.From, part.Size, err)
				}
				if form.IgnoreRange != part.Whole || form.IgnoreRange && part.From != 0 || !form.IgnoreRange && part.From != from {
					t.Fatalf("%d to %d: %+v", from, to, part)
				}
			}
			if n := reg.Count(registrytest.KindBlob, http.MethodHead); n > 1 {
				t.Errorf("%d HEAD requests", n)
			}
		})
	}
}

func TestPartsAreAskedForByTheirBytes(t *testing.T) {
	reg, r := start(t, registrytest.Options{}, Options{})
	blob := reg.AddBlob("a/b", 1000, 1)
	p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
	for _, part := range [][2]int64{{0, -1}, {0, 10}, {5, -1}, {5, 6}, {999, 5000}} {
		if _, _, err := fetch(t.Context(), p, part[0], part[1]); err != nil {
			t.Error(part, err)
		}
	}
	var ranges []string
	for _, req := range reg.Requests() {
		ranges = append(ranges, req.Range)
	}
	if want := []string{"", "bytes=0-9", "bytes=5-", "bytes=5-5", "bytes=999-4999"}; !slices.Equal(ranges, want) {
		t.Errorf("asked for %q", ranges)
	}
	for _, part := range [][2]int64{{-1, 5}, {5, 5}, {5, 4}, {0, 0}, {1000, -1}, {1 << 40, -1}} {
		_, _, err := fetch(t.Context(), p, part[0], part[1])
		wantCode(t, err, oci.CodeRangeInvalid)
	}
	if n := len(reg.Requests()); n != len(ranges) {
		t.Errorf("%d requests for parts that cannot be", n-len(ranges))
	}
}

func TestPartBehindTheEndOfABlobOfUnknownSize(t *testing.T) {
	for _, ignored := range []bool{false, true} {
		reg, r := start(t, registrytest.Options{Behavior: registrytest.Behavior{Blob: registrytest.BlobForm{IgnoreRange: ignored}}}, Options{})
		blob, empty := reg.AddBlob("a/b", 1000, 1), reg.AddBlob("a/b", 0, 1)
		for _, from := range []int64{1000, 1001} {
			_, _, err := fetch(t.Context(), r.FetchBlob(repository(t, "a/b"), blob.Digest), from, -1)
			wantCode(t, err, oci.CodeRangeInvalid)
		}
		got, part, err := fetch(t.Context(), r.FetchBlob(repository(t, "a/b"), empty.Digest), 0, -1)
		if err != nil || len(got) != 0 || part.Size != 0 {
			t.Errorf("empty blob: %d bytes, %+v, %v", len(got), part, err)
		}
	}
}

func TestAnswersThatAreNotThePartAreRefused(t *testing.T) {
	blob := randomBytes(1000)
	for name, test := range map[string]struct {
		status        int
		rng, mimeType string
		body          []byte
		want          oci.Code // "" means the bytes from 100 to 200
		cause         error
	}{
		"right":               {206, "bytes 100-199/1000", "", blob[100:200], "", nil},
		"size unknown":        {206, "bytes 100-199/*", "", blob[100:200], "", nil},
		"longer":              {206, "bytes 100-299/1000", "", blob[100:300], "", nil},
		"ends early":          {206, "bytes 100-149/1000", "", blob[100:150], "", io.ErrUnexpectedEOF},
		"ends early, unknown": {206, "bytes 100-149/*", "", blob[100:150], "", io.ErrUnexpectedEOF},
		"other start":         {206, "bytes 101-199/1000", "", blob[101:200], oci.CodeUnavailable, nil},
		"other size":          {206, "bytes 100-199/1001", "", blob[100:200], oci.CodeUnavailable, nil},
		"several parts":       {206, "bytes 100-199/1000", "multipart/byteranges; boundary=x", blob[100:200], oci.CodeUnavailable, nil},
		"no Content-Range":    {206, "", "", blob[100:200], oci.CodeUnavailable, nil},
		"whole, other size":   {200, "", "", blob[:999], oci.CodeUnavailable, nil},
		"no content":          {204, "", "", nil, oci.CodeUnavailable, nil},
		"no such range":       {416, "bytes */1000", "", nil, oci.CodeRangeInvalid, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Range") == "" {
					_, _ = w.Write(blob)
					return
				}
				w.Header().Set("Content-Range", test.rng)
				w.Header().Set("Content-Type", test.mimeType)
				w.Header().Set("Content-Length", strconv.Itoa(len(test.body)))
				w.WriteHeader(test.status)
				_, _ = w.Write(test.body)
			})
			p := open(t, Options{}, f.URL).FetchBlob(repository(t, "a/b"), oci.DigestOf(blob))
			if _, _, err := fetch(t.Context(), p, 0, -1); err != nil {
				t.Fatal(err)
			}
			got, _, err := fetch(t.Context(), p, 100, 200)
			wantCode(t, err, test.want)
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("got %v", err)
			}
			if test.want == "" && test.cause == nil && err != nil {
				t.Error(err)
			}
			if err == nil && !bytes.Equal(got, blob[100:200]) {
				t.Errorf("wrong %d bytes", len(got))
			}
		})
	}
}

func TestPartFaults(t *testing.T) {
	storage := []registrytest.Kind{registrytest.KindCDN}
	for name, test := range map[string]struct {
		fault registrytest.Fault
		code  oci.Code // "" means io.ErrUnexpectedEOF
	}{
		"truncated":          {registrytest.Fault{Truncate: true, TruncateAfter: 10}, ""},
		"too short":          {registrytest.Fault{LengthDelta: -5}, ""},
		"wrong range":        {registrytest.Fault{WrongContentRange: true}, oci.CodeUnavailable},
		"other size":         {registrytest.Fault{Extra: 5}, oci.CodeUnavailable},
		"empty reply":        {registrytest.Fault{EmptyReply: true}, oci.CodeUnavailable},
		"503":                {registrytest.Fault{Answer: registrytest.Status(503)}, oci.CodeUnavailable},
		"429":                {registrytest.Fault{Answer: registrytest.Status(429)}, oci.CodeTooManyRequests},
		"403 of the storage": {registrytest.Fault{On: storage, Answer: registrytest.Status(403)}, oci.CodeUnavailable},
		"404 of the storage": {registrytest.Fault{On: storage, Answer: registrytest.Status(404)}, oci.CodeBlobUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
			blob := reg.AddBlob("a/b", 1000, 1)
			want := blobBytes(t, reg, blob)
			p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
			fetchAll(t, p, 2, want)
			broken := registrytest.DockerHub()
			broken.Faults = []registrytest.Fault{test.fault}
			reg.SetBehavior(broken)
			_, _, err := fetch(t.Context(), p, 500, -1)
			wantCode(t, err, test.code)
			if test.code == "" && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
			reg.SetBehavior(registrytest.DockerHub())
			fetchAll(t, p, 2, want)
		})
	}
}

func TestPartThatStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		behavior.Faults = []registrytest.Fault{{HangInBody: registrytest.NewGate(), HangAt: 150_000, Times: 1}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{StallTimeout: 7 * time.Second})
		blob := reg.AddBlob("a/b", 300_000, 1)
		p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
		began := time.Now()
		got, _, err := fetch(t.Context(), p, 100_000, 200_000)
		wantCode(t, err, oci.CodeUnavailable)
		if !errors.Is(err, errStalled) || time.Since(began) != 7*time.Second || len(got) != 50_000 {
			t.Errorf("%d bytes, %v after %v", len(got), err, time.Since(began))
		}
		fetchAll(t, p, 3, blobBytes(t, reg, blob))
	})
}

func TestPartEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		behavior.Faults = []registrytest.Fault{{HangAfterHeaders: registrytest.NewGate()}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		blob := reg.AddBlob("a/b", 1000, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := r.parts(repository(t, "a/b"), blob.Digest)
		part, err := p.Part(ctx, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, err = part.Body.Read(make([]byte, 10))
			if !errors.Is(err, context.DeadlineExceeded) || oci.CodeOf(err) != "" {
				t.Errorf("got %v", err)
			}
		}
		_ = part.Body.Close()
		if _, err := p.Part(ctx, 5, -1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestClosedPartCannotBeRead(t *testing.T) {
	reg, r := start(t, registrytest.Options{}, Options{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	part, err := r.FetchBlob(repository(t, "a/b"), blob.Digest).Part(t.Context(), 10, -1)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := part.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := part.Body.Read(make([]byte, 1)); !errors.Is(err, errBodyClosed) {
		t.Errorf("got %v", err)
	}
}

func TestPartsUseConnectionsAgain(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
	for i := range int64(30) {
		if _, _, err := fetch(t.Context(), p, i<<15, (i+1)<<15); err != nil {
			t.Fatal(err)
		}
	}
	if n := reg.Connections(); n != 3 {
		t.Errorf("%d connections, want one per site", n)
	}
}
