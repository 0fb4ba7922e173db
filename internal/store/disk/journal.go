package disk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// journalHeader begins every journal and is its version.
const journalHeader = "sampan journal 1\n"

// recordSize is the length of a record in bytes.
const recordSize = 20

// journalSuffix is what the name of a journal has more than that of its partial
// file; newSuffix is what its name has more before the journal is one.
const (
	journalSuffix = ".journal"
	newSuffix     = ".new"
)

// A journal says which bytes of a partial file are there. Without one, the file
// has no gap, and its length says all. The format is
//
//	"sampan journal 1\n"
//	records of 20 bytes: offset and length, 8 bytes each, and the CRC-32C of
//	those 16, 4 bytes; all of them big endian
//
// A journal is made, under another name and renamed, before the first write that
// leaves a gap; its first records are what was there until then. After that each
// write of bytes is followed by its record. A process that is killed loses at
// most the writes that were running. A record that is torn, wrong or empty ends
// the journal, and what a record says is there beyond the end of the file is not;
// the file is then cut behind the last byte that is there. A partial file
// whose journal begins otherwise is worth nothing. The log tells of what no kill
// leaves behind: such a journal, and a record that is wrong.
//
// Nothing here is synced. After a power cut a journal may say that bytes are
// there which are not, or be missing where there are gaps: the digest shows it,
// as it shows lost pages of a file without gaps, and it costs one new fetch.
//
// Removal and Reset: first the file, then the journal. In between lies a journal
// without a file, or with an empty one, which says nothing: New removes it, and an
// ingest before it writes. The other way round a file with gaps would lie there
// without a journal. Commit: first the rename, then the journal is removed; in
// between it has no file either.
type journal struct {
	fs   *medium
	f    *os.File
	size int64
}

// newJournal makes a journal of what is there, in the place of an earlier one.
func newJournal(fs *medium, path string, have store.Ranges) (*journal, error) {
	b := []byte(journalHeader)
	for r := range have.All() {
		b = appendRecord(b, r)
	}
	tmp := path + newSuffix
	f, err := fs.open(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	_, err = fs.write(f, b, 0)
	if err == nil {
		err = fs.rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), fs.removeFile(tmp))
	}
	return &journal{fs, f, int64(len(b))}, nil
}

// add appends a record, over one that an earlier add could not complete.
func (j *journal) add(r store.Range) error {
	if _, err := j.fs.write(j.f, appendRecord(nil, r), j.size); err != nil {
		return err
	}
	j.size += recordSize
	return nil
}

// close closes the file of a journal, if there is one.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return j.f.Close()
}

func appendRecord(b []byte, r store.Range) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(r.From))
	b = binary.BigEndian.AppendUint64(b, uint64(r.To-r.From))
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// parseRecord returns false for what is no record.
func parseRecord(b []byte) (store.Range, bool) {
	from := int64(binary.BigEndian.Uint64(b))
	length := int64(binary.BigEndian.Uint64(b[8:]))
	if checksum(b[:16]) != binary.BigEndian.Uint32(b[16:]) || from < 0 || length <= 0 || from+length < 0 {
		return store.Range{}, false
	}
	return store.Range{From: from, To: from + length}, true
}

// errJournal: a journal is not one of this version, or a record is wrong that no
// kill leaves behind.
var errJournal = errors.New("damaged, or of another version")

// readJournal returns what a journal says of a file of length bytes: nothing when
// it begins otherwise than a journal. An error tells why there may have been more;
// a last record that is torn is none.
func readJournal(r io.Reader, length int64) (have store.Ranges, err error) {
	header := make([]byte, len(journalHeader))
	if _, err := io.ReadFull(r, header); err != nil || string(header) != journalHeader {
		return have, errJournal
	}
	for b := make([]byte, recordSize); ; {
		_, err := io.ReadFull(r, b)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return have, nil
		case err != nil:
			return have, err // what cannot be read is not claimed
		}
		x, ok := parseRecord(b)
		if !ok {
			return have, errJournal
		}
		have.Add(x.From, min(x.To, length))
	}
}

