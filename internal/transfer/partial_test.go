package transfer

import (
	"context"
	"errors"
	"slices"
	"testing"

	"sampan/internal/oci"
)

// A bundle names two layers and holds one; the other, and the config, come and go.
type bundle struct {
	*shelf
	whole        *shelf // what the bundle leaves out is here
	root         oci.Descriptor
	held, lacked oci.Descriptor
}

func newBundle() bundle {
	s := newShelf()
	held, lacked := s.layer("held"), s.layer("lacked")
	b := bundle{shelf: s, whole: newShelf(), root: s.image("c", held, lacked), held: held, lacked: lacked}
	b.whole.content[lacked.Digest] = s.content[lacked.Digest]
	s.without(lacked.Digest)
	return b
}

func (b bundle) job(t *testing.T, target string) Job {
	t.Helper()
	job := jobOf(t, b.shelf, b.root, target)
	job.Partial = true
	return job
}

func TestWhatABundleLeavesOutIsTakenFromTheTarget(t *testing.T) {
	for fact, c := range map[string]struct {
		there   string   // repository that has the blob
		hints   []string // for it
		targets []string
		noMount bool

		mounts  int
		sent    int // blobs
		present int
	}{
		"it is where it should be":                       {there: "a", targets: []string{"a:1"}, sent: 2, present: 1},
		"… and nothing is mounted where mounts fail":     {there: "a", targets: []string{"a:1"}, noMount: true, sent: 2, present: 1},
		"it is where a hint says":                        {there: "before", hints: []string{"before"}, targets: []string{"a:1"}, mounts: 1, sent: 2, present: 1},
		"it is where the second hint says":               {there: "before", hints: []string{"nowhere", "before"}, targets: []string{"a:1"}, mounts: 1, sent: 2, present: 1},
		"it is where another image goes":                 {there: "a", targets: []string{"a:1", "b:1"}, mounts: 3, sent: 2, present: 4},
		"… whichever of the two comes first":             {there: "b", targets: []string{"a:1", "b:1"}, mounts: 3, sent: 2, present: 4},
		"it is where a hint says, for two images":        {there: "before", hints: []string{"before"}, targets: []string{"a:1", "b:1"}, mounts: 4, sent: 2, present: 4},
		"it is in another repository that lends nothing": {there: "before", hints: []string{"before"}, targets: []string{"a:1"}, noMount: true, sent: 3},
	} {
		t.Run(fact, func(t *testing.T) {
			b, p := newBundle(), newPier()
			p.noMount = c.noMount
			p.put(b.whole, repository(t, c.there), b.lacked)
			o := Options{Images: 1, Hints: map[oci.Digest][]oci.Repository{}}
			for _, hint := range c.hints {
				o.Hints[b.lacked.Digest] = append(o.Hints[b.lacked.Digest], repository(t, hint))
			}
			var jobs []Job
			for _, target := range c.targets {
				jobs = append(jobs, b.job(t, target))
			}
			report, err := run(t, readablePier{p}, o, jobs...)
			if err != nil {
				t.Fatal(err)
			}
			for _, target := range c.targets {
				if p.tags[target].Digest != b.root.Digest {
					t.Errorf("%s is %v", target, p.tags[target])
				}
			}
			if n := p.stored("mount"); n != c.mounts {
				t.Errorf("%d mounts, want %d: %q", n, c.mounts, p.log)
			}
			if report.Sent.Blobs != c.sent || report.Present.Blobs != c.present {
				t.Errorf("%+v were sent, %+v present", report.Sent, report.Present)
			}
			if n := p.asks(repository(t, c.there), b.lacked.Digest); n != 1 {
				t.Errorf("where it is was asked %d times", n)
			}
		})
	}
}

