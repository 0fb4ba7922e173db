package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sampan/internal/oci"
)

// twoPlatforms is an index of two images that share a layer: three blobs and a config
// of each, five in all.
func twoPlatforms(s *shelf) oci.Descriptor {
	shared := s.layer("shared")
	return s.index(map[string]oci.Descriptor{"amd64": s.image("amd64", shared, s.layer("x")), "arm64": s.image("arm64", shared, s.layer("y"))})
}

func TestBlobsGoBeforeManifestsAndTheseBeforeTags(t *testing.T) {
	s, p := newShelf(), newPier()
	root := twoPlatforms(s)
	report, err := run(t, p, Options{}, jobOf(t, s, root, "a:1"))
	if err != nil {
		t.Fatal(err)
	}
	// The pier refuses what comes too early. What it has taken is each thing once.
	if last := p.log[len(p.log)-2:]; !slices.Equal(last, []string{"manifest " + at(repository(t, "a"), root.Digest), "tag a:1"}) {
		t.Errorf("it ends with %q", last)
	}
	if len(p.log) != 5+3+1 || len(slices.Compact(slices.Sorted(slices.Values(p.log)))) != len(p.log) {
		t.Errorf("stored: %q", p.log)
	}
	for digest, content := range s.content {
		if p.content[at(repository(t, "a"), digest)] != content {
			t.Errorf("%s is something else", digest)
		}
	}
	if r := report.Images[0]; r.Descriptor.Digest != root.Digest || r.Descriptor.MediaType != oci.MediaTypeImageIndex || r.Manifests != 3 || r.Unchanged {
		t.Errorf("it is told as %+v", r)
	}
}

func TestABlobIsReadOnceForAllRepositories(t *testing.T) {
	s, p := newShelf(), newPier()
	root := twoPlatforms(s)
	report, err := run(t, p, Options{}, jobOf(t, s, root, "a:1"), jobOf(t, s, root, "b:1"), jobOf(t, s, root, "c/d:1"))
	if err != nil {
		t.Fatal(err)
	}
	for digest, n := range s.opened {
		if n != 1 {
			t.Errorf("%s was read %d times", digest, n)
		}
	}
	if len(s.opened) != 5 || report.Sent.Blobs != 5 || report.Present.Blobs != 10 || p.stored("mount") != 10 {
		t.Errorf("%d read, %+v sent, %+v present, %d mounted", len(s.opened), report.Sent, report.Present, p.stored("mount"))
	}
}

func TestWhatTheTargetHasIsNotRead(t *testing.T) {
	s, p := newShelf(), newPier()
	layer := s.layer("layer")
	root := s.image("c", layer)
	p.put(s, repository(t, "a"), layer)
	report, err := run(t, p, Options{}, jobOf(t, s, root, "a:1"))
	if err != nil || s.opened[layer.Digest] != 0 || report.Present != (Count{1, layerSize}) || report.Sent.Blobs != 1 {
		t.Errorf("%v: read %d times, %+v present, %+v sent", err, s.opened[layer.Digest], report.Present, report.Sent)
	}
	reads := s.reads()
	p.log, p.asked = nil, nil
	report, err = run(t, p, Options{}, jobOf(t, s, root, "a:1"))
	if err != nil || !report.Images[0].Unchanged || s.reads() != reads || len(p.log) != 0 || len(p.asked) != 0 {
		t.Errorf("again: %v, %+v; stored %q, asked %q", err, report.Images[0], p.log, p.asked)
	}
	// A tag more is a tag, and no blob.
	if _, err := run(t, p, Options{}, jobOf(t, s, root, "a:2")); err != nil || s.reads() != reads || p.tags["a:2"].Digest != root.Digest {
		t.Errorf("another tag: %v, stored %q", err, p.log)
	}
}

