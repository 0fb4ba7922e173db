package disk

import (
	"errors"
	"testing"

	"sampan/internal/store"
)

func TestStatTellsTheSizeAndIsNoUse(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	looked, used := put(t, s, 40_000, 1), put(t, s, 40_000, 2)
	has(t, s, used)
	if n, err := s.Stat(t.Context(), looked); err != nil || n != 40_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
	third := put(t, s, 40_000, 3)
	if has(t, s, looked) || !has(t, s, used) || !has(t, s, third) {
		t.Error("what was only looked at was kept as if it had been used")
	}
	if _, err := s.Stat(t.Context(), looked); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
