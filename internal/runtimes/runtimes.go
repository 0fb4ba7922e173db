// Package runtimes has container runtimes use a mirror, proves that they do, and puts
// everything back.
//
// A [Target] is one runtime: it finds out what is on a [Machine] and makes a [Plan]
// from it, which says each file before and after and what has to be restarted, and
// changes nothing. [Apply] carries a plan out and remembers what was there; [Undo]
// restores that, byte for byte. What a target does not know in a file stays as it is,
// with comments and order.
//
// A crash in the middle of either loses nothing: what was there is saved before the
// first file is touched, and Undo, or the same setup again, continues from whatever
// was reached. The package does not talk to the mirror, and takes no lock: two setups of one
// target at the same time are the person's mistake.
package runtimes

import (
	"bytes"
	"context"
	"io/fs"
	"slices"
	"time"

	"sampan/internal/oci"
)

// A Mirror is what a runtime has to know of one.
type Mirror struct {
	// URL is where it is, https://host[:port], and Host the same without scheme, which
	// names at the mirror begin with. An access code is part of both.
	URL, Host string
	// PlainHTTP: URL is http.
	PlainHTTP bool
	// CA are the certificates, PEM, that the mirror's is signed by; nil means that the
	// system knows them.
	CA []byte
	// Username and Password are a login at the mirror; empty for none.
	Username, Password string
	// Registries are those that the mirror serves, for runtimes that need a list.
	Registries []oci.Registry
	// Code is the access code that is part of URL and Host; empty for none.
	Code string
	// Every: the mirror serves every registry, beside those named.
	Every bool
	// Replace: other mirrors are taken away; else they stay, behind this one.
	Replace bool
	// NoFallback: the runtime must not ask the registries themselves where the mirror
	// does not answer, as far as it can be told so.
	NoFallback bool
	// DialTimeout is how long to wait for a connection to the mirror before the
	// registry itself is asked. Zero means [DefaultDialTimeout].
	DialTimeout time.Duration
}

// DefaultDialTimeout is that of a Mirror that says none: runtimes' own is 30 s, which a
// person takes for a hang.
const DefaultDialTimeout = 5 * time.Second

// A Target is a runtime that can be set up.
type Target interface {
	// Name is what a person types: "docker".
	Name() string
	// Detect finds the runtime on a machine. One that is not there is no error: it is
	// a Found with Present false, and can be planned for where a person insists.
	Detect(ctx context.Context, m *Machine) (Found, error)
	// Plan says what to do. The error is a [*Refusal] where a person has to do
	// something first.
	Plan(ctx context.Context, m *Machine, f Found, mirror Mirror) (*Plan, error)
}

// Found is what is known of a runtime on this machine.
type Found struct {
	Present bool
	Version string   // as it says itself; empty where it does not
	Files   []string // of its configuration that exist, and those it would read
	Kind    string   // of several that are set up differently, such as the image store of Docker; empty where there is one
	Mirrors []string // that it is configured with now, as it writes them, "quay.io = …" where it is one registry's

	Rootless bool   // it is a person's own
	Endpoint string // where the daemon is, as its client writes it; empty where it does not say
	Closed   bool   // it never asks the registries themselves
}

// A Plan is what a setup would do.
type Plan struct {
	Files []File
	// After are done when the files are there, in this order, and only where a person
	// allows it: they end or pause what runs.
	After []Step
	Notes []Note
	// Pending: what runs is known not to have read the files as they are now.
	Pending bool
	// Proof is how to see that the runtime uses the mirror; nil where only a person can.
	Proof *Proof
}

// Changes tells whether anything is different afterwards.
func (p *Plan) Changes() bool {
	for _, f := range p.Files {
		if f.Changes() {
			return true
		}
	}
	return false
}

// A File is one before and after.
type File struct {
	Path          string // on the machine, without [Machine.Root]
	Before, After []byte // Before is nil where there is none
	Mode          fs.FileMode
	Secret        bool // After has a password or a code: it is shown to nobody, and Mode is for the owner alone
}

// Changes tells whether the file is different afterwards.
func (f *File) Changes() bool { return f.Before == nil || !bytes.Equal(f.Before, f.After) }

// Needed are the steps that the changes of the files, or earlier ones, make necessary.
func (p *Plan) Needed() []Step {
	var changed []string
	for _, f := range p.Files {
		if p.Pending || f.Changes() {
			changed = append(changed, f.Path)
		}
	}
	return needed(p.After, changed)
}

// needed are those of the steps that some files make necessary.
func needed(steps []Step, changed []string) []Step {
	var list []Step
	for _, s := range steps {
		if len(changed) > 0 && (s.For == nil || slices.ContainsFunc(changed, func(path string) bool { return slices.Contains(s.For, path) })) {
			list = append(list, s)
		}
	}
	return list
}

// A Step is a command to run; without a Command it is for a person to do.
type Step struct {
	Command []string
	// Why is the key of the sentence that says what it is for, and Interrupts whether
	// it ends or pauses containers.
	Why        Text
	Interrupts bool
	// For are the files that it makes the runtime read: where none of them changes, it is
	// not needed. Nil means any file of the plan.
	For []string
}

// A Note is for a person to read, or to paste where there is no file.
type Note struct {
	Text  Text
	Paste string // exact text; empty for none
}

// A Text is a sentence in both languages.
type Text struct{ English, Chinese string }

// A Refusal is why a plan cannot be made, and what to do about it.
type Refusal struct {
	Text Text
	Err  error // the cause; nil where there is none
}

func (r *Refusal) Error() string { return r.Text.English }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// A Proof is a pull by the runtime itself.
type Proof struct {
	// Image is a small one that its registry has, by its own name.
	Image string
	// Registries are those to pull from; nil means that of Image.
	Registries []oci.Registry
	// Pull are the commands that pull Image, each tried when the one before is not there.
	// Another image is pulled by putting its name in the place of Image.
	Pull [][]string
	// Remove takes the image away again.
	Remove [][]string
	// Do pulls an image, and Undo takes it away, where there is no command for that; nil
	// means Pull and Remove.
	Do, Undo func(ctx context.Context, image string) error
	// Ready tells whether the runtime has taken up what was written, which one that was
	// told to read it again does a moment later; nil where nothing but a pull tells.
	Ready func(ctx context.Context, m *Machine) bool
}
