package server_test

import (
	"bytes"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/server"
)

// Whatever range is asked for, what comes are the bytes that the answer says they
// are.
func FuzzRange(f *testing.F) {
	l := newLibrary()
	names, err := mirror.New(mirror.Options{Upstreams: []mirror.Upstream{{Registry: oci.DockerHub}}})
	if err != nil {
		f.Fatal(err)
	}
	s, err := server.New(server.Options{Reader: l, Names: names, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []string{"bytes=0-", "bytes=-1", "bytes=5-3", "bytes=0-0,9999-9999", "bytes=9999999999999999999-", "bytes=-0", "bytes=1-2, 3-4,-5", "lines=1-2", "bytes=", "bytes=--1"} {
		f.Add(r)
	}
	content := regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+)$`)
	check := func(t *testing.T, asked, header string, body []byte) {
		m := content.FindStringSubmatch(header)
		if m == nil {
			t.Fatalf("%q: Content-Range %q", asked, header)
		}
		from, _ := strconv.ParseInt(m[1], 10, 64)
		to, _ := strconv.ParseInt(m[2], 10, 64)
		if m[3] != strconv.Itoa(len(l.blob)) || from > to || to >= int64(len(l.blob)) || !bytes.Equal(body, l.blob[from:to+1]) {
			t.Fatalf("%q: %q came with other bytes", asked, header)
		}
	}
	path := "/v2/app/blobs/" + oci.DigestOf(l.blob).String()
	f.Fuzz(func(t *testing.T, asked string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.Header["Range"] = []string{asked}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		h, body := w.Header(), w.Body.Bytes()
		switch w.Code {
		case http.StatusOK:
			if !bytes.Equal(body, l.blob) {
				t.Errorf("%q: another whole", asked)
			}
		case http.StatusRequestedRangeNotSatisfiable:
			if h.Get("Content-Range") != "bytes */"+strconv.Itoa(len(l.blob)) {
				t.Errorf("%q: %v", asked, h)
			}
		case http.StatusPartialContent:
			kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
			if err != nil || kind != "multipart/byteranges" {
				check(t, asked, h.Get("Content-Range"), body)
				return
			}
			parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
			for {
				p, err := parts.NextPart()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Fatalf("%q: %v", asked, err)
				}
				b, err := io.ReadAll(p)
				if err != nil {
					t.Fatal(err)
				}
				check(t, asked, p.Header.Get("Content-Range"), b)
			}
		default:
			t.Errorf("%q: status %d", asked, w.Code)
		}
	})
}
