package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/server"
)

// A library is a Reader of one repository, docker.io/library/app, with one tag,
// v1, and one blob.
type library struct {
	manifest oci.Manifest
	blob     []byte
	tags     []string
	err      error // the answer to everything, when set
	stale    string
	cut      int64 // a blob breaks off at this offset, when set
	asked    []oci.Repository
}

const manifestText = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeImageManifest + `","layers":[]}`

func newLibrary() *library {
	m := []byte(manifestText)
	return &library{
		manifest: oci.Manifest{
			Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(m), Size: int64(len(m))},
			Bytes:      m,
		},
		blob: []byte(strings.Repeat("0123456789", 1000)),
		tags: []string{"a", "b", "c", "v1"},
	}
}

func (l *library) note(ctx context.Context, repo oci.Repository) error {
	l.asked = append(l.asked, repo)
	oci.TraceFrom(ctx).Stale = l.stale
	if l.err != nil {
		return l.err
	}
	if repo.String() != "docker.io/library/app" {
		return oci.Errorf(oci.CodeNameUnknown, "no such repository")
	}
	return nil
}

func (l *library) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	if err := l.note(ctx, repo); err != nil {
		return oci.Descriptor{}, err
	}
	if tag.String() != "v1" {
		return oci.Descriptor{}, oci.Errorf(oci.CodeManifestUnknown, "no such tag")
	}
	return l.manifest.Descriptor, nil
}

func (l *library) Manifest(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	if err := l.note(ctx, repo); err != nil {
		return oci.Manifest{}, err
	}
	if d != l.manifest.Descriptor.Digest {
		return oci.Manifest{}, oci.Errorf(oci.CodeManifestUnknown, "no such manifest")
	}
	return l.manifest, nil
}

func (l *library) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	if err := l.note(ctx, repo); err != nil {
		return nil, err
	}
	if d != oci.DigestOf(l.blob) {
		return nil, oci.Errorf(oci.CodeBlobUnknown, "no such blob")
	}
	return &body{bytes.NewReader(l.blob), l}, nil
}

func (l *library) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	if err := l.note(ctx, repo); err != nil {
		return nil, err
	}
	var tags []oci.Tag
	for _, s := range l.tags {
		t, err := oci.ParseTag(s)
		if err != nil {
			return nil, err
		}
		tags = append(tags, t)
	}
	return tags, nil
}

func (l *library) Referrers(ctx context.Context, repo oci.Repository, _ oci.Digest) ([]oci.Descriptor, error) {
	if err := l.note(ctx, repo); err != nil {
		return nil, err
	}
	d := l.manifest.Descriptor
	d.ArtifactType = "application/spdx+json"
	other := d
	other.ArtifactType = "application/vnd.example"
	return []oci.Descriptor{d, other}, nil
}

// body breaks off at the library's cut.
type body struct {
	*bytes.Reader
	l *library
}

func (b *body) Close() error { return nil }

func (b *body) Descriptor() oci.Descriptor {
	return oci.Descriptor{Digest: oci.DigestOf(b.l.blob), Size: int64(len(b.l.blob))}
}

func (b *body) Read(p []byte) (int, error) {
	at := b.Size() - int64(b.Len())
	if b.l.cut > 0 {
		if at >= b.l.cut {
			return 0, errors.New("not what the digest says")
		}
		p = p[:min(int64(len(p)), b.l.cut-at)]
	}
	return b.Reader.Read(p)
}

func newServer(t *testing.T, l oci.Reader) *httptest.Server {
	t.Helper()
	ts := httptest.NewServer(newHandler(t, l))
	t.Cleanup(ts.Close)
	return ts
}

func newHandler(t *testing.T, l oci.Reader) http.Handler {
	t.Helper()
	docker, err := oci.ParseRegistry("docker.io")
	if err != nil {
		t.Fatal(err)
	}
	gcr, err := oci.ParseRegistry("gcr.io")
	if err != nil {
		t.Fatal(err)
	}
	names, err := mirror.New(mirror.Options{
		Domain:    "mirror.example.com",
		Upstreams: []mirror.Upstream{{Registry: docker, Hosts: []string{"docker"}}, {Registry: gcr, Hosts: []string{"gcr"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Reader: l, Names: names, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A recorder is a response that nobody reads.
type recorder struct{ header http.Header }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *recorder) WriteHeader(int)             {}

// An exchange is a response whose body has been read.
type exchange struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// do sends a request line such as "GET /v2/" with headers in pairs.
func do(t *testing.T, ts *httptest.Server, line string, headers ...string) exchange {
	t.Helper()
	method, path, _ := strings.Cut(line, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, ts.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(path, "?")
	req.URL.Opaque, req.URL.RawQuery = path, query // as written, never cleaned
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return exchange{resp.StatusCode, resp.Header, string(b), err}
}
