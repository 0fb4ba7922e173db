// Package rewrite changes the names of images in the files of people: Kubernetes
// YAML and JSON, Helm values, Kustomize, kubeadm, Argo CD, Compose, workflows of
// GitHub and GitLab, and Dockerfiles.
//
// It promises that nothing but the bytes of image names changes: comments, order,
// quotes, indentation and line ends stay, and a name is replaced only where the
// format says that an image is named there. What cannot be decided is left as it is
// and reported, with its place and the reason; a document that cannot be read is left
// as it is altogether. What names become is decided by [Options.Rename] alone.
//
// Documents are read twice as fast as they need to be by a scanner for the YAML that
// people write; what that is not certain of, a library reads.
//
// The package opens no files and no connections, renders no templates, expands no
// variables, and looks into no text within a text (a ConfigMap's). A [Rewriter] never
// changes after New and takes no lock.
package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"sampan/internal/oci"
	"sampan/internal/rewrite/dockerfile"
)

// Options are what New needs. Only Rename is required.
type Options struct {
	// Rename turns an image name, with tag and digest or without, into the one to
	// write; the name itself means that it is to stay. An error means that this
	// cannot be decided, and is reported. It must not depend on anything but the name.
	// A tag stays as it is and makes no difference to the rest: for names that differ in
	// their tags alone it is asked once.
	Rename func(name string) (string, error)
	// Prefix does the same for the beginning of names, as kubeadm's imageRepository
	// and the registry of Helm values are. nil asks Rename about a name below it.
	Prefix func(prefix string) (string, error)
	// Paths are more fields that name images, beside those known.
	Paths []Path
}

// A Format is how a file is written.
type Format int

// The formats.
const (
	Auto       Format = iota // what the file's name and contents say
	YAML                     // and JSON, which is YAML too
	Dockerfile               // or Containerfile
)

// A Result is what became of a file.
type Result struct {
	Out       []byte    // the file; the one given where nothing changed
	Images    []Image   // those found, in the order of their places
	Undecided []Finding // what was left as it is, in the order of their places
}

// An Image is a name that was found.
type Image struct {
	Name   string // as it is written
	New    string // what was written in its place; the same where it stayed
	Line   int    // from 1
	Column int    // in characters, from 1
	Field  string // such as "spec.containers[0].image"
	Prefix bool   // the name is only the beginning of names, as a registry is

	offset int
}

// A Finding is something that could not be decided.
type Finding struct {
	Line   int    // from 1
	Column int    // in characters, from 1
	Field  string // as in Image; empty for a whole document
	Name   string // as it is written; empty for a whole document
	Reason Reason
	Err    error // what Rename said, or why a document could not be read; may be nil

	build  dockerfile.Reason // where Reason is Argument
	offset int
}

// ErrLarge is the error for files of 2 GiB and more.
var ErrLarge = errors.New("the file is too large")

// A Rewriter rewrites files. Its methods may be called concurrently.
type Rewriter struct {
	o     Options
	paths map[string][]Path // by the last part of the kind; "*" for all
	keys  map[string]bool   // of fields that may name an image
	kube  map[string]bool   // those of them in Kubernetes objects, outside of Helm values
	ends  [256]bool         // the last bytes of keys, which rule out most others
}

// New checks the options.
func New(o Options) (*Rewriter, error) {
	if o.Rename == nil {
		return nil, errors.New("rewrite: nobody says what names become")
	}
	if o.Prefix == nil {
		o.Prefix = func(prefix string) (string, error) { return below(o.Rename, prefix) }
	}
	r := &Rewriter{o: o, paths: make(map[string][]Path), keys: make(map[string]bool), kube: make(map[string]bool)}
	known, err := knownPaths()
	if err != nil {
		return nil, err
	}
	for _, key := range fields() {
		r.keys[key] = true
	}
	for _, p := range append(known, o.Paths...) {
		if len(p.steps) == 0 {
			return nil, errors.New("rewrite: an empty path")
		}
		r.paths[p.kind] = append(r.paths[p.kind], p)
		r.keys[p.lastKey()], r.kube[p.lastKey()] = true, true
	}
	for _, key := range kubernetesFields() {
		r.kube[key] = true
	}
	r.ends['e'] = true // what ends in "image"
	for key := range r.keys {
		r.ends[key[len(key)-1]] = true
	}
	return r, nil
}

// below asks what the beginning of names becomes, by a name that begins so.
func below(rename func(string) (string, error), prefix string) (string, error) {
	const leaf = "/x"
	name, err := rename(prefix + leaf)
	if err != nil {
		return "", err
	}
	start, ok := strings.CutSuffix(name, leaf)
	if !ok {
		return "", fmt.Errorf("names below %s become %s", prefix, name)
	}
	return start, nil
}

// Bytes rewrites a file. Its name, which may be empty, helps to tell what it is; it is
// not opened. The error is ErrLarge, or nil.
func (r *Rewriter) Bytes(name string, in []byte) (*Result, error) {
	return r.Format(Auto, name, in)
}

