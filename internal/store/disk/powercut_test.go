package disk_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/store"
)

// What a power cut leaves of a partial blob with gaps: half of it is there, the
// journal says so, and then something is lost.
var cuts = []struct {
	name string
	lose func(t *testing.T, partial, journal string)
	told bool // the log says that a journal cannot be used
	// wrong: bytes are claimed that are not there, and the digest shows it.
	wrong bool
}{
	{"pages of the file", func(t *testing.T, partial, _ string) { zero(t, partial, 4096, 64<<10) }, false, true},
	{"pages behind the gap", func(t *testing.T, partial, _ string) { zero(t, partial, 1<<20+4096, 4096) }, false, true},
	{"the end of the file", func(t *testing.T, partial, _ string) { check(t, os.Truncate(partial, 1<<20+1000)) }, false, false},
	{"all of the file", func(t *testing.T, partial, _ string) { check(t, os.Truncate(partial, 0)) }, false, false},
	{"the journal", func(t *testing.T, _, journal string) { check(t, os.Remove(journal)) }, false, true},
	{"the end of the journal", func(t *testing.T, _, journal string) { check(t, os.Truncate(journal, 17+20+7)) }, false, false},
	{"all of the journal", func(t *testing.T, _, journal string) { check(t, os.Truncate(journal, 0)) }, true, false},
	{"the pages of the journal", func(t *testing.T, _, journal string) { zero(t, journal, 0, 57) }, true, false},
	{"its last record, which is zero", func(t *testing.T, _, journal string) { zero(t, journal, 37, 20) }, true, false},
	{"nothing, but the journal is garbage", func(t *testing.T, _, journal string) {
		check(t, os.WriteFile(journal, []byte(strings.Repeat("garbage ", 100)), 0o600))
	}, true, false},
	{"nothing, but the journal is of a later version", func(t *testing.T, _, journal string) {
		check(t, os.WriteFile(journal, []byte("sampan journal 2\nand what only that one knows"), 0o600))
	}, true, false},
}

// zero is what is found where pages were never written.
func zero(t *testing.T, path string, off int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt(make([]byte, n), off)
	check(t, err)
	check(t, f.Close())
}

// A power cut costs at most one more fetch: never a byte that is wrong in a blob
// that looks complete, and nobody waits for what it left.
func TestWhatAPowerCutLosesCostsOneFetch(t *testing.T) {
	up, d, want := faultUpstream(t)
	for _, cut := range cuts {
		t.Run(cut.name, func(t *testing.T) {
			m := serve(t, up)
			m.leave(t, d, want, store.Range{From: 0, To: 300 << 10}, store.Range{From: 1 << 20, To: 3 << 19})
			partial := filepath.Join(m.dir, "partial", "sha256-"+d.Hex())
			cut.lose(t, partial, partial+".journal")
			up.ResetCounts()
			pullsAfterCut(t, m, d, want, cut.wrong)
			told := strings.Contains(m.log.String(), "journal of a partial blob cannot be used")
			if told != cut.told {
				t.Errorf("told: %v", told)
			}
			if mismatches := m.metric(t, "sampan_fill_mismatches_total", ""); (mismatches > 0) != cut.wrong {
				t.Errorf("%v mismatches", mismatches)
			}
		})
	}
}

// pullsAfterCut pulls until it gets the blob, twice at most.
func pullsAfterCut(t *testing.T, m *mirrorServer, d oci.Digest, want []byte, wrong bool) {
	t.Helper()
	err := read(m.open(t, d, 0), nil, want)
	if err != nil && !wrong {
		t.Errorf("nothing wrong was there: %v", err)
	}
	m.idle(t)
	m.wantOnlyRightBlobs(t)
	for range 2 {
		if err := read(m.open(t, d, 0), nil, want); err != nil {
			t.Errorf("after the first pull: %v", err)
		}
		m.idle(t)
	}
	m.wantOnlyRightBlobs(t)
	size := float64(len(want))
	if got := m.metric(t, "sampan_fill_upstream_bytes_total", ""); wrong && got > 2*size || !wrong && got > size {
		t.Errorf("%v bytes were received for a blob of %v", got, size)
	}
	if n := m.up.Count(registrytest.KindBlob); n > 4 {
		t.Errorf("asked %d times", n)
	}
	if left := m.partials(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
