// Package follow keeps what a file says and reads it again when that changes.
//
// It promises that a file is read again within seconds after it changed, whether
// it was written to or replaced; and that one which cannot be read or understood
// any more leaves what it said before in force, and is told in the log once.
//
// It watches nothing by itself: a file is looked at when somebody wants to know.
// The lock of a [File] is a leaf.
package follow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// LookAgain is how long a file is believed without looking at it.
const LookAgain = 2 * time.Second

// maxSize bounds a file, in bytes.
const maxSize = 1 << 20

var (
	errEmpty = errors.New("the file is empty")
	errLarge = errors.New("the file is too large")
)

// A File is one whose content is read again when it has changed. It is compared
// by its content: what Kubernetes swaps by a link and what an editor replaces are
// noticed alike.
type File[T any] struct {
	path  string
	log   *slog.Logger
	parse func([]byte) (T, error)

	mu     sync.Mutex
	looked time.Time // zero: never
	text   []byte    // that value came from; nil when it came from elsewhere
	value  T
	ok     bool  // there is a value
	broken error // why what is there now is not in force
}

// New follows a file whose content parse understands. Its errors go to the log:
// they must not have a secret in them.
func New[T any](path string, log *slog.Logger, parse func([]byte) (T, error)) *File[T] {
	return &File[T]{path: path, log: log, parse: parse}
}

// Secret follows a file that has a secret in it and nothing else, without the
// newline at its end. now is what it said when it was last read; empty for a file
// that has not been.
func Secret(path, now string, log *slog.Logger) *File[string] {
	return secret(path, now, log, func(b []byte) (string, error) {
		text := strings.TrimRight(string(b), "\r\n")
		if text == "" {
			return "", errEmpty
		}
		return text, nil
	})
}

// Revocable follows a file as [Secret] does, without the white space around it, and
// believes an empty one: that is how somebody takes the secret back.
func Revocable(path, now string, log *slog.Logger) *File[string] {
	return secret(path, now, log, func(b []byte) (string, error) { return strings.TrimSpace(string(b)), nil })
}

func secret(path, now string, log *slog.Logger, parse func([]byte) (string, error)) *File[string] {
	f := New(path, log, parse)
	if now != "" {
		f.value, f.ok = now, true
	}
	return f
}

// Get returns what the file says, or what it said last; at once looks into it now.
// It fails when nothing was ever in force.
func (f *File[T]) Get(atOnce bool) (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.looked.IsZero() || atOnce || now.Sub(f.looked) >= LookAgain || now.Before(f.looked) {
		f.looked = now
		f.look()
	}
	if !f.ok {
		return f.value, fmt.Errorf("%s: %w", f.path, f.broken)
	}
	return f.value, nil
}

func (f *File[T]) look() {
	text, err := readFile(f.path)
	if err == nil && f.broken == nil && f.text != nil && bytes.Equal(text, f.text) {
		return
	}
	var value T
	if err == nil {
		value, err = f.parse(text)
	}
	if err != nil {
		if f.broken == nil {
			f.log.Error("credentials cannot be read, keeping those of before", "file", f.path, "err", err)
		}
		f.broken = err
		return
	}
	switch {
	case f.broken != nil:
		f.log.Info("credentials can be read again", "file", f.path)
	case f.text != nil:
		f.log.Info("credentials have changed", "file", f.path)
	}
	f.text, f.value, f.ok, f.broken = text, value, true, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = errLarge
	}
	return b, err
}