// Format is [Rewriter.Bytes] for a file of a known format.
func (r *Rewriter) Format(f Format, name string, in []byte) (*Result, error) {
	if len(in) >= math.MaxInt32 {
		return nil, ErrLarge
	}
	u := newRun(r, in)
	if !utf8.Valid(in) || bytes.IndexByte(in, 0) >= 0 {
		u.find(0, Finding{Reason: NotText})
		return u.result(), nil
	}
	if f == Auto {
		f = formatOf(name, in)
	}
	if f == Dockerfile {
		u.dockerfile()
	} else {
		u.yaml(dialectOf(name))
	}
	return u.result(), nil
}

// A run is the work on one file.
type run struct {
	*Rewriter
	src     []byte
	tree    tree
	edits   []edit
	images  []Image
	finds   []Finding
	renamed map[string]answer // what Rename said
	tagged  map[string]string // the same of names with tags, by the name before the tag, with its colon
	at      map[int32]bool    // places that are dealt with
}

func newRun(r *Rewriter, src []byte) *run {
	return &run{Rewriter: r, src: src, renamed: make(map[string]answer), tagged: make(map[string]string), at: make(map[int32]bool)}
}

type answer struct {
	name string
	err  error
}

// An edit replaces src[start:end].
type edit struct {
	start, end int
	text       string
}

// rename asks once for each name, and for all tags of one at once.
func (u *run) rename(name string) (string, error) {
	if a, known := u.renamed[name]; known {
		return a.name, a.err
	}
	repository, tag := cutTag(name)
	if start, known := u.tagged[repository]; known && tag != "" {
		return start + tag, nil
	}
	renamed, err := u.o.Rename(name)
	if start, kept := strings.CutSuffix(renamed, ":"+tag); kept && tag != "" && err == nil {
		u.tagged[repository] = start + ":"
	} else {
		u.renamed[name] = answer{renamed, err}
	}
	return renamed, err
}

// cutTag cuts a name behind the colon in front of its tag. The tag is empty where there
// is none, or a digest too.
func cutTag(name string) (repository, tag string) {
	i := strings.LastIndexByte(name, ':') + 1
	if i <= 1 || strings.IndexByte(name, '@') >= 0 {
		return name, ""
	}
	if _, err := oci.ParseTag(name[i:]); err != nil {
		return name, ""
	}
	return name[:i], name[i:]
}

func (u *run) find(offset int32, f Finding) {
	f.offset = int(offset)
	u.finds = append(u.finds, f)
}

// image notes that a name was found at src[start:end], and replaces it.
func (u *run) image(start, end int, field, newName string) {
	u.images = append(u.images, Image{Name: string(u.src[start:end]), New: newName, Field: field, offset: start})
	if newName != string(u.src[start:end]) {
		u.edits = append(u.edits, edit{start, end, newName})
	}
}

// result puts the edits into the source, and the places into words.
func (u *run) result() *Result {
	res := &Result{Out: u.spliced(), Images: u.images, Undecided: u.finds}
	slices.SortStableFunc(res.Images, func(a, b Image) int { return a.offset - b.offset })
	slices.SortStableFunc(res.Undecided, func(a, b Finding) int { return a.offset - b.offset })
	at := newPlaces(u.src)
	for i := range res.Images {
		m := &res.Images[i]
		m.Line, m.Column = at.of(m.offset)
	}
	at = newPlaces(u.src)
	for i := range res.Undecided {
		f := &res.Undecided[i]
		f.Line, f.Column = at.of(f.offset)
	}
	return res
}

func (u *run) spliced() []byte {
	if len(u.edits) == 0 {
		return u.src
	}
	slices.SortFunc(u.edits, func(a, b edit) int { return a.start - b.start })
	size := len(u.src)
	for _, e := range u.edits {
		size += len(e.text)
	}
	out := make([]byte, 0, size)
	done := 0
	for _, e := range u.edits {
		if e.start < done {
			continue // cannot be: no place is dealt with twice
		}
		out = append(append(out, u.src[done:e.start]...), e.text...)
		done = e.end
	}
	return append(out, u.src[done:]...)
}

// places turns ascending offsets into lines and columns. It looks at each byte once.
type places struct {
	src          []byte
	line, column int // of pos
	pos          int
}

func newPlaces(src []byte) *places { return &places{src: src, line: 1, column: 1, pos: 0} }

func (p *places) of(offset int) (line, column int) {
	if mark := len(bom(p.src)); p.pos == 0 && offset >= mark {
		p.pos = mark // it is no character of the text
	}
	between := p.src[p.pos:offset]
	if n := bytes.Count(between, []byte("\n")); n > 0 {
		p.line, p.column = p.line+n, 1
		between = between[bytes.LastIndexByte(between, '\n')+1:]
	}
	p.column += utf8.RuneCount(between)
	p.pos = offset
	return p.line, p.column
}

// bom is the mark that some editors begin a file with; usually empty.
func bom(src []byte) []byte {
	if mark := []byte("\ufeff"); bytes.HasPrefix(src, mark) {
		return mark
	}
	return nil
}
