package runtimes

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A record is what a setup found and left, kept until it is undone. Setups of one
// target lie on each other: "docker.1", "docker.2".
type record struct {
	Target string   `json:"target"`
	Files  []saved  `json:"files"`
	Dirs   []string `json:"dirs,omitempty"`  // that were made, outermost first
	Kept   []string `json:"kept,omitempty"`  // the same, on the way to this record; paths of this machine
	After  []Step   `json:"after,omitempty"` // that made the runtime read the files
}

// saved is one file of a record.
type saved struct {
	Path    string      `json:"path"` // on the machine
	Existed bool        `json:"existed"`
	Mode    fs.FileMode `json:"mode,omitempty"` // before
	UID     int         `json:"uid"`            // of the owner before; -1 where it is not known
	GID     int         `json:"gid"`
	Before  string      `json:"before,omitempty"` // SHA-256 of what was there, in hexadecimal
	After   string      `json:"after"`            // of what was written
	Backup  string      `json:"backup,omitempty"` // name beside the record
}

// A Store keeps records and what was there before, in one directory of the person's
// alone.
type Store struct{ dir string }

// NewStore is the store in a directory of the machine, which is made when it is
// needed.
func NewStore(m *Machine) *Store {
	const below = "sampan/setup"
	switch state := m.Getenv("XDG_STATE_HOME"); {
	case m.UID == 0:
		return &Store{m.Path(filepath.Join("/var/lib", below))}
	case filepath.IsAbs(state):
		return &Store{m.Path(filepath.Join(state, below))}
	default:
		return &Store{m.Path(filepath.Join(m.Home, ".local/state", below))}
	}
}

// Dir is where what was there before is kept.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(target string, n int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s.%d", target, n))
}

// newest is the number of the newest record of a target; 0 where there is none.
func (s *Store) newest(target string) (int, error) {
	for n := 1; ; n++ {
		if _, err := os.Stat(filepath.Join(s.path(target, n), "record.json")); errors.Is(err, fs.ErrNotExist) {
			return n - 1, nil
		} else if err != nil {
			return 0, err
		}
	}
}

func (s *Store) load(target string, n int) (*record, error) {
	raw, err := os.ReadFile(filepath.Join(s.path(target, n), "record.json"))
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(target, n), err)
	}
	return &r, nil
}

// missing are the directories on the way to the store that are not there, outermost
// first.
func (s *Store) missing() []string {
	var dirs []string
	for dir := s.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			slices.Reverse(dirs)
			return dirs
		}
		dirs = append(dirs, dir)
	}
}

// mkdir makes the directory of a record, which is the person's alone; those on the way
// are as others make them.
func (s *Store) mkdir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o700)
}

// save writes a record down, durably.
func (s *Store) save(r *record, n int) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	dir := s.path(r.Target, n)
	if err := s.mkdir(dir); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "record.json"), append(raw, '\n'), 0o600, -1, -1)
}

// backup keeps what was there.
func (s *Store) backup(r *record, n int, name string, content []byte) error {
	dir := s.path(r.Target, n)
	if err := s.mkdir(dir); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, name), content, 0o600, -1, -1)
}

// bequeath has another record, where there is one, know of the directories that were made
// for this one: with the last record they go. Where that fails they stay, empty.
func (s *Store) bequeath(r *record, n int) {
	if len(r.Kept) == 0 {
		return
	}
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		dot := strings.LastIndexByte(e.Name(), '.')
		number, err := strconv.Atoi(e.Name()[dot+1:])
		if dot < 0 || err != nil || s.path(r.Target, n) == filepath.Join(s.dir, e.Name()) {
			continue
		}
		other, err := s.load(e.Name()[:dot], number)
		if err != nil {
			continue // what has no record is nothing
		}
		other.Kept = append(slices.Clone(r.Kept), other.Kept...)
		_ = s.save(other, number)
		return
	}
}

// remove forgets a record, and the directories that were made for it where nothing else
// is in them. The record goes first: what is left without one is nothing.
func (s *Store) remove(r *record, n int) error {
	s.bequeath(r, n)
	dir := s.path(r.Target, n)
	if err := os.Remove(filepath.Join(dir, "record.json")); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, dir := range slices.Backward(r.Kept) {
		_ = os.Remove(dir) // it stays where something else is in it
	}
	return nil
}

// find is the saved file of a path; nil where there is none.
func (r *record) find(path string) *saved {
	if i := slices.IndexFunc(r.Files, func(f saved) bool { return f.Path == path }); i >= 0 {
		return &r.Files[i]
	}
	return nil
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// writeFile puts a file in its place as a whole, durably. Owners of -1 are nobody in
// particular. A symbolic link stays one, and what it leads to is replaced.
func writeFile(path string, content []byte, mode fs.FileMode, uid, gid int) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".sampan-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it is removed
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err != nil {
		return err
	}
	if err = f.Chmod(mode.Perm()); err != nil {
		return err
	}
	if uid >= 0 && os.Geteuid() == 0 {
		if err = f.Chown(uid, gid); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Has tells whether a target is set up.
func (s *Store) Has(target string) bool {
	n, err := s.newest(target)
	return err == nil && n > 0
}
