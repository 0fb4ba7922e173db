package registrytest_test

import (
	"io"
	"testing"

	"sampan/internal/registrytest"
)

// BenchmarkBlob reads a blob over a socket.
func BenchmarkBlob(b *testing.B) {
	r := registrytest.StartTest(b, registrytest.Options{CountsOnly: true})
	d := r.AddBlob("a", 256<<20, 1)
	c, u := r.Client(), blobURL(r, "a", d)
	b.SetBytes(d.Size)
	for b.Loop() {
		resp, err := c.Get(u)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
		_ = resp.Body.Close()
		if err != nil || n != d.Size {
			b.Fatal(n, err)
		}
	}
}
