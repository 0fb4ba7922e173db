// Package syncing keeps copies of images in step with where they come from.
//
// A [List] is what a person writes: sources, which of their tags, and where they go.
// [Expand] asks the sources which tags that is now, and says what each image is
// called at its target. What is missing or has moved there is for package transfer to
// copy, which says what became of it; [Report] tells that to people and machines.
//
// The package promises that an image that goes wrong keeps no other from going, that
// two sources never get one name, and that nothing is deleted that the list does not
// look after. With nothing to do, a tag costs one HEAD at its source and one at its
// target, and an image that is named by its digest one at its target: what a tag points
// at is taken to be whole there, as [transfer.Options] says under Trust, unless
// [Options] ask to Verify. A list that chooses platforms or wants referrers costs more,
// since the target may have others. It does not know how to reach a registry: readers and targets are
// handed in.
package syncing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"sampan/internal/oci"
	"sampan/internal/schedule/timetable"
	"sampan/internal/transfer"
)

// A List is what is to be kept in step.
type List struct {
	// Targets are where everything goes that says nothing else: a repository, or a
	// registry with a path that ends in "/", where names come from the rule.
	Targets []string `yaml:"targets"`
	// Images are what goes.
	Images []Source `yaml:"images"`
	// Kubernetes are versions, such as v1.31.0, whose control plane's images go too.
	Kubernetes []string `yaml:"kubernetes"`
	// Platforms are those of images that say nothing else; none means all.
	Platforms []string `yaml:"platforms"`
	// Referrers copies signatures, SBOMs and attestations of images that say nothing
	// else.
	Referrers bool `yaml:"referrers"`
	// Schedule is when, as cron has it; Every is how often. Neither (the default) is
	// once.
	Schedule string        `yaml:"schedule"`
	Interval string        `yaml:"every"` // as it is written
	Every    time.Duration `yaml:"-"`     // Interval
	// Names is the rule of names below targets that end in "/".
	Names Naming `yaml:"names"`

	table *timetable.Timetable // of Schedule
}

// Repeats tells whether one run follows another.
func (l *List) Repeats() bool { return l.Every > 0 || l.table != nil }

// Next is when the next run is, after a time.
func (l *List) Next(after time.Time) time.Time {
	if l.table != nil {
		return l.table.Next(after)
	}
	return after.Add(l.Every)
}

// Naming is how images are named below a target; the zero value keeps their paths.
type Naming struct {
	Rule      string `yaml:"rule"`      // keep (default), flatten, or template
	Separator string `yaml:"separator"` // of flatten; default "."
	Registry  bool   `yaml:"registry"`  // puts the registry in front
	Template  string `yaml:"template"`  // of template
}

// A Source is one repository, or one image of it. In a list it may be written as its
// name alone.
type Source struct {
	Source    string   `yaml:"source"`
	Tags      Tags     `yaml:"tags"`
	Platforms []string `yaml:"platforms"` // none: the list's
	Referrers *bool    `yaml:"referrers"` // nil: the list's
	To        []string `yaml:"to"`        // none: the list's targets

	ref     oci.Reference
	release bool // of Kubernetes
}

// UnmarshalYAML takes a name for a source.
func (s *Source) UnmarshalYAML(unmarshal func(any) error) error {
	var name string
	if err := unmarshal(&name); err == nil {
		s.Source = name
		return nil
	}
	type plain Source
	return unmarshal((*plain)(s))
}

// Tags are which of a repository's tags. The zero value is the one that the source
// names, or latest. In a list it may be written as Include alone, or as one of these.
type Tags struct {
	// Include are tags and patterns of them (*, ?, [a-z]). A tag that is named in full
	// is always taken, whatever the rest says. None means all, where one of the others
	// is given.
	Include []string `yaml:"include"`
	// Exclude are those that are not taken.
	Exclude []string `yaml:"exclude"`
	// SemVer is a range of versions, such as ">=2.50 <3"; tags that are no versions
	// are not taken. Those with a pre-release are where the range has one.
	SemVer string `yaml:"semver"`
	// Newest takes so many of what is left, by the highest version; tags that are no
	// versions are not taken. Zero means all.
	Newest int `yaml:"newest"`

	constraint *semver.Constraints
}

// UnmarshalYAML takes a list for Include, and a text for one of it. Numbers stay as they
// are written.
func (t *Tags) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if err := unmarshal(&one); err == nil {
		var as written
		err := unmarshal(&as)
		t.Include = []string{string(as)}
		return err
	}
	var include []string
	if err := unmarshal(&include); err == nil {
		var as []written
		err := unmarshal(&as)
		t.Include = texts(as)
		return err
	}
	type plain Tags
	if err := unmarshal((*plain)(t)); err != nil { // which knows the place
		return err
	}
	var as struct {
		Include, Exclude []written
		SemVer           written `yaml:"semver"`
		Newest           int
	}
	err := unmarshal(&as)
	t.Include, t.Exclude, t.SemVer = texts(as.Include), texts(as.Exclude), string(as.SemVer)
	return err
}

