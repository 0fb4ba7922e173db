package registrytest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func fault(f registrytest.Fault) registrytest.Behavior {
	return registrytest.Behavior{Faults: []registrytest.Fault{f}}
}

func TestFaultsInTheBody(t *testing.T) {
	const size = 1_000_000
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	same := func(b []byte) []byte { return b }
	for name, tt := range map[string]struct {
		fault  registrytest.Fault
		ranged string
		want   func([]byte) []byte // of the right bytes of the range
		length int64
		err    error
	}{
		"none":                          {registrytest.Fault{}, "", same, size, nil},
		"truncated":                     {registrytest.Fault{Truncate: true, TruncateAfter: 300_000}, "", cut(300_000), size, io.ErrUnexpectedEOF},
		"truncated at once":             {registrytest.Fault{Truncate: true}, "", cut(0), size, io.ErrUnexpectedEOF},
		"truncated in a range":          {registrytest.Fault{Truncate: true, TruncateAfter: 10}, "bytes=500000-", cut(10), size / 2, io.ErrUnexpectedEOF},
		"not truncated when short":      {registrytest.Fault{Truncate: true, TruncateAfter: 300_000}, "bytes=900000-", same, 100_000, nil},
		"a flipped bit":                 {registrytest.Fault{Corrupt: true, CorruptAt: 700_000}, "", flip(700_000), size, nil},
		"the last byte's bit":           {registrytest.Fault{Corrupt: true, CorruptAt: -1}, "", flip(size - 1), size, nil},
		"a flipped bit before a range":  {registrytest.Fault{Corrupt: true, CorruptAt: 0}, "bytes=1-", same, size - 1, nil},
		"a Content-Length too long":     {registrytest.Fault{LengthDelta: 5}, "", same, size + 5, io.ErrUnexpectedEOF},
		"a Content-Length too short":    {registrytest.Fault{LengthDelta: -5}, "", cut(size - 5), size - 5, nil},
		"bytes after the end":           {registrytest.Fault{Extra: 3}, "", func(b []byte) []byte { return append(bytes.Clone(b), "   "...) }, size + 3, nil},
		"for another blob":              {registrytest.Fault{Corrupt: true, Only: oci.DigestOf(nil)}, "", same, size, nil},
		"for the CDN, which is unasked": {registrytest.Fault{Corrupt: true, On: []registrytest.Kind{registrytest.KindCDN}}, "", same, size, nil},
	} {
		for _, opts := range []registrytest.Options{{}, {InMemory: true}} {
			t.Run(name, func(t *testing.T) {
				opts.Behavior = fault(tt.fault)
				r := start(t, opts)
				d := r.AddBlob("a", size, 1)
				right := bytesOf(t, r, d)
				var header []string
				if tt.ranged != "" {
					header = []string{"Range", tt.ranged}
					right = right[size-tt.length:]
				}
				a := do(t, r.Client(), "GET", blobURL(r, "a", d), header...)
				if a.length != tt.length || !errors.Is(a.bodyErr, tt.err) || !bytes.Equal(a.body, tt.want(right)) {
					t.Errorf("length %d, %d bytes, %v", a.length, len(a.body), a.bodyErr)
				}
			})
		}
	}
}

func TestAFaultEndsAfterItsTimes(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: fault(registrytest.Fault{Skip: 1, Times: 2, Truncate: true})})
	d := r.AddBlob("a", 100, 1)
	for i, broken := range []bool{false, true, true, false} {
		if head := do(t, r.Client(), "HEAD", blobURL(r, "a", d)); head.status != 200 {
			t.Errorf("HEAD: %d", head.status)
		}
		if a := do(t, r.Client(), "GET", blobURL(r, "a", d)); (a.bodyErr != nil) != broken {
			t.Errorf("request %d: %v", i, a.bodyErr)
		}
	}
	if got := r.BytesSentOf(d.Digest); got != 200 {
		t.Errorf("%d bytes counted", got)
	}
}