// recover finds out what is in a partial file of length bytes. One that is empty
// may have the journal of one that was removed, which goes before a byte is
// written.
func (in *ingest) recover(length int64) error {
	path := in.store.journalPath(in.digest)
	f, err := in.store.fs.open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		in.have.Add(0, length)
		return nil
	}
	if err == nil { // a journal that cannot be opened says nothing
		in.have, err = readJournal(bufio.NewReader(f), length)
		_ = f.Close() // was only read
	}
	end := in.have.End()
	if err != nil && length > 0 { // a journal without bytes loses none
		in.store.log.Warn("journal of a partial blob cannot be used, what it does not tell of is fetched again",
			"digest", in.digest, "bytes", in.have.Total(), "err", err)
	}
	if err := in.store.fs.truncate(in.f, end); err != nil {
		return err
	}
	if in.have.EndOf(0) == end { // no gap is left
		return in.store.fs.removeFile(path)
	}
	// What was cut must not come back when the file is longer again.
	in.journal, err = newJournal(&in.store.fs, path, in.have)
	return err
}

// allowGap makes a journal, if there is none, before a write at off that leaves
// a gap. What is being written in front of off counts as one.
func (in *ingest) allowGap(off int64) error {
	in.arrived.Lock()
	defer in.arrived.Unlock()
	if in.journal != nil || off <= in.have.EndOf(0) {
		return nil
	}
	if err := in.store.upgrade(); err != nil {
		return err
	}
	j, err := newJournal(&in.store.fs, in.store.journalPath(in.digest), in.have)
	in.journal = j
	return err
}

// note adds what has been written.
func (in *ingest) note(from, to int64) error {
	if from == to {
		return nil
	}
	in.arrived.Lock()
	defer in.arrived.Unlock()
	if in.journal != nil {
		if err := in.journal.add(store.Range{From: from, To: to}); err != nil {
			return err
		}
	}
	before := in.have.Total()
	in.have.Add(from, to)
	in.store.quota.unwritten.Add(before - in.have.Total())
	return nil
}

// dropJournal removes the journal, if there is one. The caller has made sure that
// the file is not there any more, under its partial name, or is empty.
func (in *ingest) dropJournal() error {
	if in.journal == nil {
		return nil
	}
	if err := in.store.fs.removeFile(in.store.journalPath(in.digest)); err != nil {
		return err
	}
	_ = in.journal.close() // it has no name any more, and nothing to lose
	in.journal = nil
	return nil
}

func (s *Store) journalPath(d oci.Digest) string { return s.partialPath(d) + journalSuffix }

// sweep removes journals without a file and those that were never completed, and
// tells the quota of partial files. A journal that cannot be removed stops
// nothing: an ingest of its digest tries again.
func (s *Store) sweep() {
	names, err := os.ReadDir(s.partialDir())
	if err != nil {
		return
	}
	there := make(map[string]bool)
	for _, e := range names {
		there[e.Name()] = true
	}
	var left []item
	for name := range there {
		partial, is := strings.CutSuffix(name, journalSuffix)
		if is && !there[partial] || strings.HasSuffix(name, journalSuffix+newSuffix) {
			_ = s.fs.remove(filepath.Join(s.partialDir(), name))
		}
		if i, ok := s.itemAt(filepath.Join(s.partialDir(), name)); ok {
			left = append(left, i)
		}
	}
	s.findPartials(left)
}

// findPartials tells the quota of partial files, in the order of their last write.
func (s *Store) findPartials(left []item) {
	infos := make(map[item]fs.FileInfo)
	for _, i := range left {
		if fi, err := s.fs.lstat(s.path(i)); err == nil {
			infos[i] = fi
		}
	}
	for _, i := range slices.SortedFunc(maps.Keys(infos), func(a, b item) int {
		return infos[a].ModTime().Compare(infos[b].ModTime())
	}) {
		s.quota.found(i, infos[i].Size(), infos[i].ModTime(), "")
	}
}