// A written is a text, also where YAML takes it for a number: the tag 1.30 is not 1.3.
type written string

// UnmarshalYAML implements [yaml.BytesUnmarshaler].
func (w *written) UnmarshalYAML(raw []byte) error {
	if file, err := parser.ParseBytes(raw, 0); err == nil && len(file.Docs) == 1 {
		switch n := file.Docs[0].Body.(type) {
		case *ast.IntegerNode, *ast.FloatNode:
			*w = written(n.GetToken().Value)
			return nil
		}
	}
	return yaml.Unmarshal(raw, (*string)(w))
}

func texts(list []written) []string {
	var all []string
	for _, w := range list {
		all = append(all, string(w))
	}
	return all
}

// MaxFile bounds a list, in bytes.
const MaxFile = 1 << 20

// More is what is added to a list that is read, and who judges what this package does not
// know.
type More struct {
	Targets []string        // of images that say none, beside the list's
	Images  []oci.Reference // that go as they are
	// Target and Naming say what is wrong with a target and with the rule of names; nil
	// takes all of them.
	Target func(target string) error
	Naming func(Naming) error
}

// Read reads a list, and adds more to it. The error says what is wrong with it and
// where, all at once, in the language that text chooses.
func Read(r io.Reader, name string, more More, text func(english, chinese string) string) (*List, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxFile {
		return nil, fmt.Errorf(text("%s: more than %d bytes", "%s：超过 %d 字节"), name, MaxFile)
	}
	var l List
	document := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict())
	if err := document.Decode(&l); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, true))
	}
	var second any
	if err := document.Decode(&second); !errors.Is(err, io.EOF) && (err != nil || second != nil) {
		return nil, fmt.Errorf(text("%s: more than one document; a list is one", "%s：含有多个文档；列表应为一个"), name)
	}
	c := checker{name: name, raw: raw, text: text, more: more}
	c.places(&l)
	l.Targets = append(l.Targets, more.Targets...)
	c.list(&l)
	for _, ref := range more.Images {
		l.Images = append(l.Images, Source{Source: ref.String(), ref: ref, release: true})
	}
	if len(more.Images) > 0 && len(l.Targets) == 0 {
		c.wrong = append(c.wrong, errors.New(text("--to says where the images of --kubeadm go, or targets of the list", "--kubeadm 的镜像复制到哪里，须由 --to 或列表的 targets 说明")))
	}
	if len(c.wrong) > 0 {
		return nil, errors.Join(c.wrong...)
	}
	return &l, nil
}

// A checker gathers what is wrong with a list.
type checker struct {
	name  string
	raw   []byte
	text  func(english, chinese string) string
	more  More
	wrong []error
}

// complain is about the value at a path of the document, such as $.images[0].source.
func (c *checker) complain(at, format string, args ...any) {
	where := c.name
	if p, err := yaml.PathString(at); err == nil {
		if node, err := p.ReadNode(strings.NewReader(string(c.raw))); err == nil && node.GetToken() != nil {
			pos := node.GetToken().Position
			where = fmt.Sprintf("%s:%d:%d", c.name, pos.Line, pos.Column)
		}
	}
	c.wrong = append(c.wrong, fmt.Errorf("%s: %s: %s", where, strings.TrimPrefix(at, "$."), fmt.Sprintf(format, args...)))
}

// places are where images go, and how they are called there.
func (c *checker) places(l *List) {
	target := func(at, s string) {
		if c.more.Target == nil {
			return
		}
		if err := c.more.Target(s); err != nil {
			c.complain(at, "%s", err)
		}
	}
	for i, s := range l.Targets {
		target(fmt.Sprintf("$.targets[%d]", i), s)
	}
	for i, image := range l.Images {
		for j, s := range image.To {
			target(fmt.Sprintf("$.images[%d].to[%d]", i, j), s)
		}
	}
	switch n := l.Names; {
	case n.Rule == "template" && n.Template == "":
		c.complain("$.names.rule", "%s", c.text("names.template must say which", "须由 names.template 给出模板"))
	case n.Rule != "" && n.Rule != "template" && n.Template != "":
		c.complain("$.names.template", c.text("the rule is %s, which has no template", "规则为 %s，不使用模板"), n.Rule)
	case c.more.Naming != nil:
		if err := c.more.Naming(n); err != nil {
			c.complain("$.names", "%s", err)
		}
	}
}

