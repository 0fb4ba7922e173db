package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"sampan/internal/oci"
)

// load reads the log. Where there is a limit and the log may claim less than is
// there, the check is run at once.
func (s *Store) load(l Limits) error {
	got, err := s.blobs.load(s.quota.t)
	if err != nil {
		return err
	}
	s.quota.t.order()
	s.sweep()
	boot := bootID()
	s.trusted = !got.damaged && got.size > 0 && (got.clean || got.boot != "" && got.boot == boot)
	if s.isNew {
		s.trusted = true
	}
	if got.damaged {
		s.log.Warn("the list of blobs is damaged and is made anew from the directory", "file", s.blobs.path)
	}
	if err := s.setLimits(l); err != nil {
		return err
	}
	s.openLog(got)
	if !s.trusted && (l.MaxSize != Bound{}) {
		return s.check(context.Background())
	}
	return nil
}

// openLog makes the log ready to be appended to. That it cannot be is found out
// by the first commit.
func (s *Store) openLog(got *loading) {
	l := s.blobs
	if got.damaged || got.size == 0 {
		_ = s.rewrite()
		return
	}
	f, err := s.fs.open(l.path, os.O_RDWR)
	if err != nil {
		return
	}
	l.f, l.size, l.named = f, got.size, got.named
	// Synced: what is claimed to have been closed in order must not be so any more.
	if err := errors.Join(s.fs.truncate(f, got.size), l.append(s.bootRecord()), l.sync()); err != nil {
		_ = l.close()
	}
}

// bootRecord says that the log claims all that is there as long as the machine
// runs; or nothing.
func (s *Store) bootRecord() []byte {
	if !s.trusted {
		return appendFrame(nil, recBoot)
	}
	return appendFrame(nil, recBoot, []byte(bootID()))
}

// closeLog writes what is known and that it is all.
func (s *Store) closeLog() {
	s.saveUses()
	s.names.Lock()
	defer s.names.Unlock()
	if s.trusted && s.blobs.sync() == nil && s.blobs.append(appendFrame(nil, recClean)) == nil {
		_ = s.blobs.sync() // without it, the next start may have to look
	}
	_ = s.blobs.close() // all is synced that can be
}

// record tells the log of a blob that is about to get its name. The caller holds
// names.
func (s *Store) record(d oci.Digest, owner string, size int64) error {
	s.quota.mu.Lock()
	id := s.quota.ownerID(owner)
	s.quota.mu.Unlock()
	b := s.blobs.ownerRecord(id, owner)
	b = appendAdd(b, raw(d), id, size, time.Now().UnixNano())
	if err := s.blobs.append(b); err != nil {
		if s.blobs.f != nil || s.rewrite() != nil || s.blobs.append(b) != nil {
			return err
		}
	}
	if id != 0 {
		s.blobs.named[id] = true
	}
	return nil
}

// saveUses appends the uses since the last time, and compacts a log of which more
// than half is of no use.
func (s *Store) saveUses() {
	s.names.Lock()
	defer s.names.Unlock()
	s.quota.mu.Lock()
	t := s.quota.t
	b := make([]byte, 0, len(t.touched)*(recFrame+8+32))
	for _, n := range t.touched {
		if x := &t.nodes[n]; x.flags&isTouched != 0 { // it may have left, and another have its place
			x.flags &^= isTouched
			b = appendUse(b, raw(t.digest(n)), x.used)
		}
	}
	t.touched = t.touched[:0]
	live := int64(t.blobs * addSize)
	s.quota.mu.Unlock()
	if len(b) > 0 {
		_ = s.blobs.append(b) // it only makes the order of eviction less good
	}
	if s.blobs.f == nil || s.blobs.size > max(compactMin, 2*live) {
		_ = s.rewrite() // the old one goes on
	}
	_ = s.blobs.sync() // tried again the next time
}

// rewrite makes the log anew from the table. The caller holds names.
func (s *Store) rewrite() error {
	l := s.blobs
	f, err := s.fs.open(l.path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	next := &blobLog{fs: l.fs, path: l.path, f: f, named: make(map[uint16]bool)}
	err = next.append(append([]byte(logHeader), s.bootRecord()...))
	for part := range s.snapshot(next.named) {
		if err == nil {
			err = next.append(part)
		}
	}
	if err == nil {
		err = next.sync()
	}
	if err == nil {
		err = s.fs.rename(l.path+newSuffix, l.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), s.fs.removeFile(l.path+newSuffix))
	}
	_ = l.close() // it has no name any more
	s.blobs.f, s.blobs.size, s.blobs.synced, s.blobs.named = next.f, next.size, next.synced, next.named
	s.blobs.late = nil // what they say is not in the table any more
	return s.fs.syncDir(s.dir)
}

