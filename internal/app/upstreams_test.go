package app

import (
	"fmt"
	"log/slog"
	"testing"

	"sampan/internal/config"
	"sampan/internal/oci"
)

// Whoever asks for made-up registries must neither take memory without end nor
// keep others from theirs.
func TestStrangersMakeRoomForEachOther(t *testing.T) {
	u, err := newUpstreams(&config.Config{Open: true}, Options{Log: slog.New(slog.DiscardHandler)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.close(); err != nil {
			t.Error(err)
		}
	}()
	ask := func(name string) oci.Reader {
		t.Helper()
		registry, err := oci.ParseRegistry(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := u.reader(registry)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	used, unused := ask("used.example.com"), ask("unused.example.com")
	for i := range maxOpen {
		ask(fmt.Sprintf("r%d.example.com", i))
		if ask("used.example.com") != used {
			t.Fatalf("the one in use was forgotten after %d others", i)
		}
	}
	if len(u.others) != maxOpen {
		t.Errorf("%d are remembered", len(u.others))
	}
	if ask("unused.example.com") == unused {
		t.Error("the one asked least recently was not forgotten")
	}
}