// kubernetes are releases of which the images are known.
func (c *checker) kubernetes(releases []string) {
	for i, release := range releases {
		at := fmt.Sprintf("$.kubernetes[%d]", i)
		switch _, err := KubernetesImages(release); {
		case errors.Is(err, ErrUnknownKubernetes):
			c.complain(at, c.text("%s is not among the releases that are known here; take it from the list and say --kubeadm %[1]s --kubeadm-images FILE", "%s 不在已知版本之中；请从列表中去掉，并使用 --kubeadm %[1]s --kubeadm-images FILE"), release)
		case err != nil:
			c.complain(at, "%s", err)
		}
	}
}

func (c *checker) list(l *List) {
	if len(l.Images) == 0 && len(l.Kubernetes) == 0 && len(c.more.Images) == 0 {
		c.wrong = append(c.wrong, fmt.Errorf(c.text("%s: neither images nor kubernetes says what to copy", "%s：images 与 kubernetes 均未说明要复制什么"), c.name))
	}
	if l.Interval != "" {
		var err error
		if l.Every, err = time.ParseDuration(l.Interval); err != nil {
			c.complain("$.every", c.text("%q is no time, such as 6h or 90m", "%q 不是时长，例如 6h 或 90m"), l.Interval)
		} else if l.Every < time.Minute {
			c.complain("$.every", c.text("at least 1m, not %s", "至少为 1m，而不是 %s"), l.Every)
		}
	}
	if l.Schedule != "" && l.Interval != "" {
		c.complain("$.every", "%s", c.text("schedule and every exclude each other", "schedule 与 every 只能有一个"))
	}
	if l.Schedule != "" {
		var err error
		switch l.table, err = timetable.Parse(l.Schedule, time.Local); {
		case errors.Is(err, timetable.ErrFields):
			c.complain("$.schedule", c.text("%q is not five fields of cron (minute, hour, day, month, day of the week), such as 30 3 * * *", "%q 不是 cron 的五个字段（分、时、日、月、星期），例如 30 3 * * *"), l.Schedule)
		case err != nil:
			c.complain("$.schedule", "%q: %v", l.Schedule, err)
		}
	}
	switch l.Names.Rule {
	case "", "keep", "flatten", "template":
	default:
		c.complain("$.names.rule", c.text("keep, flatten or template, not %q", "应为 keep、flatten 或 template，而不是 %q"), l.Names.Rule)
	}
	c.platforms("$.platforms", l.Platforms)
	c.kubernetes(l.Kubernetes)
	for i := range l.Images {
		s := &l.Images[i]
		at := fmt.Sprintf("$.images[%d]", i)
		c.source(at, s)
		if len(s.To) == 0 && len(l.Targets) == 0 {
			c.complain(at, "%s", c.text("neither to nor targets says where it goes", "to 与 targets 均未说明复制到哪里"))
		}
	}
	if len(l.Kubernetes) > 0 && len(l.Targets) == 0 {
		c.complain("$.kubernetes", "%s", c.text("targets must say where they go", "须由 targets 说明复制到哪里"))
	}
}

func (c *checker) source(at string, s *Source) {
	ref, err := oci.ParseReference(s.Source)
	if err != nil {
		c.complain(at, c.text("%q is not an image name", "%q 不是镜像名"), s.Source)
		return
	}
	s.ref = ref
	if !s.Tags.none() && !ref.Untagged() {
		c.complain(at, c.text("%s names one image, and tags several", "%s 只指一个镜像，而 tags 指多个"), s.Source)
	}
	c.platforms(at+".platforms", s.Platforms)
	for i, p := range append(append([]string(nil), s.Tags.Include...), s.Tags.Exclude...) {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			field := fmt.Sprintf("%s.tags.include[%d]", at, i)
			if n := len(s.Tags.Include); i >= n {
				field = fmt.Sprintf("%s.tags.exclude[%d]", at, i-n)
			}
			c.complain(field, c.text("%q is no pattern of a tag", "%q 不是标签的模式"), p)
		}
	}
	if s.Tags.SemVer != "" {
		if s.Tags.constraint, err = semver.NewConstraint(s.Tags.SemVer); err != nil {
			c.complain(at+".tags.semver", c.text("%q is no range of versions: %v", "%q 不是版本范围：%v"), s.Tags.SemVer, err)
		}
	}
	if s.Tags.Newest < 0 {
		c.complain(at+".tags.newest", c.text("0 (all) or more, not %d", "应为 0（全部）或更大，而不是 %d"), s.Tags.Newest)
	}
}

func (c *checker) platforms(at string, list []string) {
	for i, p := range list {
		if _, err := transfer.ParsePlatform(p); err != nil {
			c.complain(fmt.Sprintf("%s[%d]", at, i), c.text("a platform is os/architecture[/variant], not %q", "平台应为 os/architecture[/variant]，而不是 %q"), p)
		}
	}
}