// snapshot yields the records of the owners, which it notes in named, and of all
// blobs, in parts of a megabyte or so, and does not hold the lock between them.
func (s *Store) snapshot(named map[uint16]bool) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		q := s.quota
		var b []byte
		q.mu.Lock()
		for id, o := range q.t.owners {
			if id > 0 {
				b = append(b, (&blobLog{}).ownerRecord(uint16(id), o.name)...)
				named[uint16(id)] = true
			}
		}
		for n := 1; n < len(q.t.nodes); n++ {
			if x := &q.t.nodes[n]; q.t.isLive(uint32(n)) && x.flags&isPartial == 0 {
				b = appendAdd(b, raw(q.t.digest(uint32(n))), x.owner, x.size, x.used)
			}
			if len(b) > 1<<20 {
				q.mu.Unlock()
				if !yield(b) {
					return
				}
				b = b[:0]
				q.mu.Lock()
			}
		}
		q.mu.Unlock()
		yield(b)
	}
}

// check compares the names in the directories with the table, one directory at a
// time, and closes checked.
func (s *Store) check(ctx context.Context) error {
	for first := range 256 {
		for _, algorithm := range []string{"sha256", "sha512"} {
			if err := errors.Join(ctx.Err(), s.checkFan(algorithm, byte(first))); err != nil {
				return err
			}
		}
	}
	s.names.Lock()
	defer s.names.Unlock()
	if s.found > 0 { // they were put where what is used now is
		s.quota.mu.Lock()
		s.quota.t.order()
		s.quota.mu.Unlock()
	}
	if !s.trusted {
		s.trusted = true
		_ = s.blobs.append(s.bootRecord()) // without it, the next start looks again
	}
	close(s.checked)
	return nil
}

func (s *Store) checkFan(algorithm string, first byte) error {
	dir := fmt.Sprintf("%s/blobs/%s/%02x", s.dir, algorithm, first)
	names, err := s.fs.names(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := s.quota.knownIn(algorithm, first)
	for _, name := range names {
		i, ok := s.itemAt(dir + "/" + name)
		if !ok {
			continue
		}
		if !known[i.digest] {
			s.reconcile(i.digest)
		}
		delete(known, i.digest)
	}
	for d := range maps.Keys(known) {
		s.reconcile(d)
	}
	return nil
}

// knownIn returns the complete blobs of the table that lie in one directory.
func (q *quota) knownIn(algorithm string, first byte) map[oci.Digest]bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	known := make(map[oci.Digest]bool)
	if algorithm != "sha256" {
		for k, d := range q.t.others {
			if d.Hex()[:2] == fmt.Sprintf("%02x", first) && q.t.find(k, false) != 0 {
				known[d] = true
			}
		}
		return known
	}
	for _, n := range q.t.inByte(first) {
		known[q.t.digest(n)] = true
	}
	return known
}

// reconcile makes the table say of one digest what the directory says.
func (s *Store) reconcile(d oci.Digest) {
	s.names.Lock()
	defer s.names.Unlock()
	i := item{d, false}
	fi, err := s.fs.lstat(s.path(i))
	known := s.quota.knows(i)
	switch {
	case errors.Is(err, fs.ErrNotExist) && known:
		s.forget(i)
	case err == nil && fi.Mode().IsRegular() && !known:
		used := fi.ModTime()
		_ = s.blobs.append(appendAdd(nil, raw(d), 0, fi.Size(), used.UnixNano())) // the next check finds it again
		s.quota.found(i, fi.Size(), used, "")
		s.found++
	}
}

// Run is the background of a store: it checks the directory, writes uses, and
// removes what is above the soft limits or too old. It returns when ctx is done.
func (s *Store) Run(ctx context.Context) {
	checking := make(chan struct{})
	go func() {
		defer close(checking)
		select {
		case <-s.checked: // by New
		default:
			if err := s.check(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the data directory cannot be checked", "err", err)
			}
		}
	}()
	defer func() { <-checking }()
	save, look := time.NewTicker(saveEvery), time.NewTicker(lookEvery)
	defer save.Stop()
	defer look.Stop()
	for {
		if err := s.quota.trim(func() bool { return ctx.Err() != nil }); err != nil {
			s.log.Warn("blobs cannot be removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-save.C:
			s.saveUses()
		case <-look.C:
		case <-s.quota.wake:
		}
	}
}

const (
	saveEvery = 30 * time.Second
	lookEvery = 5 * time.Second
)

// Limits sets other limits. What is above them leaves in the background.
func (s *Store) Limits(l Limits) error { return s.setLimits(l) }

func (s *Store) setLimits(l Limits) error {
	size, _, err := room(s.dir)
	if err != nil && l.MaxSize.Share != 0 {
		return fmt.Errorf("size of the file system: %w", err)
	}
	s.quota.limit(l, size)
	return nil
}

// order makes the lists anew, sorted by use.
func (t *table) order() {
	for _, o := range t.owners {
		o.first, o.last = 0, 0
	}
	t.lists = 0
	all := make([]uint32, 0, t.count)
	for n := range t.nodes {
		if t.isLive(uint32(n)) {
			all = append(all, uint32(n))
		}
	}
	slices.SortFunc(all, func(a, b uint32) int {
		x, y := &t.nodes[a], &t.nodes[b]
		if c := cmp.Compare(x.used, y.used); c != 0 {
			return c
		}
		return slices.Compare(x.key[:], y.key[:])
	})
	for _, n := range all {
		t.nodes[n].prev, t.nodes[n].next = 0, 0
		t.push(n)
	}
}