func TestFaultsHitWhatTheCDNServes(t *testing.T) {
	b := fault(registrytest.Fault{Corrupt: true})
	b.Redirect.Status = 307
	r := start(t, registrytest.Options{InMemory: true, Behavior: b})
	d := r.AddBlob("a", 100, 1)
	if a := do(t, r.Client(), "GET", blobURL(r, "a", d)); a.status != 200 || d.Digest.Verify(a.body) {
		t.Errorf("%d", a.status)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, tt := range map[string]struct {
		fault registrytest.Fault
		want  error
	}{
		"an empty reply": {registrytest.Fault{EmptyReply: true}, io.EOF},
		"a reset":        {registrytest.Fault{Reset: true}, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []registrytest.Kind{registrytest.KindBlob, registrytest.KindPing, registrytest.KindManifest, registrytest.KindToken} {
				tt.fault.On = []registrytest.Kind{kind}
				r := start(t, registrytest.Options{Behavior: fault(tt.fault)})
				d := r.AddBlob("a", 100, 1)
				c := r.Client()
				c.Transport.(*http.Transport).DisableKeepAlives = true // or Go asks again
				u := map[registrytest.Kind]string{
					registrytest.KindBlob: blobURL(r, "a", d), registrytest.KindPing: r.URL() + "/v2/",
					registrytest.KindManifest: r.URL() + "/v2/a/manifests/v1", registrytest.KindToken: r.TokenURL(),
				}[kind]
				if _, err := try(c, "GET", u); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v", kind, err)
				}
				if got := r.Requests(); len(got) != 1 || got[0].Status != 0 {
					t.Errorf("%s: %+v", kind, got)
				}
			}
		})
	}
}

func TestAResetInMidBody(t *testing.T) {
	for _, opts := range []registrytest.Options{{}, {TLS: true}, {TLS: true, HTTP1: true}} {
		opts.Behavior = fault(registrytest.Fault{Truncate: true, TruncateAfter: 10_000, Reset: true})
		r := start(t, opts)
		d := r.AddBlob("a", 100_000, 1)
		a := do(t, r.Client(), "GET", blobURL(r, "a", d))
		if a.bodyErr == nil || !opts.TLS && !errors.Is(a.bodyErr, syscall.ECONNRESET) {
			t.Errorf("%+v: %d bytes, %v", opts, len(a.body), a.bodyErr)
		}
	}
}

