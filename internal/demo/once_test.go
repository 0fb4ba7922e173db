package demo

import "testing"

func TestOnceIsOnce(t *testing.T) {
	for crossed, want := range map[int64]bool{0: false, 999: false, 1000: true, 1010: true, 1011: false, 2000: false} {
		if once(crossed, 1000) != want {
			t.Errorf("%d of 1000: %t", crossed, !want)
		}
	}
}
