//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// takers are the commands that read from a registry: each takes an image called large to a
// place, at which wantTaken looks.
func takers(t *testing.T) map[string]func(t *testing.T, image, place string) []string {
	t.Helper()
	native, dir := bed.registries["native.test"], testDir(t, "taken")
	return map[string]func(t *testing.T, image, place string) []string{
		"copy": func(_ *testing.T, image, place string) []string {
			return []string{"copy", image, native + "/copy/" + place + "/large:1"}
		},
		"sync": func(t *testing.T, image, place string) []string {
			list := fmt.Sprintf("targets: [%s/sync/%s/]\nnames: {rule: template, template: \"{name}\"}\nimages: [%s]\n", native, place, image)
			return []string{"sync", "--file", writeFile(t, filepath.Join(dir, place, "sync.yaml"), list)}
		},
		"save": func(_ *testing.T, image, place string) []string {
			os.MkdirAll(filepath.Join(dir, place), 0o755)
			return []string{"save", "--platform", "all", image, "-o", filepath.Join(dir, place, "image.tar")}
		},
	}
}

// wantTaken fails unless an image is where a command was to take it; with a zero one,
// unless nothing is there.
func wantTaken(t *testing.T, s command, name, place string, args []string, image manifest) {
	t.Helper()
	if name == "save" {
		file := args[len(args)-1]
		switch _, err := os.Stat(file); {
		case image.digest == "" && err == nil:
			t.Errorf("%s is there", file)
		case image.digest != "":
			if out := s.run(t, "load", "-i", file, "--list"); !strings.Contains(out, image.digest) {
				t.Errorf("in the archive there is: %s", out)
			}
			s.run(t, "load", "-i", file, "--to", bed.registries["native.test"]+"/save/"+place+"/large:1")
			wantWhole(t, bed.registries["native.test"], "save/"+place+"/large", "1", image)
		}
		return
	}
	if image.digest == "" {
		wantNothing(t, bed.registries["native.test"], name+"/"+place+"/large", "1")
		return
	}
	wantWhole(t, bed.registries["native.test"], name+"/"+place+"/large", "1", image)
}

// A source that limits the rate, is down or breaks off is read on, and what has come is
// not fetched again.
func TestTakenFromASourceThatFailsForAWhile(t *testing.T) {
	s := newCopier(t)
	image, large := largeLayer(t)
	for name, args := range takers(t) {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, bed.registries["docker.io"])
			blob := regexp.MustCompile("/blobs/" + large.Digest)
			for _, f := range []*fault{
				{path: regexp.MustCompile("/manifests/"), once: true, status: 429},
				{path: blob, once: true, status: 429},
				{path: blob, once: true, status: 503},
				{path: blob, once: true, cutAfter: 8 << 20},
				{path: blob, once: true, cutAfter: 3 << 20},
			} {
				u.misbehave(f)
			}
			run := args(t, strings.TrimPrefix(u.url(), "http://")+"/library/large:1", "awhile")
			s.run(t, run...)
			wantTaken(t, s, name, "awhile", run, image)
			const slack = 1 << 20 // what was on its way
			if got := u.bodyBytes("^GET .*/blobs/" + large.Digest); got < large.Size || got > large.Size+slack {
				t.Errorf("%d bytes were fetched of %d", got, large.Size)
			}
			if got := u.asked("^GET .*/blobs/" + large.Digest); got[len(got)-1].rng == "" {
				t.Errorf("it was not read on: %v", got)
			}
		})
	}
}

// Of a source that has lost a blob, or that gives another, nothing is published.
func TestNothingIsTakenFromASourceThatIsDamaged(t *testing.T) {
	s := newCopier(t)
	_, large := largeLayer(t)
	blob := regexp.MustCompile("/blobs/" + large.Digest)
	for _, c := range []struct {
		fact  string
		fault fault
		says  []string
	}{
		{"lost", fault{path: blob, status: 404}, []string{large.Digest, "does not have it"}},
		{"altered", fault{path: blob, corrupt: true}, []string{large.Digest}},
	} {
		t.Run(c.fact, func(t *testing.T) {
			for name, args := range takers(t) {
				u := newUpstream(t, bed.registries["docker.io"])
				u.misbehave(&c.fault)
				run := args(t, strings.TrimPrefix(u.url(), "http://")+"/library/large:1", c.fact)
				said := s.fail(t, run...)
				for _, want := range append(c.says, "exit status 1", "library/large") {
					if !strings.Contains(said, want) {
						t.Errorf("%s does not say %q: %s", name, want, said)
					}
				}
				wantTaken(t, s, name, c.fact, run, manifest{})
			}
		})
	}
}

// A tag that moves meanwhile is taken as it was first seen.
func TestATagThatMovesMeanwhile(t *testing.T) {
	s := newCopier(t)
	hub := bed.registries["docker.io"]
	image, large := largeLayer(t)
	for name, args := range takers(t) {
		t.Run(name, func(t *testing.T) {
			s.run(t, "copy", hub+"/library/large:1", hub+"/moving-"+name+"/large:1")
			u := newUpstream(t, hub)
			held := u.hold("/blobs/"+large.Digest, 1<<20)
			run := args(t, strings.TrimPrefix(u.url(), "http://")+"/moving-"+name+"/large:1", "moving")
			ended := make(chan error, 1)
			go func() {
				_, err := s.output(run...)
				ended <- err
			}()
			select {
			case <-held.reached:
			case err := <-ended:
				t.Fatalf("it has ended before it came to the layer: %v", err)
			}
			s.run(t, "copy", hub+"/me/app:1", hub+"/moving-"+name+"/large:1")
			close(held.release)
			if err := within(t, "the command", ended); err != nil {
				t.Fatal(err)
			}
			wantTaken(t, s, name, "moving", run, image)
		})
	}
}
