package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/store"
)

// An Explanation is what is here of an image, and what its next pull would meet.
type Explanation struct {
	At      time.Time `json:"at"`
	Offline bool      `json:"offline"`
	// Tag is nil for an image that is named by its digest.
	Tag *TagFacts `json:"tag,omitempty"`
	// Manifest is nil when it is not known which one is meant.
	Manifest *ManifestFacts `json:"manifest,omitempty"`
	// Platforms are those of an index, in its order; Blobs the config and layers of
	// the image of one platform. Both are empty when the manifest is not here.
	Platforms []PlatformFacts `json:"platforms,omitempty"`
	Blobs     []BlobFacts     `json:"blobs,omitempty"`
	// Refusal is what the upstream said a moment ago; nil when it is asked again.
	Refusal *RefusalFacts `json:"refusal,omitempty"`
	// Outage is there when the upstream gave no answer the last time.
	Outage *OutageFacts `json:"outage,omitempty"`
	// Scarce tells that little may still be asked of the upstream.
	Scarce bool `json:"scarce"`
	Next   Next `json:"next"`
}

// TagFacts are what is known of a tag.
type TagFacts struct {
	Tag        string     `json:"tag"`
	Known      bool       `json:"known"` // the rest has no meaning without
	Digest     oci.Digest `json:"digest,omitzero"`
	Checked    time.Time  `json:"checked,omitzero"`     // when an upstream last confirmed it
	FreshUntil time.Time  `json:"fresh_until,omitzero"` // zero for one that never moves
	StaleUntil time.Time  `json:"stale_until,omitzero"` // until when it may be served in place of no answer; zero is without end
	Immutable  bool       `json:"immutable"`
}

// ManifestFacts are what is known of a manifest.
type ManifestFacts struct {
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"media_type,omitempty"`
	Size      int64      `json:"size"`   // bytes; -1 when not known
	Linked    bool       `json:"linked"` // the repository was seen to hold it
	Here      bool       `json:"here"`
}

// PlatformFacts are what is here for one platform of an index.
type PlatformFacts struct {
	Platform string     `json:"platform"` // "linux/arm64/v8"; empty when the index does not say
	Digest   oci.Digest `json:"digest"`
	Here     bool       `json:"here"` // its manifest is; the rest is zero without
	Blobs    int        `json:"blobs"`
	Missing  int        `json:"missing"`       // of Blobs
	Bytes    int64      `json:"missing_bytes"` // of those
}

// BlobFacts are what is known of a config or layer.
type BlobFacts struct {
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"media_type,omitempty"`
	Size      int64      `json:"size"` // bytes; -1 when not known
	Here      bool       `json:"here"`
}

// RefusalFacts are an answer that is given again without asking.
type RefusalFacts struct {
	Code    oci.Code  `json:"code"`
	Message string    `json:"message"`
	Until   time.Time `json:"until"`
}

// OutageFacts are what is known of an upstream that gave no answer.
type OutageFacts struct {
	Reason   Reason    `json:"reason"`
	Failures int       `json:"failures"` // in a row
	Until    time.Time `json:"until"`    // until when it is left alone where there is an old answer
}

// Next is what the next pull would be, as far as it can be told without asking.
type Next struct {
	Result Outcome `json:"result"`
	Reason Cause   `json:"reason"`
}

// An Outcome is how a pull would end.
type Outcome string

// The outcomes.
const (
	NextHit         Outcome = "hit"         // from here, but for at most one HEAD
	NextMiss        Outcome = "miss"        // something is fetched
	NextStale       Outcome = "stale"       // from here, marked as old
	NextDenied      Outcome = "denied"      // refused
	NextUnknown     Outcome = "unknown"     // "there is no such image"
	NextUnavailable Outcome = "unavailable" // it cannot be had now
)

// A Cause is why.
type Cause string

