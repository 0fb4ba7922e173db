package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"sampan/internal/oci"
	"sampan/internal/rewrite"
)

// A foundName is one line of rewrite --list.
type foundName struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Field  string `json:"field,omitempty"`
	Name   string `json:"name,omitempty"`
	New    string `json:"new,omitempty"`    // what it becomes; the same where it stays
	Prefix bool   `json:"prefix,omitempty"` // the name is only the beginning of names
	Reason string `json:"reason,omitempty"` // why it could not be decided
}

func (j *rewriteJob) listed(name string, r *rewrite.Result) {
	for _, i := range r.Images {
		j.found = append(j.found, foundName{File: displayName(name), Line: i.Line, Column: i.Column, Field: i.Field, Name: i.Name, New: i.New, Prefix: i.Prefix})
	}
	for _, f := range r.Undecided {
		j.found = append(j.found, foundName{File: displayName(name), Line: f.Line, Column: f.Column, Field: f.Field, Name: f.Name, Reason: j.reason(f)})
	}
	if j.output == "text" {
		j.tell(name, r)
	}
}

func (j *rewriteJob) printList() error {
	if j.output == "json" {
		e := json.NewEncoder(j.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if j.found == nil {
			j.found = []foundName{}
		}
		return e.Encode(j.found)
	}
	seen := make(map[string]bool)
	for _, f := range j.found {
		if f.New == "" || f.Prefix || seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		if _, err := fmt.Fprintln(j.out, f.Name); err != nil {
			return err
		}
	}
	return nil
}

// checked tells what is not as it should be.
func (j *rewriteJob) checked(name string, r *rewrite.Result) error {
	for _, i := range r.Images {
		if i.New == i.Name {
			continue
		}
		j.missing++
		if _, err := fmt.Fprintf(j.out, "%s:%d:%d: %s: %s\n", displayName(name), i.Line, i.Column, i.Name, fmt.Sprintf(text("would be %s", "应为 %s"), i.New)); err != nil {
			return err
		}
	}
	for _, f := range r.Undecided {
		j.missing++
		if _, err := fmt.Fprintln(j.out, j.finding(name, f)); err != nil {
			return err
		}
	}
	return nil
}

// tell says what could not be decided.
func (j *rewriteJob) tell(name string, r *rewrite.Result) {
	if j.quiet {
		return
	}
	for _, f := range r.Undecided {
		fmt.Fprintln(j.messages, "sampan:", j.finding(name, f))
	}
}

func (j *rewriteJob) finding(name string, f rewrite.Finding) string {
	place := fmt.Sprintf("%s:%d:%d: ", displayName(name), f.Line, f.Column)
	if f.Name != "" {
		place += f.Name + ": "
	}
	return place + j.reason(f)
}

// reason says why, with what a person can do.
func (j *rewriteJob) reason(f rewrite.Finding) string {
	if f.Err == nil {
		return f.Why(text)
	}
	if f.Reason == rewrite.NotRenamed {
		if ref, err := oci.ParseReference(f.Name); err == nil {
			return unservedName(ref, f.Err).Error()
		}
		return plain(f.Err).Error()
	}
	if f.Reason == rewrite.Template {
		return f.Why(text)
	}
	return f.Why(text) + text(": ", "：") + f.Err.Error()
}

// spellings notes what --reverse would not give back as it was.
func (j *rewriteJob) spellings(r *rewrite.Result) {
	there, back := j.mirror.Spell, j.mirror.Unspell
	switch {
	case j.keepSpelling:
		there = j.mirror.SpellExactly
	case j.reverse:
		there, back = back, there
	}
	for _, i := range r.Images {
		if i.Prefix || slices.Contains(j.lost, i.Name) {
			continue
		}
		if spelled, err := there(i.Name); err == nil {
			if again, err := back(spelled); err == nil && again != i.Name {
				j.lost = append(j.lost, i.Name)
			}
		}
	}
}

// displayName is a file's name for people.
func displayName(name string) string {
	if name == "-" {
		return text("standard input", "标准输入")
	}
	return name
}

// rewriteFiles are the files of a command line; those below directories are sorted.
func rewriteFiles(args []string, recursive bool) ([]string, error) {
	if len(args) == 0 {
		args = []string{"-"}
	}
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if arg == "-" || err != nil || !info.IsDir() {
			files = append(files, arg) // what cannot be opened is told with the others
			continue
		}
		if !recursive {
			return nil, usagef(text("%s is a directory: use --recursive", "%s 是目录：请使用 --recursive"), arg)
		}
		below, err := rewritable(arg)
		if err != nil {
			return nil, err
		}
		files = append(files, below...)
	}
	return files, nil
}

// rewritable are the files below a directory that may name images. Links are not
// followed.
func rewritable(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.Type().IsRegular() && (rewrite.IsYAML(path) || rewrite.IsDockerfile(path)):
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

func readRewritable(in io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(in, math.MaxInt32))
	}
	b, err := os.ReadFile(name)
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return nil, e.Err // the name is told by the caller
	}
	return b, err
}

// replaceFile puts a file in the place of another, whole or not at all, with its mode
// and, where this user may give files away, its owner. What a link leads to is replaced,
// not the link.
func replaceFile(name string, content []byte) error {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".sampan-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // it is gone after the renaming
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = temporary.Chown(int(owner.Uid), int(owner.Gid)) // only root may
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(info.Mode().Perm()), temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