func TestWhatNobodyHasIsToldBeforeAnythingIsSent(t *testing.T) {
	for fact, c := range map[string]struct {
		hint  string
		there string // another digest is there
	}{
		"there is no hint":                   {},
		"the hint is wrong":                  {hint: "before"},
		"a repository that nobody named":     {there: "unheard-of"},
		"the hint is for another, and wrong": {hint: "before", there: "unheard-of"},
	} {
		t.Run(fact, func(t *testing.T) {
			b, p := newBundle(), newPier()
			config := oci.DigestOf([]byte(`{"c":1}`))
			b.without(config)
			var o Options
			if c.hint != "" {
				o.Hints = map[oci.Digest][]oci.Repository{b.lacked.Digest: {repository(t, c.hint)}}
			}
			if c.there != "" {
				p.put(b.whole, repository(t, c.there), b.lacked)
			}
			report, err := run(t, readablePier{p}, o, b.job(t, "a:1"))
			var lacks *Lacks
			if !errors.As(err, &lacks) || !slices.Equal(lacks.Digests, []oci.Digest{config, b.lacked.Digest}) {
				t.Errorf("got %v", err)
			}
			if report.Images[0].Err == nil || p.stored("") != 0 || b.reads() != 0 {
				t.Errorf("%+v: stored %q, %d reads", report.Images[0], p.log, b.reads())
			}
			p.put(b.whole, repository(t, "a"), b.lacked) // it was loaded before
			p.content[at(repository(t, "a"), config)] = `{"c":1}`
			if _, err := run(t, p, o, b.job(t, "a:1")); err != nil || p.tags["a:1"].Digest != b.root.Digest {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestABundleKeepsNoOtherImageFromGoingOnlyWhereThatIsWanted(t *testing.T) {
	for _, keep := range []bool{false, true} {
		b, p, s := newBundle(), newPier(), newShelf()
		whole := s.image("other", s.layer("layer"))
		_, err := run(t, p, Options{KeepGoing: keep}, b.job(t, "a:1"), jobOf(t, s, whole, "b:1"))
		if !errors.As(err, new(*Lacks)) {
			t.Errorf("got %v", err)
		}
		if arrived := p.tags["b:1"].Digest == whole.Digest; arrived != keep {
			t.Errorf("with KeepGoing %v the other image is there: %v", keep, arrived)
		}
		if _, there := p.tags["a:1"]; there {
			t.Error("the tag of the bundle is there")
		}
	}
}

// A source that does not say that it is partial is trusted, and not asked for each blob.
func TestAWholeSourceIsNotAskedForItsBlobs(t *testing.T) {
	b, p := newBundle(), newPier()
	p.put(b.whole, repository(t, "before"), b.lacked)
	job := b.job(t, "a:1")
	job.Partial = false
	_, err := run(t, readablePier{p}, Options{Hints: map[oci.Digest][]oci.Repository{b.lacked.Digest: {repository(t, "before")}}}, job)
	if oci.CodeOf(err) != oci.CodeBlobUnknown {
		t.Errorf("got %v", err)
	}
	if _, there := p.tags["a:1"]; there {
		t.Error("there is a tag")
	}
}

// A target that has a blob, does not mount it and cannot be read is as good as none.
func TestABlobThatCannotBeTakenIsLacking(t *testing.T) {
	b, p := newBundle(), newPier()
	p.noMount = true
	p.put(b.whole, repository(t, "before"), b.lacked)
	_, err := run(t, p, Options{Hints: map[oci.Digest][]oci.Repository{b.lacked.Digest: {repository(t, "before")}}}, b.job(t, "a:1"))
	if !errors.As(err, new(*Lacks)) {
		t.Errorf("got %v", err)
	}
	if _, there := p.tags["a:1"]; there {
		t.Error("there is a tag")
	}
}

func TestADryRunOfABundle(t *testing.T) {
	b, p := newBundle(), newPier()
	if _, err := run(t, p, Options{DryRun: true}, b.job(t, "a:1")); !errors.As(err, new(*Lacks)) {
		t.Errorf("got %v", err)
	}
	p.put(b.whole, repository(t, "before"), b.lacked)
	report, err := run(t, p, Options{DryRun: true, Hints: map[oci.Digest][]oci.Repository{b.lacked.Digest: {repository(t, "before")}}}, b.job(t, "a:1"))
	if err != nil || report.Sent.Blobs != 2 || report.Present != (Count{Blobs: 1, Bytes: layerSize}) || p.stored("") != 0 {
		t.Errorf("%v: %+v, stored %q", err, report, p.log)
	}
}

func TestAPartOfAnIndexIsCompletedByTheTarget(t *testing.T) {
	for _, referrers := range []bool{false, true} {
		s, p := newShelf(), newPier()
		here, gone := s.image("here", s.layer("one")), s.image("gone", s.layer("two"))
		root := s.index(map[string]oci.Descriptor{"amd64": here, "arm64": gone})
		whole := jobOf(t, s, gone, "a")
		if _, err := run(t, p, Options{}, whole); err != nil {
			t.Fatal(err)
		}
		s.without(gone.Digest)
		job := jobOf(t, s, root, "a:1")
		job.Partial, job.Referrers = true, referrers
		if _, err := run(t, p, Options{}, job); err != nil || p.tags["a:1"].Digest != root.Digest {
			t.Errorf("%v: %q", err, p.log)
		}
		empty := newPier()
		_, err := run(t, empty, Options{}, job)
		var sparse *Sparse
		if !errors.As(err, &sparse) || sparse.List() != "linux/amd64" || empty.stored("") != 0 {
			t.Errorf("without it at the target: %v, stored %q", err, empty.log)
		}
		job.Platforms = sparse.There
		if _, err := run(t, empty, Options{}, job); err != nil || empty.tags["a:1"].Digest != here.Digest {
			t.Errorf("the part that is there: %v, the tag is %v", err, empty.tags["a:1"])
		}
		job.Platforms = []Platform{{OS: "linux", Architecture: "arm64"}}
		if _, err := run(t, newPier(), Options{}, job); !errors.As(err, new(*Sparse)) {
			t.Errorf("the part that is not there: %v", err)
		}
	}
}

// A layer that nobody distributes is in no archive, and is not looked for.
func TestWhatIsNotDistributedIsNotLacking(t *testing.T) {
	s, p := newShelf(), newPier()
	foreign := s.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "windows")
	foreign.URLs = []string{"https://example.com/layer"}
	root := s.image("c", foreign)
	s.without(foreign.Digest)
	job := jobOf(t, s, root, "a:1")
	job.Partial = true
	if _, err := run(t, p, Options{}, job); err != nil || p.tags["a:1"].Digest != root.Digest {
		t.Error(err)
	}
	if n := p.asks(repository(t, "a"), foreign.Digest); n != 0 {
		t.Errorf("the target was asked %d times", n)
	}
}

func TestATargetThatDoesNotAnswerAboutABundleIsTold(t *testing.T) {
	b, p := newBundle(), newPier()
	p.before = func(_ context.Context, step string, d oci.Descriptor) error {
		if step == "has" && d.Digest == b.lacked.Digest {
			return oci.ErrDenied
		}
		return nil
	}
	if _, err := run(t, p, Options{}, b.job(t, "a:1")); oci.CodeOf(err) != oci.CodeDenied || p.stored("") != 0 {
		t.Errorf("got %v, stored %q", err, p.log)
	}
}

func TestLacksTellsHowMany(t *testing.T) {
	one, two := oci.DigestOf([]byte("1")), oci.DigestOf([]byte("2"))
	for want, digests := range map[string][]oci.Digest{
		"the source lacks " + one.String() + ", which the target does not have either":             {one},
		"the source lacks " + one.String() + ", which the target does not have either, and 1 more": {one, two},
	} {
		if got := (&Lacks{Digests: digests}).Error(); got != want {
			t.Errorf("got %q", got)
		}
	}
}
