package runtimes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// ErrMoved is the error of a file that is no longer what the plan was made from.
var ErrMoved = errors.New("the file changed meanwhile")

// Apply carries out the files of a plan: what was there is saved first, all of it. A
// second setup on an untouched first one joins it, so that undoing goes back to before
// both. A plan that changes nothing leaves nothing.
func Apply(m *Machine, s *Store, target string, p *Plan) error {
	if !p.Changes() {
		return nil
	}
	for i := range p.Files {
		if f := &p.Files[i]; f.Changes() {
			if err := m.writable(f.Path); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		}
	}
	r, n, err := begin(m, s, target)
	if err != nil {
		return err
	}
	for i := range p.Files {
		if f := &p.Files[i]; f.Changes() {
			if err := save(m, s, r, n, f); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		}
	}
	for _, step := range p.After { // setups that this one joins may have had others
		if !slices.ContainsFunc(r.After, func(s Step) bool { return slices.Equal(s.Command, step.Command) }) {
			r.After = append(r.After, step)
		}
	}
	if err := s.save(r, n); err != nil {
		return err
	}
	for i := range p.Files {
		f := &p.Files[i]
		if !f.Changes() {
			continue
		}
		if err := put(m, f, r.find(f.Path)); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}

// writable fails where a file cannot be written: it is found out before anything is.
func (m *Machine) writable(path string) error {
	dir := m.Path(path)
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
		f, err := os.CreateTemp(dir, ".sampan-*")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), os.Remove(f.Name()))
	}
}

// begin finds the record that this setup joins, or makes one.
func begin(m *Machine, s *Store, target string) (*record, int, error) {
	n, err := s.newest(target)
	if err != nil {
		return nil, 0, err
	}
	if n > 0 {
		r, err := s.load(target, n)
		if err != nil {
			return nil, 0, err
		}
		if untouched(m, r) {
			return r, n, nil
		}
	}
	return &record{Target: target, Kept: s.missing()}, n + 1, nil
}

// untouched tells whether every file is as the setup left it, or as it was before, where
// a crash came between.
func untouched(m *Machine, r *record) bool {
	for _, f := range r.Files {
		now, err := m.Read(f.Path)
		if err != nil || now == nil && f.Existed || now != nil && sum(now) != f.After && (!f.Existed || sum(now) != f.Before) {
			return false
		}
	}
	return true
}

// save keeps what a file is before it is written, where no setup did so before.
func save(m *Machine, s *Store, r *record, n int, f *File) error {
	now, err := m.Read(f.Path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, f.Before) || (now == nil) != (f.Before == nil) {
		return ErrMoved
	}
	if known := r.find(f.Path); known != nil {
		known.After = sum(f.After)
		return nil
	}
	k := saved{Path: f.Path, Existed: now != nil, After: sum(f.After), UID: -1, GID: -1}
	if now != nil {
		info, err := os.Stat(m.Path(f.Path))
		if err != nil {
			return err
		}
		k.Mode = info.Mode()
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			k.UID, k.GID = int(sys.Uid), int(sys.Gid)
		}
		k.Before, k.Backup = sum(now), fmt.Sprintf("%d-%s", len(r.Files), filepath.Base(f.Path))
		if err := s.backup(r, n, k.Backup, now); err != nil {
			return err
		}
	}
	for dir := filepath.Dir(f.Path); !m.Exists(dir) && !slices.Contains(r.Dirs, dir); dir = filepath.Dir(dir) {
		r.Dirs = append(r.Dirs, dir)
	}
	slices.Sort(r.Dirs) // a directory comes before what is in it
	r.Files = append(r.Files, k)
	return nil
}

// put writes a file of a plan. A mode that is there stays, but for secrets.
func put(m *Machine, f *File, k *saved) error {
	path := m.Path(f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := f.Mode.Perm()
	if k.Existed && !f.Secret {
		mode = k.Mode.Perm()
	}
	if mode == 0 {
		mode = 0o644
	}
	return writeFile(path, f.After, mode, k.UID, k.GID)
}

// last is the newest record of a target. The error is [ErrNothing] where there is none.
func (s *Store) last(target string) (*record, int, error) {
	n, err := s.newest(target)
	if err != nil {
		return nil, 0, err
	}
	if n == 0 {
		return nil, 0, ErrNothing
	}
	r, err := s.load(target, n)
	return r, n, err
}

// Undone is what became of a file when a setup was undone.
type Undone struct {
	Path    string
	Removed bool // there was none before
}

// A Conflict is a file that somebody changed after the setup.
type Conflict struct{ Paths []string }

func (c *Conflict) Error() string { return fmt.Sprintf("changed since the setup: %v", c.Paths) }

// ErrNothing is the error of undoing where there is no setup.
var ErrNothing = errors.New("nothing was set up")

// Conflicts are the files that stand in the way of [Undo] without force.
func Conflicts(m *Machine, s *Store, target string) ([]string, error) {
	r, _, err := s.last(target)
	if err != nil {
		return nil, err
	}
	return conflicts(m, r), nil
}

// Undo puts back what was there before the newest setup of a target, and tells how many
// setups are left. A file that was changed since is a [*Conflict], and nothing is done,
// unless force says that the change may be lost. The steps are those that make the
// runtime read what is there now; Undo takes none.
func Undo(m *Machine, s *Store, target string, force bool) (done []Undone, after []Step, left int, err error) {
	r, n, err := s.last(target)
	if err != nil {
		return nil, nil, n, err
	}
	if !force {
		if changed := conflicts(m, r); len(changed) > 0 {
			return nil, nil, n, &Conflict{changed}
		}
	}
	var paths []string
	for _, f := range slices.Backward(r.Files) {
		if err := restore(m, s, r, n, f); err != nil {
			return done, nil, n, fmt.Errorf("%s: %w", f.Path, err)
		}
		done = append(done, Undone{f.Path, !f.Existed})
		paths = append(paths, f.Path)
	}
	for _, dir := range slices.Backward(r.Dirs) {
		_ = os.Remove(m.Path(dir)) // it stays where something else is in it
	}
	return done, needed(r.After, paths), n - 1, s.remove(r, n)
}

// conflicts are the files that are neither as the setup left them nor as they were.
func conflicts(m *Machine, r *record) []string {
	var changed []string
	for _, f := range r.Files {
		now, err := m.Read(f.Path)
		switch {
		case err != nil, now == nil && f.Existed:
			changed = append(changed, f.Path)
		case now == nil, sum(now) == f.After, f.Existed && sum(now) == f.Before:
		default:
			changed = append(changed, f.Path)
		}
	}
	return changed
}

// restore puts one file back.
func restore(m *Machine, s *Store, r *record, n int, f saved) error {
	path := m.Path(f.Path)
	if !f.Existed {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	before, err := os.ReadFile(filepath.Join(s.path(r.Target, n), f.Backup))
	if err != nil {
		return err
	}
	if sum(before) != f.Before {
		return fmt.Errorf("%s: %w", f.Backup, errDamaged)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return writeFile(path, before, f.Mode, f.UID, f.GID)
}

var errDamaged = errors.New("what was saved is damaged")
