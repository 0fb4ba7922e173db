package disk_test

import "testing"

// What a partial file has and does not give costs a fetch, never a reader: each
// can go on past the store, from its own source.
func TestReadersGetTheBlobPastADiskThatFailsToRead(t *testing.T) {
	up, d, want := faultUpstream(t)
	for _, f := range readFaults() {
		t.Run(f.name, func(t *testing.T) {
			if err := readPast(t, f, up, d, want); err != nil {
				t.Error(err)
			}
		})
	}
}