func TestTwoSourcesOnOneName(t *testing.T) {
	s := newShelf()
	one, two := s.image("1", s.layer("one")), s.image("2", s.layer("two"))
	s.tags["1"], s.tags["same"], s.tags["other"] = one, one, two
	tagged := func(name, target string) Job {
		job := jobOf(t, s, one, target)
		job.Source.Digest, job.Source.Tag = oci.Digest{}, tag(t, name)
		return job
	}
	elsewhere := tagged("1", "a:x")
	ref, err := oci.ParseReference("source.example/elsewhere:1")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Source = ref
	narrow := tagged("1", "a:x")
	narrow.Platforms = []Platform{{OS: "linux", Architecture: "amd64"}}
	for fact, c := range map[string]struct {
		jobs    []Job
		collide bool
	}{
		"two digests":                             {[]Job{jobOf(t, s, one, "a:x"), jobOf(t, s, two, "a:x")}, true},
		"two tags of different images":            {[]Job{tagged("1", "a:x"), tagged("other", "a:x")}, true},
		"two repositories":                        {[]Job{tagged("1", "a:x"), elsewhere}, true},
		"two choices of platforms":                {[]Job{tagged("1", "a:x"), narrow}, true},
		"the same twice is one":                   {[]Job{tagged("1", "a:x"), tagged("1", "a:x")}, false},
		"two tags of the same image are one":      {[]Job{tagged("1", "a:x"), tagged("same", "a:x")}, false},
		"two tags at the target":                  {[]Job{tagged("1", "a:x"), tagged("other", "a:y")}, false},
		"two repositories at the target":          {[]Job{tagged("1", "a:x"), tagged("other", "b:x")}, false},
		"digests need no names of their own":      {[]Job{jobOf(t, s, one, "a"), jobOf(t, s, two, "a")}, false},
		"KeepGoing does not choose among the two": {[]Job{jobOf(t, s, one, "a:x"), jobOf(t, s, two, "a:x")}, true},
	} {
		t.Run(fact, func(t *testing.T) {
			p := newPier()
			report, err := run(t, p, Options{KeepGoing: strings.HasPrefix(fact, "KeepGoing")}, c.jobs...)
			var collision *Collision
			if errors.As(err, &collision) != c.collide {
				t.Errorf("got %v", err)
			}
			if c.collide && (p.stored("") != 0 || collision.Target.String() != "target.example/a:x" || collision.Sources != [2]oci.Reference{c.jobs[0].Source, c.jobs[1].Source}) {
				t.Errorf("stored %q, told %+v", p.log, collision)
			}
			if !c.collide && err != nil || len(report.Images) != len(c.jobs) {
				t.Errorf("%v, %d results", err, len(report.Images))
			}
		})
	}
}

func TestWhatOneFailureStops(t *testing.T) {
	for fact, c := range map[string]struct {
		keep    bool
		missing bool // one source is not there; else one blob cannot be put
		goes    bool // the other image arrives
	}{
		"a source that is not there stops all":                {missing: true},
		"… where others are not to keep going":                {missing: true, keep: true, goes: true},
		"a blob that cannot be put stops its own image alone": {goes: true},
		"… in any case": {keep: true, goes: true},
	} {
		t.Run(fact, func(t *testing.T) {
			s, p := newShelf(), newPier()
			bad := s.layer("bad")
			one, two := s.image("1", bad, s.layer("good")), s.image("2", s.layer("else"))
			if c.missing {
				s.without(one.Digest)
			}
			p.before = func(_ context.Context, step string, d oci.Descriptor) error {
				if step == "put blob" && d.Digest == bad.Digest {
					return oci.Errorf(oci.CodeDenied, "no room")
				}
				return nil
			}
			report, err := run(t, p, Options{KeepGoing: c.keep}, jobOf(t, s, one, "a:1"), jobOf(t, s, two, "b:1"))
			if err == nil || !strings.HasPrefix(err.Error(), "copy source.example/app@"+one.Digest.String()+": ") {
				t.Errorf("got %v", err)
			}
			// What was not sent is no success, and no error of its own either.
			if other := report.Images[1].Err; report.Images[0].Err == nil || errors.Is(other, ErrHeldBack) == c.goes || c.goes && other != nil || errors.Is(err, ErrHeldBack) {
				t.Errorf("results: %v, %v", report.Images[0].Err, other)
			}
			if _, tagged := p.tags["a:1"]; tagged {
				t.Error("what failed has a tag")
			}
			if p.tags["b:1"].Digest == two.Digest != c.goes || !c.goes && p.stored("") != 0 {
				t.Errorf("stored %q", p.log)
			}
			// What else the failed image has need not be sent again.
			if !c.missing && p.content[at(repository(t, "a"), s.layer("good").Digest)] == "" {
				t.Error("its other layer was not put")
			}
		})
	}
}