// The causes.
const (
	CauseDigest       Cause = "digest"        // a digest does not change, and all is here
	CauseFresh        Cause = "fresh"         // the tag was confirmed of late
	CauseImmutable    Cause = "immutable"     // the tag never moves
	CauseExpired      Cause = "expired"       // the tag is asked for; it is a hit if it has not moved
	CauseNeverAsked   Cause = "never_asked"   // nobody has asked for it
	CauseManifestGone Cause = "manifest_gone" // the manifest is not here
	CauseBlobsMissing Cause = "blobs_missing" // the manifest is here, not all of its blobs are
	CauseOffline      Cause = "offline"       // nobody is asked
	CauseOutage       Cause = "outage"        // the upstream gave no answer a moment ago
	CauseBudget       Cause = "budget"        // little may still be asked
	CauseTooOld       Cause = "too_old"       // the upstream gave no answer, and what is here may not stand for one
	CauseRefused      Cause = "refused"       // the upstream has just said so
	CauseName         Cause = "name"          // the name is refused; said by who knows names
)

// Explain tells what is here of an image and what its next pull would meet. It
// asks no upstream, starts no fetch, and does not count as a use of the blobs.
func (c *Cache) Explain(ctx context.Context, ref oci.Reference) (Explanation, error) {
	repo, p := ref.Repository, c.o.Policy(ref.Repository)
	e := Explanation{At: time.Now(), Offline: c.o.Offline, Scarce: c.scarce(repo)}
	if o, ok := c.outages.of(repo.Registry()); ok {
		e.Outage = &OutageFacts{o.reason, o.failures, o.until}
	}
	asked := question{repo, askManifest, ref.Digest.String()}
	digest := ref.Digest
	if digest.IsZero() {
		asked = question{repo, askTag, ref.Tag.String()}
		var err error
		if e.Tag, err = c.explainTag(ctx, repo, ref.Tag, p); err != nil {
			return Explanation{}, err
		}
		digest = e.Tag.Digest
	}
	if r := c.missing.refusal(asked); r.err != nil {
		e.Refusal = &RefusalFacts{r.err.Code, r.err.Message, r.until}
	}
	if !digest.IsZero() {
		if err := c.explainManifest(ctx, repo, digest, &e); err != nil {
			return Explanation{}, err
		}
	}
	e.Next = e.next(p)
	return e, nil
}

func (c *Cache) explainTag(ctx context.Context, repo oci.Repository, tag oci.Tag, p Freshness) (*TagFacts, error) {
	f := &TagFacts{Tag: tag.String(), Immutable: p.immutable(tag)}
	e, err := c.o.Refs.Tag(ctx, repo, tag)
	if errors.Is(err, refs.ErrNotFound) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cache %s:%s: %w", repo, tag, err)
	}
	f.Known, f.Digest, f.Checked = true, e.Manifest.Digest, e.Checked
	if !f.Immutable {
		f.FreshUntil = e.Checked.Add(p.FreshFor)
	}
	if p.StaleIfError != Forever {
		f.StaleUntil = e.Checked.Add(p.StaleIfError)
	}
	return f, nil
}

// explainManifest fills in the manifest and what it names.
func (c *Cache) explainManifest(ctx context.Context, repo oci.Repository, d oci.Digest, e *Explanation) error {
	link, linked, err := c.linked(ctx, repo, d)
	if err != nil {
		return err
	}
	f := &ManifestFacts{Digest: d, MediaType: link.MediaType, Size: -1, Linked: linked}
	if linked {
		f.Size = link.Size
	}
	e.Manifest = f
	m, err := c.local(ctx, repo, d)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	f.Here, f.Size = true, m.Descriptor.Size
	g, err := m.Graph()
	if err != nil {
		return nil //nolint:nilerr // a manifest that nobody understands is passed on and has no parts
	}
	for _, child := range g.Manifests {
		e.Platforms = append(e.Platforms, c.explainPlatform(ctx, repo, child))
	}
	e.Blobs, err = c.explainBlobs(ctx, g.Blobs)
	return err
}

