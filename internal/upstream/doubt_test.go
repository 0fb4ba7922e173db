package upstream

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
)

func TestEndpointThatSentWrongBytesIsTheLastToBeAskedForThem(t *testing.T) {
	says := func(s string) *fake {
		return newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) })
	}
	r := open(t, Options{}, says("wrong").URL, says("right").URL)
	d, other := oci.DigestOf([]byte("right")), oci.DigestOf([]byte("other"))
	read := func(d oci.Digest) (avoid func(), got string) {
		t.Helper()
		parts := r.FetchBlob(repository(t, "a/b"), d)
		part, err := parts.Part(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(part.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = part.Body.Close()
		return func() { parts.(oci.BlobAvoider).Avoid(part.Endpoint) }, string(b)
	}
	avoid, got := read(d)
	if got != "wrong" {
		t.Fatalf("the first endpoint was not asked first: %q", got)
	}
	avoid()
	if avoid, got = read(d); got != "right" {
		t.Errorf("asked the same endpoint again: %q", got)
	}
	if _, got := read(other); got != "wrong" {
		t.Errorf("another blob was asked for elsewhere: %q", got)
	}
	avoid() // of both now
	if _, got := read(d); got != "wrong" {
		t.Errorf("with all in doubt their order does not stand: %q", got)
	}
}

func TestDoubtsAreBoundedAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doubts
		for i := range maxDoubts + 10 {
			d.add(doubt{nil, oci.DigestOf([]byte{byte(i), byte(i >> 8)})}, true)
		}
		last := doubt{nil, oci.DigestOf(nil)}
		d.add(last, true)
		if len(d.m) != maxDoubts || d.weight(last) != proven {
			t.Errorf("%d are remembered, the last one: %d", len(d.m), d.weight(last))
		}
		time.Sleep(doubtFor)
		if d.weight(last) != 0 || d.suspect(nil) {
			t.Error("a doubt does not end")
		}
	})
}