func TestADryRunCountsAndSendsNothing(t *testing.T) {
	s, p := newShelf(), newPier()
	root := twoPlatforms(s)
	p.put(s, repository(t, "a"), s.layer("shared"))
	jobs := []Job{jobOf(t, s, root, "a:1"), jobOf(t, s, root, "b:1")}
	dry, err := run(t, p, Options{DryRun: true, Images: 1}, jobs...)
	if err != nil || p.stored("") != 0 || s.reads() != 0 {
		t.Fatalf("%v: stored %q, %d read", err, p.log, s.reads())
	}
	wet, err := run(t, p, Options{Images: 1}, jobs...)
	if err != nil || dry.Sent != wet.Sent || dry.Present != wet.Present {
		t.Errorf("%v: the dry run said %+v and %+v, it was %+v and %+v", err, dry.Sent, dry.Present, wet.Sent, wet.Present)
	}
	for i := range jobs {
		if dry.Images[i].Manifests != wet.Images[i].Manifests || dry.Images[i].Descriptor.Digest != root.Digest {
			t.Errorf("the dry run told of %+v, it was %+v", dry.Images[i], wet.Images[i])
		}
	}
}

func TestPlatformsThatAreLeftOut(t *testing.T) {
	s := newShelf()
	children := map[string]oci.Descriptor{"amd64": s.image("amd64", s.layer("x")), "arm64": s.image("arm64", s.layer("y")), "s390x": s.image("s390x", s.layer("z"))}
	root := s.index(children)
	linux := func(architecture string) Platform { return Platform{OS: "linux", Architecture: architecture} }
	for fact, c := range map[string]struct {
		platforms []Platform
		becomes   oci.Descriptor
		there     []string
	}{
		"one stands for the index":      {[]Platform{linux("arm64")}, children["arm64"], []string{"arm64"}},
		"several leave the others out":  {[]Platform{linux("amd64"), linux("s390x")}, root, []string{"amd64", "s390x"}},
		"none means all":                {nil, root, []string{"amd64", "arm64", "s390x"}},
		"one that is asked for twice":   {[]Platform{linux("arm64"), linux("arm64")}, root, []string{"arm64"}},
		"one that is not there is told": {[]Platform{linux("amd64"), linux("riscv64")}, oci.Descriptor{}, nil},
	} {
		t.Run(fact, func(t *testing.T) {
			p := newPier()
			p.sparse = true
			job := jobOf(t, s, root, "a:1")
			job.Platforms = c.platforms
			_, err := run(t, p, Options{}, job)
			var none *NoPlatform
			if errors.As(err, &none) != (c.there == nil) || p.tags["a:1"].Digest != c.becomes.Digest {
				t.Errorf("%v; the tag is %v", err, p.tags["a:1"])
			}
			if none != nil && none.List() != "linux/amd64, linux/arm64, linux/s390x" {
				t.Errorf("it tells of %s", none.List())
			}
			for architecture, child := range children {
				if _, here := p.content[at(repository(t, "a"), child.Digest)]; here != slices.Contains(c.there, architecture) {
					t.Errorf("%s is there: %v", architecture, here)
				}
			}
		})
	}
}

