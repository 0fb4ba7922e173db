package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/store"
)

// A Report is what was deleted, or would be.
type Report struct {
	// Tags, Manifests and Blobs are how many; a manifest is no blob.
	Tags      int `json:"tags"`
	Manifests int `json:"manifests"`
	Blobs     int `json:"blobs"`
	// Bytes are those of the files that leave the disk.
	Bytes int64 `json:"bytes"`
	// Kept are tags and manifests that were to go and are pinned.
	Kept []string `json:"kept,omitempty"`
	// Names are those that go: repository:tag, or repository@digest; the first
	// [MaxNames] of them.
	Names []string `json:"names"`
}

// MaxNames bounds the names of a [Report].
const MaxNames = 1000

func (r *Report) name(s string) {
	if len(r.Names) < MaxNames {
		r.Names = append(r.Names, s)
	}
}

// Delete deletes what a tag or a digest of a repository leads to, or the whole
// repository for an empty reference, with all that nothing else refers to. A tag
// alone leaves what another tag leads to as well. What is pinned stays, and is
// [ErrPinned] where it is what was named. With dry, it says what it would do.
func (v *Inventory) Delete(ctx context.Context, repo oci.Repository, reference string, dry bool) (*Report, error) {
	v.changing.Lock()
	defer v.changing.Unlock()
	if err := v.resume(ctx); err != nil {
		return nil, err
	}
	p := newPlan(v)
	if err := v.choose(ctx, p, repo, reference); err != nil {
		return nil, err
	}
	return p.run(ctx, dry)
}

func (v *Inventory) choose(ctx context.Context, p *plan, repo oci.Repository, reference string) error {
	c, err := v.contents(ctx, repo)
	if err != nil {
		return err
	}
	if len(c.tags)+len(c.links) == 0 {
		return fmt.Errorf("%w: %s", ErrNotFound, repo)
	}
	if reference == "" {
		for _, t := range c.tags {
			c.dropTag(t, &p.report)
		}
		for d, l := range c.links {
			if oci.IsManifestType(l.MediaType) {
				c.drop[d] = true
			}
		}
		c.whole = true
		return p.add(ctx, c)
	}
	desc, err := v.resolve(ctx, repo, reference)
	if err != nil {
		return err
	}
	_, notTag := oci.ParseTag(reference)
	if c.pins[reference] || notTag != nil && c.pinned[desc.Digest] {
		return fmt.Errorf("%w: %s %s", ErrPinned, repo, reference)
	}
	others := false
	for _, t := range c.tags {
		switch {
		case t.Tag.String() == reference, notTag != nil && t.Manifest.Digest == desc.Digest:
			c.dropTag(t, &p.report)
		case t.Manifest.Digest == desc.Digest:
			others = true
		}
	}
	if !others {
		c.drop[desc.Digest] = true
		if notTag != nil {
			p.report.name(fmt.Sprintf("%s@%s", repo, desc.Digest))
		}
	}
	return p.add(ctx, c)
}

// contents are those of one repository.
type contents struct {
	repo  oci.Repository
	tags  []refs.TagRecord
	links map[oci.Digest]refs.LinkRecord
	// graphs are those of its manifests that are here.
	graphs map[oci.Digest]oci.Graph
	about  map[oci.Digest][]oci.Digest // manifests that are attached to one
	pins   map[string]bool             // references
	pinned map[oci.Digest]bool         // what they lead to

	gone  map[oci.Tag]bool
	drop  map[oci.Digest]bool // manifests that go
	whole bool                // everything goes that is not pinned
}

