package bolt

import (
	"bytes"
)

// A walk visits the records of an image in order and notes which pages it has
// seen.
type walk struct {
	*image
	seen []bool // by page
	// record is called with each record; its bytes are valid until it returns.
	record func(bucket string, name, value []byte) error
	// trouble is called with damage and decides: nil goes on behind it, in the
	// next page or the next entry.
	trouble func(bucket string, err error) error

	leaf []byte // the page under the cursor; branches have buffers of their own
}

// maxDepth bounds the way from a root to a leaf. A tree of bbolt has at least
// two entries in a page.
const maxDepth = 64

func newWalk(m *image) *walk { return &walk{image: m, seen: make([]bool, m.high)} }

// claim notes a page with its overflow. A page has one use.
func (w *walk) claim(id, pages uint64) error {
	for i := range pages {
		if w.seen[id+i] {
			return damaged("page %d is used twice", id+i)
		}
		w.seen[id+i] = true
	}
	return nil
}

// run visits all buckets.
func (w *walk) run() error {
	var buckets []element
	collect := func(e element) error {
		if !e.bucket {
			return damaged("%.40q is no bucket", e.key)
		}
		buckets = append(buckets, element{key: bytes.Clone(e.key), value: bytes.Clone(e.value)})
		return nil
	}
	if err := w.tree("", span{page: w.root}, 0, collect); err != nil {
		return err
	}
	for _, b := range buckets {
		if err := w.bucket(string(b.key), b.value); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) bucket(name string, value []byte) error {
	visit := func(e element) error {
		if e.bucket {
			return damaged("there is a bucket in %q", name)
		}
		return w.record(name, e.key, e.value)
	}
	root, inline, err := bucketRoot(value)
	switch {
	case err != nil:
		return w.trouble(name, err)
	case root == 0:
		return w.entries(name, inline, span{}, visit)
	}
	return w.tree(name, span{page: root}, 0, visit)
}

// A span is a page and the keys that it may have: from low, below limit. Nil is
// no bound.
type span struct {
	page       uint64
	low, limit []byte
}

// tree visits the entries of the leaves below a page.
func (w *walk) tree(bucket string, s span, depth int, visit func(element) error) error {
	children, err := w.open(bucket, s, depth, visit)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := w.tree(bucket, c, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// open visits a leaf, or returns the children of a branch.
func (w *walk) open(bucket string, s span, depth int, visit func(element) error) ([]span, error) {
	p, err := w.page(s.page, &w.leaf)
	if err == nil {
		err = w.claim(p.id, p.overflow+1)
	}
	if err == nil && depth > maxDepth {
		err = damaged("page %d is too deep", p.id)
	}
	if err != nil {
		return nil, w.trouble(bucket, err)
	}
	switch p.flags {
	case pageLeaf:
		return nil, w.entries(bucket, p, s, visit)
	case pageBranch:
		return w.children(bucket, p, s)
	}
	return nil, w.trouble(bucket, damaged("page %d is of kind %#x", p.id, p.flags))
}

func (w *walk) children(bucket string, p page, s span) ([]span, error) {
	if p.count == 0 {
		return nil, w.trouble(bucket, damaged("page %d is an empty branch", p.id))
	}
	children := make([]span, 0, p.count)
	var last []byte
	for i := range p.count {
		e, err := p.element(i)
		if err == nil && (!inOrder(last, e.key, s.limit) || bytes.Compare(e.key, s.low) < 0) {
			err = damaged("page %d: entry %d is out of order", p.id, i)
		}
		if err != nil {
			if err := w.trouble(bucket, err); err != nil {
				return nil, err
			}
			continue
		}
		last = bytes.Clone(e.key) // the page's buffer is used again
		children = append(children, span{page: e.child, low: last})
	}
	for i := range children {
		children[i].limit = s.limit
		if i+1 < len(children) {
			children[i].limit = children[i+1].low
		}
	}
	return children, nil
}

// entries visits a leaf.
func (w *walk) entries(bucket string, p page, s span, visit func(element) error) error {
	var last []byte
	for i := range p.count {
		e, err := p.element(i)
		if err == nil && (!inOrder(last, e.key, s.limit) || bytes.Compare(e.key, s.low) < 0) {
			err = damaged("page %d: entry %d is out of order", p.id, i)
		}
		if err == nil {
			last = e.key
			err = visit(e)
		}
		if err != nil {
			if err := w.trouble(bucket, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// check reads the whole file once. Damage to its structure is an error; records
// whose checksum differs are counted.
func (m *image) check() (lost int, err error) {
	w := newWalk(m)
	w.trouble = func(_ string, err error) error { return err }
	version := ""
	w.record = func(bucket string, name, value []byte) error {
		if bucket == bucketMeta {
			if string(name) == metaVersion {
				version = string(value)
			}
			return nil
		}
		if _, err := unseal(key{bucket, string(name)}, value); err != nil {
			lost++
		}
		return nil
	}
	if err := w.run(); err != nil {
		return 0, err
	}
	switch version {
	case formatVersion:
		return lost, w.account()
	case "":
		return 0, damaged("its version is missing")
	}
	return 0, errVersion(version)
}

// account tells whether every page has its use: a structure that fits together
// may still write over live pages when a wrong one is said to be free.
func (w *walk) account() error {
	ids, self, err := w.free()
	if err != nil {
		return err
	}
	if err := w.claim(w.freelist, self); err != nil {
		return err
	}
	for _, id := range ids {
		if err := w.claim(id, 1); err != nil {
			return err
		}
	}
	for id := uint64(2); id < w.high; id++ {
		if !w.seen[id] {
			return damaged("page %d has no use", id)
		}
	}
	return nil
}