func TestAPortalAnswersHTML(t *testing.T) {
	all := []registrytest.Kind{registrytest.KindAny}
	r := start(t, registrytest.Options{InMemory: true, Behavior: fault(registrytest.Fault{On: all, Answer: registrytest.HTML})})
	for _, path := range []string{"/v2/", "/v2/a/manifests/v1", "/v2/a/blobs/" + oci.DigestOf(nil).String()} {
		a := do(t, r.Client(), "GET", r.URL()+path)
		if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
}

func TestGatesHoldTheAnswer(t *testing.T) {
	const size = 100_000
	for name, tt := range map[string]struct {
		fault  func(*registrytest.Gate) registrytest.Fault
		header bool // whether the headers come before the gate opens
		before int  // body bytes that come before
	}{
		"before the headers": {func(g *registrytest.Gate) registrytest.Fault { return registrytest.Fault{HangBeforeHeaders: g} }, false, 0},
		"after the headers":  {func(g *registrytest.Gate) registrytest.Fault { return registrytest.Fault{HangAfterHeaders: g} }, true, 0},
		"in the body": {func(g *registrytest.Gate) registrytest.Fault {
			return registrytest.Fault{HangInBody: g, HangAt: 30_000}
		}, true, 30_000},
		"at the end of the body": {func(g *registrytest.Gate) registrytest.Fault {
			return registrytest.Fault{HangInBody: g, HangAt: size}
		}, true, size},
	} {
		t.Run(name, func(t *testing.T) {
			gate := registrytest.NewGate()
			r := start(t, registrytest.Options{Behavior: fault(tt.fault(gate))})
			d := r.AddBlob("a", size, 1)
			answered := make(chan *http.Response, 1)
			go func() {
				defer close(answered)
				resp, err := r.Client().Get(blobURL(r, "a", d))
				if err != nil {
					t.Error(err)
					return
				}
				answered <- resp
			}()
			if err := gate.Await(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			var resp *http.Response
			var got []byte
			if tt.header {
				resp = <-answered
				got = make([]byte, tt.before)
				if _, err := io.ReadFull(resp.Body, got); err != nil {
					t.Fatal(err)
				}
			} else if r.Requests()[0].Status != 0 {
				t.Error("it was answered")
			}
			gate.Open()
			if resp == nil {
				resp = <-answered
			}
			rest, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !d.Digest.Verify(append(got, rest...)) {
				t.Errorf("%d bytes, %v", len(got)+len(rest), err)
			}
		})
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	for _, opts := range []registrytest.Options{{}, {InMemory: true}, {TLS: true}} {
		gate := registrytest.NewGate()
		opts.Behavior = fault(registrytest.Fault{HangInBody: gate, HangAt: 10})
		r := start(t, opts)
		d := r.AddBlob("a", 100, 1)
		failed := make(chan error)
		go func() {
			a, err := try(r.Client(), "GET", blobURL(r, "a", d))
			failed <- errors.Join(err, a.bodyErr)
		}()
		if err := gate.Await(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; err == nil {
			t.Error("the client saw nothing")
		}
	}
}

func TestAClientThatLeavesEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := registrytest.NewGate()
		r := start(t, registrytest.Options{InMemory: true, Behavior: fault(registrytest.Fault{HangBeforeHeaders: gate})})
		d := r.AddBlob("a", 100, 1)
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, blobURL(r, "a", d), nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := gate.Await(ctx, 1); err == nil {
				leave()
			}
		}()
		if _, err := r.Client().Do(req); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestBlobForms(t *testing.T) {
	for name, tt := range map[string]struct {
		form   registrytest.BlobForm
		ranged string
		status int
		header map[string]string // expected; "" is absent
	}{
		"plain":                {registrytest.BlobForm{}, "", 200, map[string]string{"Accept-Ranges": "bytes", "Content-Length": "1000", "Cache-Control": ""}},
		"a range":              {registrytest.BlobForm{}, "bytes=5-9", 206, map[string]string{"Content-Range": "bytes 5-9/1000", "Content-Length": "5"}},
		"an open range":        {registrytest.BlobForm{}, "bytes=990-", 206, map[string]string{"Content-Range": "bytes 990-999/1000"}},
		"the last bytes":       {registrytest.BlobForm{}, "bytes=-3", 206, map[string]string{"Content-Range": "bytes 997-999/1000"}},
		"a range past the end": {registrytest.BlobForm{}, "bytes=990-1000", 206, map[string]string{"Content-Range": "bytes 990-999/1000"}},
		"beyond the end":       {registrytest.BlobForm{}, "bytes=1000-", 416, map[string]string{"Content-Range": "bytes */1000"}},
		"malformed":            {registrytest.BlobForm{}, "bytes=9-5", 200, nil},
		"several":              {registrytest.BlobForm{}, "bytes=1-2,5-6", 200, nil},
		"several rejected":     {registrytest.BlobForm{RejectMultiRange: true}, "bytes=1-2,5-6", 400, nil},
		"ranges ignored":       {registrytest.BlobForm{IgnoreRange: true}, "bytes=5-9", 200, map[string]string{"Accept-Ranges": "", "Content-Length": "1000"}},
		"not announced":        {registrytest.BlobForm{NoAcceptRanges: true}, "bytes=5-9", 206, map[string]string{"Accept-Ranges": ""}},
		"chunked":              {registrytest.BlobForm{Chunked: true}, "", 200, map[string]string{"Content-Length": ""}},
		"private":              {registrytest.BlobForm{CacheControl: "private"}, "", 200, map[string]string{"Cache-Control": "private"}},
		"without digest":       {registrytest.BlobForm{NoDigest: true, NoETag: true}, "", 200, map[string]string{"Docker-Content-Digest": "", "Etag": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Blob: tt.form}})
			d := r.AddBlob("a", 1000, 1)
			var header []string
			if tt.ranged != "" {
				header = []string{"Range", tt.ranged}
			}
			a := do(t, r.Client(), "GET", blobURL(r, "a", d), header...)
			if a.status != tt.status {
				t.Errorf("%d", a.status)
			}
			for k, want := range tt.header {
				if got := a.header.Get(k); got != want {
					t.Errorf("%s: %q", k, got)
				}
			}
			if a.status == 200 && !d.Digest.Verify(a.body) {
				t.Error("wrong bytes")
			}
		})
	}
}

func TestAWrongContentRange(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: fault(registrytest.Fault{WrongContentRange: true})})
	d := r.AddBlob("a", 1000, 1)
	if a := do(t, r.Client(), "GET", blobURL(r, "a", d), "Range", "bytes=5-9"); a.header.Get("Content-Range") != "bytes 6-9/1000" {
		t.Errorf("%v", a.header)
	}
}

func TestTheTotalRateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Pace: registrytest.Pace{TotalBytesPerSecond: 1000}}})
		d := r.AddBlob("a", 10_000, 1)
		begin := time.Now()
		done := make(chan error)
		for range 3 {
			go func() {
				a, err := try(r.Client(), "GET", blobURL(r, "a", d))
				done <- errors.Join(err, a.bodyErr)
			}()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