func TestACopyThatIsCancelledPublishesNothingAndIsFinished(t *testing.T) {
	for cut := 0; ; cut++ {
		s, p := newShelf(), newPier()
		root := twoPlatforms(s)
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		p.before = func(context.Context, string, oci.Descriptor) error {
			if n.Add(1) > int64(cut) {
				cancel()
			}
			return nil
		}
		_, err := Copy(ctx, []Job{jobOf(t, s, root, "a:1")}, p, Options{Blobs: 1, Images: 1, Pause: never})
		cancel()
		if err == nil {
			if cut < 5+3 {
				t.Errorf("there were only %d steps", cut)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at step %d: %v", cut, err)
		}
		if _, tagged := p.tags["a:1"]; tagged {
			t.Errorf("at step %d there is a tag", cut)
		}
		p.before = nil
		before := p.stored("blob")
		if report, err := run(t, p, Options{}, jobOf(t, s, root, "a:1")); err != nil || p.tags["a:1"].Digest != root.Digest || report.Sent.Blobs != 5-before {
			t.Errorf("after step %d: %v, %+v sent where %d were there", cut, err, report.Sent, before)
		}
	}
}

// A person has ended it once, and reads that once, however much was on its way.
func TestTheEndOfTheContextIsToldOnce(t *testing.T) {
	for _, cut := range []string{"has", "put blob", "put manifest"} {
		s, p := newShelf(), newPier()
		ctx, cancel := context.WithCancel(t.Context())
		p.before = func(_ context.Context, step string, _ oci.Descriptor) error {
			if step == cut {
				cancel()
			}
			return nil
		}
		var jobs []Job
		for i := range 5 {
			name := fmt.Sprint(i)
			jobs = append(jobs, jobOf(t, s, s.image(name, s.layer("a"+name), s.layer("b"+name), s.layer("shared")), "a"+name+":1"))
		}
		report, err := Copy(ctx, jobs, p, Options{Pause: never})
		cancel()
		if !errors.Is(err, context.Canceled) || err.Error() != context.Canceled.Error() {
			t.Errorf("at %q: %v", cut, err)
		}
		for i, r := range report.Images {
			if _, tagged := p.tags[fmt.Sprintf("a%d:1", i)]; tagged != (r.Err == nil) {
				t.Errorf("at %q image %d has a tag: %v, result %v", cut, i, tagged, r.Err)
			}
		}
	}
}

// A silentPier does not answer what should be known of some repositories.
type silentPier struct {
	*pier
	silent map[string]int // questions without an answer, by path
}

func (p silentPier) Notes(_ context.Context, repo oci.Repository, _ bool) ([]Note, error) {
	if p.silent[repo.Path()] > 0 {
		p.silent[repo.Path()]--
		return nil, errors.New("broken off")
	}
	return nil, nil
}

func TestATargetThatDoesNotAnswerWhatIsToBeKnown(t *testing.T) {
	for fact, c := range map[string]struct {
		silent int
		keep   bool
		goes   string // which of the images arrive
	}{
		"is asked again": {silent: 1, goes: "a b"},
		"stops all":      {silent: 100},
		"stops what goes there, where others are to keep going": {silent: 100, keep: true, goes: "b"},
	} {
		t.Run(fact, func(t *testing.T) {
			s, p := newShelf(), silentPier{newPier(), map[string]int{"a": c.silent}}
			report, err := run(t, p, Options{KeepGoing: c.keep, Pause: fourTimes},
				jobOf(t, s, s.image("1", s.layer("one")), "a:1"), jobOf(t, s, s.image("2", s.layer("two")), "b:1"))
			for i, name := range []string{"a", "b"} {
				_, tagged := p.tags[name+":1"]
				if want := strings.Contains(c.goes, name); tagged != want || (report.Images[i].Err == nil) != want {
					t.Errorf("%s has a tag: %v; its result is %v", name, tagged, report.Images[i].Err)
				}
			}
			if (err == nil) != (c.goes == "a b") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A sign of life is an error of who is there.
type signOfLife struct{}

func (signOfLife) Error() string  { return "status 500" }
func (signOfLife) Answered() bool { return true }

// Who is there is asked as patiently as it is sent to; a host that gives no sign of life may
// be a mistyped one.
func TestHowOftenATargetIsAsked(t *testing.T) {
	silence := errors.New("nobody is there")
	for fact, c := range map[string]struct {
		fails int // of the questions for each manifest and blob
		first bool
		err   error
		asked int // until it has failed; 0 where it arrives
	}{
		"somebody fails and gets better":            {fails: 4, first: true, err: signOfLife{}},
		"somebody fails":                            {fails: 100, first: true, err: signOfLife{}, asked: 5},
		"nobody is there":                           {fails: 100, first: true, err: silence, asked: 3},
		"somebody was there and comes back":         {fails: 4, err: silence},
		"somebody was there and does not come back": {fails: 100, err: silence, asked: 5},
	} {
		t.Run(fact, func(t *testing.T) {
			s, p := newShelf(), newPier()
			root := s.image("1", s.layer("one"))
			asked := map[oci.Digest]int{}
			var mu sync.Mutex
			p.before = func(_ context.Context, step string, d oci.Descriptor) error {
				mu.Lock()
				defer mu.Unlock()
				if step != "has" || !c.first && d.Digest == root.Digest {
					return nil
				}
				if asked[d.Digest]++; asked[d.Digest] <= c.fails {
					return c.err
				}
				return nil
			}
			_, err := run(t, p, Options{Pause: fourTimes}, jobOf(t, s, root, "a"))
			if (err == nil) != (c.asked == 0) {
				t.Errorf("got %v", err)
			}
			for digest, n := range asked {
				if c.asked > 0 && n != c.asked {
					t.Errorf("%s was asked for %d times", digest, n)
				}
			}
			if len(asked) == 0 {
				t.Error("nothing was asked")
			}
		})
	}
}

func TestATagThatMovesIsCopiedAsItWasFirstSeen(t *testing.T) {
	s, p := newShelf(), newPier()
	first, second := s.image("1", s.layer("one")), s.image("2", s.layer("two"))
	s.tags["1"] = first
	s.resolved = func() { s.tags["1"] = second }
	job := jobOf(t, s, first, "a:1")
	job.Source.Digest, job.Source.Tag = oci.Digest{}, tag(t, "1")
	if _, err := run(t, p, Options{}, job); err != nil || p.tags["a:1"].Digest != first.Digest {
		t.Errorf("%v: the tag is %s, want %s", err, p.tags["a:1"].Digest, first.Digest)
	}
}

func TestWhatRefersGoesAfterWhatItRefersTo(t *testing.T) {
	s, p := newShelf(), newPier()
	root := twoPlatforms(s)
	sbom := s.attach(root, "sbom")
	signature := s.attach(sbom, "signature of the sbom")
	cosigned := s.image("cosign", s.layer("k"))
	name := "sha256-" + root.Digest.Hex() + ".sig"
	s.tags[name] = cosigned
	known := "sha256-" + root.Digest.Hex() + ".sbom"
	s.tags[known] = sbom // which the API tells of too
	job := jobOf(t, s, root, "a:1")
	job.Referrers = true
	report, err := run(t, p, Options{}, job)
	if err != nil || report.Images[0].Manifests != 3+3 {
		t.Fatalf("%v: %+v", err, report.Images[0])
	}
	where := func(d oci.Descriptor) int {
		return slices.Index(p.log, "manifest "+at(repository(t, "a"), d.Digest))
	}
	if order := []int{0, where(root), where(sbom), where(signature)}; !slices.IsSorted(order) {
		t.Errorf("stored: %q", p.log)
	}
	if p.tags["a:"+name].Digest != cosigned.Digest {
		t.Errorf("the tag of the signature is %v", p.tags["a:"+name])
	}
	if p.tags["a:"+known].Digest != sbom.Digest {
		t.Errorf("the tag of what was seen before is %v", p.tags["a:"+known])
	}
	if report, err = run(t, p, Options{}, job); err != nil || !report.Images[0].Unchanged {
		t.Errorf("again: %v, %+v", err, report.Images[0])
	}
}
