package soak

import (
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

// A start with many blobs knows all of them: SOAK_START says how many, and then it has
// a time to keep to. In go test alone there are few.
func TestAStartKnowsAllBlobs(t *testing.T) {
	blobs, long := 2000, false
	if text := os.Getenv("SOAK_START"); text != "" {
		var err error
		if blobs, err = strconv.Atoi(text); err != nil || blobs < 1 {
			t.Fatalf("SOAK_START is %q", text)
		}
		long = true
	}
	h := newHome(t, registrytest.StartTest(t, registrytest.Options{}).URL())
	h.patience += time.Duration(blobs) * 300 * time.Microsecond // without a list, it looks at each file
	h.configure(t, "data: {max_size: 1TiB}\n")                  // with a limit, nothing is served before all is known
	l := h.start(t)
	empty := l.metric(t.Context(), t, "process_resident_memory_bytes")
	l.stop(t)
	random := rand.NewChaCha8([32]byte{1})
	name := make([]byte, 32)
	dir := filepath.Join(h.data(), "blobs", "sha256")
	for range blobs {
		_, _ = random.Read(name) // never fails
		hex := hex.EncodeToString(name)
		if err := os.MkdirAll(filepath.Join(dir, hex[:2]), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, hex[:2], hex), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(h.data(), "blobs.log")); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"without a list of blobs", "with it"} {
		began := time.Now()
		l := h.start(t)
		took := time.Since(began)
		if known := l.metric(t.Context(), t, "sampan_store_blobs"); int(known) != blobs {
			t.Errorf("%s: %.0f blobs are known", how, known)
		}
		grown := l.metric(t.Context(), t, "process_resident_memory_bytes") - empty
		t.Logf("%d blobs, %s: ready in %s, %.0f bytes of memory more than empty, %.0f for each blob", blobs, how, took.Round(time.Millisecond), grown, grown/float64(blobs))
		if bound := time.Duration(blobs) * 10 * time.Microsecond; long && how == "with it" && took > bound {
			t.Errorf("that took more than %s", bound)
		}
		l.stop(t)
	}
	h.mustBeQuiet(t)
}
