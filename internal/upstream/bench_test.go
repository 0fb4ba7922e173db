package upstream

import (
	"io"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// BenchmarkBlob reads a blob of 64 MiB. Its CPU time includes that of the
// simulated registry; compare it with BenchmarkPlainGET.
func BenchmarkBlob(b *testing.B) {
	reg := registrytest.StartTest(b, registrytest.Options{CountsOnly: true})
	blob := reg.AddBlob("a/b", 64<<20, 1)
	repo, err := oci.DockerHub.Repository("a/b")
	if err != nil {
		b.Fatal(err)
	}
	r, err := New(Options{Registry: oci.DockerHub, Endpoints: urls(b, reg.URL())})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	buf := make([]byte, 256<<10)
	b.SetBytes(blob.Size)
	b.ReportAllocs()
	for b.Loop() {
		body, err := r.Blob(b.Context(), repo, blob.Digest)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(onlyWriter{io.Discard}, body, buf); n != blob.Size || err != nil {
			b.Fatal(n, err)
		}
		_ = body.Close()
	}
}

// BenchmarkPlainGET reads the same with net/http alone.
func BenchmarkPlainGET(b *testing.B) {
	reg := registrytest.StartTest(b, registrytest.Options{CountsOnly: true})
	blob := reg.AddBlob("a/b", 64<<20, 1)
	client := reg.Client()
	buf := make([]byte, 256<<10)
	b.SetBytes(blob.Size)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Get(reg.URL() + "/v2/a/b/blobs/" + blob.Digest.String())
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(onlyWriter{io.Discard}, resp.Body, buf); n != blob.Size || err != nil {
			b.Fatal(n, err)
		}
		_ = resp.Body.Close()
	}
}

// onlyWriter hides io.Discard's ReadFrom, which brings its own buffer.
type onlyWriter struct{ io.Writer }

// BenchmarkResolveTag asks a question whose token is known.
func BenchmarkResolveTag(b *testing.B) {
	reg := registrytest.StartTest(b, registrytest.Options{CountsOnly: true, Behavior: registrytest.DockerHub()})
	reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
	repo, err := oci.DockerHub.Repository("a/b")
	if err != nil {
		b.Fatal(err)
	}
	tag, err := oci.ParseTag("v1")
	if err != nil {
		b.Fatal(err)
	}
	r, err := New(Options{Registry: oci.DockerHub, Endpoints: urls(b, reg.URL())})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.ResolveTag(b.Context(), repo, tag); err != nil {
			b.Fatal(err)
		}
	}
}