// explainPlatform tells what is here of a child of an index.
func (c *Cache) explainPlatform(ctx context.Context, repo oci.Repository, child oci.Descriptor) PlatformFacts {
	f := PlatformFacts{Digest: child.Digest}
	if p := child.Platform; p != nil {
		f.Platform = p.OS + "/" + p.Architecture
		if p.Variant != "" {
			f.Platform += "/" + p.Variant
		}
	}
	m, err := c.local(ctx, repo, child.Digest)
	if err != nil {
		return f
	}
	f.Here = true
	g, err := m.Graph()
	if err != nil {
		return f
	}
	blobs, err := c.explainBlobs(ctx, g.Blobs)
	if err != nil {
		return f
	}
	f.Blobs = len(blobs)
	for _, b := range blobs {
		if !b.Here {
			f.Missing++
			f.Bytes += max(b.Size, 0)
		}
	}
	return f
}

// A stater is a store that can be looked at without a use.
type stater interface {
	Stat(ctx context.Context, digest oci.Digest) (int64, error)
}

// explainBlobs looks for each blob once.
func (c *Cache) explainBlobs(ctx context.Context, blobs []oci.Descriptor) ([]BlobFacts, error) {
	var list []BlobFacts
	seen := make(map[oci.Digest]bool)
	for _, b := range blobs {
		if seen[b.Digest] {
			continue
		}
		seen[b.Digest] = true
		f := BlobFacts{Digest: b.Digest, MediaType: b.MediaType, Size: b.Size}
		size, err := c.stat(ctx, b.Digest)
		switch {
		case err == nil:
			f.Here, f.Size = true, size
		case !errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("cache %s: %w", b.Digest, err)
		}
		list = append(list, f)
	}
	return list, nil
}

func (c *Cache) stat(ctx context.Context, d oci.Digest) (int64, error) {
	if s, ok := c.o.Store.(stater); ok {
		return s.Stat(ctx, d)
	}
	b, err := c.o.Store.Open(ctx, d)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	return b.Size(), nil
}

// next tells what the next pull would meet, in the order in which it would.
func (e *Explanation) next(p Freshness) Next {
	n := e.nextManifest(p)
	if n.Result != NextHit && n.Result != NextStale || e.whole() {
		return n
	}
	if e.Offline {
		return Next{NextUnavailable, CauseOffline}
	}
	return Next{NextMiss, CauseBlobsMissing}
}

// nextManifest is next, but for the blobs.
func (e *Explanation) nextManifest(p Freshness) Next {
	here := e.Manifest != nil && e.Manifest.Here
	t := e.Tag
	switch {
	case t == nil && here:
		return Next{NextHit, CauseDigest}
	case t != nil && t.Known && t.Immutable && here:
		return Next{NextHit, CauseImmutable}
	case t != nil && t.Known && here && p.fresh(t.Checked):
		return Next{NextHit, CauseFresh}
	case e.Refusal != nil && (e.Refusal.Code == oci.CodeDenied || e.Refusal.Code == oci.CodeUnauthorized):
		return Next{NextDenied, CauseRefused}
	case e.Refusal != nil:
		return Next{NextUnknown, CauseRefused}
	case !here && e.Offline:
		return Next{NextUnavailable, CauseOffline}
	case t != nil && !t.Known:
		return Next{NextMiss, CauseNeverAsked}
	case !here && e.Manifest.Linked:
		return Next{NextMiss, CauseManifestGone}
	case !here:
		return Next{NextMiss, CauseNeverAsked}
	case e.Offline:
		return Next{NextStale, CauseOffline}
	case e.down() && !p.serves(t.Checked):
		return Next{NextUnavailable, CauseTooOld}
	case e.down() && e.Outage.Reason == ReasonBudget:
		return Next{NextStale, CauseBudget}
	case e.down():
		return Next{NextStale, CauseOutage}
	case e.Scarce && p.serves(t.Checked) && p.stretched(t.Checked):
		return Next{NextStale, CauseBudget}
	default:
		return Next{NextHit, CauseExpired}
	}
}

// down tells whether the upstream is left alone now.
func (e *Explanation) down() bool { return e.Outage != nil && e.At.Before(e.Outage.Until) }

// whole tells whether all blobs are here: of an index, those of a platform at
// least.
func (e *Explanation) whole() bool {
	for _, b := range e.Blobs {
		if !b.Here {
			return false
		}
	}
	for _, p := range e.Platforms {
		if p.Here && p.Missing == 0 {
			return true
		}
	}
	return len(e.Platforms) == 0
}