func (v *Inventory) contents(ctx context.Context, repo oci.Repository) (*contents, error) {
	c := &contents{
		repo: repo, links: make(map[oci.Digest]refs.LinkRecord), graphs: make(map[oci.Digest]oci.Graph), about: make(map[oci.Digest][]oci.Digest), pinned: make(map[oci.Digest]bool),
		gone: make(map[oci.Tag]bool), drop: make(map[oci.Digest]bool),
	}
	var err error
	if c.tags, err = v.tags(ctx, repo); err != nil {
		return nil, err
	}
	if err := v.links(ctx, repo, func(l refs.LinkRecord) { c.links[l.Digest] = l }); err != nil {
		return nil, err
	}
	if c.pins, err = v.pinned(ctx, repo); err != nil {
		return nil, err
	}
	for _, t := range c.tags { // of some that were evicted, nothing but the tag is left
		if _, linked := c.links[t.Manifest.Digest]; !linked {
			c.links[t.Manifest.Digest] = refs.LinkRecord{Descriptor: t.Manifest}
		}
		if c.pins[t.Tag.String()] {
			c.pinned[t.Manifest.Digest] = true
		}
	}
	for d, l := range c.links {
		if c.pins[d.String()] {
			c.pinned[d] = true
		}
		if !oci.IsManifestType(l.MediaType) {
			continue
		}
		_, g, err := v.graph(ctx, l.Descriptor)
		switch {
		case err == nil:
			c.graphs[d] = g
			if subject := g.Subject.Digest; !subject.IsZero() {
				c.about[subject] = append(c.about[subject], d)
			}
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
	}
	return c, nil
}

// dropTag has a tag go, unless it is pinned.
func (c *contents) dropTag(t refs.TagRecord, r *Report) {
	name := fmt.Sprintf("%s:%s", c.repo, t.Tag)
	if c.pins[t.Tag.String()] {
		r.Kept = append(r.Kept, name)
		return
	}
	c.gone[t.Tag] = true
	r.name(name)
}

// stays finds the digests that what stays refers to. Manifests go that are to, with
// those below them that nothing else leads to, and what is attached to those; not so
// what is pinned, and what a tag that stays leads to.
func (c *contents) stays() map[oci.Digest]bool {
	roots := make(map[oci.Digest]bool)
	for _, t := range c.tags {
		if !c.gone[t.Tag] {
			roots[t.Manifest.Digest] = true
		}
	}
	below := make(map[oci.Digest]bool) // manifests that another one leads to
	for _, g := range c.graphs {
		for _, m := range g.Manifests {
			below[m.Digest] = true
		}
	}
	for d := range c.graphs {
		if !c.drop[d] && !below[d] && !c.attached(d) {
			roots[d] = true
		}
	}
	for d := range c.pinned {
		roots[d] = true
	}
	kept := make(map[oci.Digest]bool)
	var keep func(d oci.Digest)
	keep = func(d oci.Digest) {
		if kept[d] {
			return
		}
		kept[d] = true
		g := c.graphs[d]
		for _, m := range g.Manifests {
			keep(m.Digest)
		}
		for _, b := range g.Blobs {
			kept[b.Digest] = true
		}
		for _, other := range c.about[d] { // signatures of what stays stay
			if !c.drop[other] {
				keep(other)
			}
		}
	}
	for d := range roots {
		keep(d)
	}
	return kept
}

// attached tells whether a manifest is about another one that is here.
func (c *contents) attached(d oci.Digest) bool {
	subject := c.graphs[d].Subject.Digest
	_, here := c.graphs[subject]
	return !subject.IsZero() && here
}

// A plan is what is to be deleted, of several repositories.
type plan struct {
	v      *Inventory
	report Report
	parts  []part
	leave  map[oci.Digest]bool // digests that repositories give up: true for manifests
}

// A part is what is to be deleted of one repository.
type part struct {
	repo  oci.Repository
	tags  []oci.Tag
	links []oci.Digest
	lists bool
}

func newPlan(v *Inventory) *plan {
	return &plan{v: v, leave: make(map[oci.Digest]bool), report: Report{Names: []string{}}}
}

// add takes in what is to go of a repository.
func (p *plan) add(_ context.Context, c *contents) error {
	kept := c.stays()
	one := part{repo: c.repo, lists: c.whole}
	for t := range c.gone {
		one.tags = append(one.tags, t)
	}
	going := make(map[oci.Digest]bool)
	var leave func(d oci.Digest)
	leave = func(d oci.Digest) {
		if kept[d] || going[d] {
			return
		}
		going[d] = true
		g := c.graphs[d]
		for _, m := range g.Manifests {
			leave(m.Digest)
		}
		for _, b := range g.Blobs {
			if !kept[b.Digest] {
				going[b.Digest] = true
			}
		}
		for _, other := range c.about[d] {
			leave(other)
		}
	}
	for d := range c.drop {
		leave(d)
	}
	if c.whole {
		for d := range c.links {
			if !kept[d] {
				going[d] = true
			}
		}
	}
	for d := range going {
		one.links = append(one.links, d)
		_, isManifest := c.graphs[d]
		p.leave[d] = p.leave[d] || isManifest
	}
	p.parts = append(p.parts, one)
	return nil
}

// run deletes: the names first, so that nobody is led to what leaves, and then the
// bytes that no repository is linked to any more. When ctx ends it begins no other
// repository, ends what it has begun, and returns the report of that with the error.
func (p *plan) run(ctx context.Context, dry bool) (*Report, error) {
	if !dry {
		p.v.note(p.leave)
	}
	rest := context.WithoutCancel(ctx) // what has lost its names goes
	giving := make(map[oci.Repository]map[oci.Digest]bool)
	var cut error
	for _, one := range p.parts {
		if cut = ctx.Err(); cut != nil {
			break
		}
		set := make(map[oci.Digest]bool)
		for _, d := range one.links {
			set[d] = true
		}
		giving[one.repo] = set
		p.report.Tags += len(one.tags)
		if dry {
			continue
		}
		if err := p.forget(rest, one); err != nil {
			return nil, err
		}
	}
	if cut != nil {
		p.cut(giving)
	}
	if !dry {
		if err := p.v.o.Refs.Flush(rest); err != nil {
			return nil, fmt.Errorf("inventory: %w", err)
		}
	}
	if err := p.removeUnnamed(rest, giving, dry); err != nil {
		return nil, err
	}
	if !dry {
		p.v.noted()
	}
	return &p.report, cut
}

// cut takes out what was not begun.
func (p *plan) cut(begun map[oci.Repository]map[oci.Digest]bool) {
	p.report.Names = []string{} // not all of them have gone
	for d := range p.leave {
		given := false
		for _, set := range begun {
			given = given || set[d]
		}
		if !given {
			delete(p.leave, d)
		}
	}
}

// removeUnnamed deletes the bytes that no repository is linked to, but for those that
// are being given up, and that are not pinned.
func (p *plan) removeUnnamed(ctx context.Context, giving map[oci.Repository]map[oci.Digest]bool, dry bool) error {
	if err := p.keepShared(ctx, giving); err != nil {
		return err
	}
	pins, err := p.v.pinnedDigests(ctx)
	if err != nil {
		return err
	}
	return p.removeAll(ctx, pins, dry)
}

func (p *plan) forget(ctx context.Context, one part) error {
	x := p.v.o.Refs
	for _, t := range one.tags {
		if err := x.DeleteTag(ctx, one.repo, t); err != nil {
			return fmt.Errorf("inventory: %w", err)
		}
	}
	if len(one.links) > 0 {
		if err := x.DeleteLinks(ctx, one.repo, one.links...); err != nil {
			return fmt.Errorf("inventory: %w", err)
		}
	}
	if !one.lists {
		return nil
	}
	if err := x.DeleteLists(ctx, one.repo); err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	return nil
}

// keepShared takes out of what leaves the disk what another repository is linked to.
func (p *plan) keepShared(ctx context.Context, giving map[oci.Repository]map[oci.Digest]bool) error {
	if len(p.leave) == 0 {
		return nil
	}
	return p.v.repositories(ctx, oci.Repository{}, func(repo oci.Repository) (bool, error) {
		given := giving[repo]
		return true, p.v.links(ctx, repo, func(l refs.LinkRecord) {
			if _, leaves := p.leave[l.Digest]; leaves && !given[l.Digest] {
				delete(p.leave, l.Digest)
			}
		})
	})
}

// A Selection is what to purge.
type Selection struct {
	Filter
	// Unused is for how long a manifest has not been used; 0 is any.
	Unused time.Duration
}

// Purge deletes the tags and images of the repositories that are selected and have
// not been used for as long, with all that nothing else refers to. With dry, it says
// what it would do. progress is called from time to time with how many repositories
// were looked at; nil for nobody.
func (v *Inventory) Purge(ctx context.Context, s Selection, dry bool, progress func(repositories int)) (*Report, error) {
	v.changing.Lock()
	defer v.changing.Unlock()
	if err := v.resume(ctx); err != nil {
		return nil, err
	}
	p := newPlan(v)
	before := time.Now().Add(-s.Unused)
	n := 0
	err := v.repositories(ctx, oci.Repository{}, func(repo oci.Repository) (bool, error) {
		if n++; progress != nil {
			progress(n)
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if !s.match(repo) {
			return true, nil
		}
		c, err := v.contents(ctx, repo)
		if err != nil {
			return false, err
		}
		if err := v.old(ctx, c, before, s.Unused, &p.report); err != nil {
			return false, err
		}
		if len(c.gone)+len(c.drop) == 0 && !c.whole {
			return true, nil
		}
		return true, p.add(ctx, c)
	})
	if err != nil {
		return nil, err
	}
	return p.run(ctx, dry)
}

// old chooses what has not been used. An index is as young as the youngest below it:
// clients that come with a digest do not ask for the index again.
func (v *Inventory) old(ctx context.Context, c *contents, before time.Time, unused time.Duration, r *Report) error {
	used := make(map[oci.Digest]time.Time)
	for d := range c.links {
		_, at, err := v.o.Blobs.Stat(ctx, d)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("inventory: %w", err)
		}
		used[d] = at // zero for what is not here
	}
	youngest := func(d oci.Digest) time.Time {
		at := used[d]
		for _, m := range c.graphs[d].Manifests {
			if used[m.Digest].After(at) {
				at = used[m.Digest]
			}
		}
		return at
	}
	isOld := func(d oci.Digest) bool { return unused <= 0 || !youngest(d).After(before) }
	young := false
	for _, t := range c.tags {
		if isOld(t.Manifest.Digest) {
			c.dropTag(t, r)
			continue
		}
		young = true
	}
	for d := range c.graphs {
		if isOld(d) {
			c.drop[d] = true
			continue
		}
		young = true
	}
	for _, t := range c.tags {
		if !c.gone[t.Tag] {
			delete(c.drop, t.Manifest.Digest)
		}
	}
	for _, l := range c.links {
		young = young || !isOld(l.Digest)
	}
	c.whole = !young && len(c.pinned) == 0
	return nil
}
