package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestInputIsWhatIsThere(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	want := make([]byte, 1<<20)
	_, _ = random.Read(want) // it never fails
	for what, r := range map[string]io.Reader{
		"in one piece": bytes.NewReader(want), "with the error at once": iotest.DataErrReader(bytes.NewReader(want)), "in halves": iotest.HalfReader(bytes.NewReader(want)),
	} {
		got, err := io.ReadAll(newInput(t.Context(), r))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(newInput(t.Context(), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("an error: %v", err)
	}
}

// A signal ends a command that waits for standard input, whoever holds it open.
func TestASignalEndsACommandThatReadsItsInput(t *testing.T) {
	for _, args := range [][]string{
		{"load", "-i", "-", "--list"},
		{"copy", "-", "localhost:1/x/"},
		{"sync", "-f", "-"},
		{"save", "-o", filepath.Join(t.TempDir(), "x.tar")},
		{"name", "-"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ctx, signal := context.WithCancel(t.Context())
		root := newRoot()
		root.SetArgs(args)
		root.SetIn(newInput(ctx, &announced{r, signal}))
		err = root.ExecuteContext(ctx)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") || errors.As(err, new(*usageError)) {
			t.Errorf("%s: %v", strings.Join(args, " "), err)
		}
		if err := errors.Join(w.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
}

// announced calls a function when it is read.
type announced struct {
	io.Reader
	call func()
}

func (a *announced) Read(p []byte) (int, error) {
	a.call()
	return a.Reader.Read(p)
}
