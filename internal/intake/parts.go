package intake

import (
	"sync"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// maxParts bounds how many parts are remembered.
const maxParts = 1000

// parts remember which repository has brought the beginning of a blob that is here in
// part. Of a private blob nobody else goes on with it: the end of a blob and its digest are
// less than the blob. It is not remembered across a restart, after which such a blob is
// begun anew. The zero value is ready.
type parts struct {
	mu sync.Mutex
	of map[oci.Digest]part
}

// A part is the first bytes of a blob.
type part struct {
	repo oci.Repository
	size int64
}

// note remembers that size bytes of a blob are here, all of which a repository has brought
// or could go on with; 0 is none.
func (p *parts) note(repo oci.Repository, d oci.Digest, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, d)
	if size == 0 {
		return
	}
	if p.of == nil {
		p.of = make(map[oci.Digest]part)
	}
	for other := range p.of { // any one
		if len(p.of) < maxParts {
			break
		}
		delete(p.of, other)
	}
	p.of[d] = part{repo, size}
}

// own tells whether what is here of a blob is what a repository has left, and nothing else.
func (p *parts) own(repo oci.Repository, d oci.Digest, in store.Ingest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := in.Have()
	return p.of[d] == part{repo, have.Total()} && have.EndOf(0) == have.Total()
}
