//go:build e2e

package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// download reads a blob and gives its digest and how much came.
func download(url string) (digest string, size int64, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	hash := sha256.New()
	size, err = io.Copy(hash, resp.Body)
	return fmt.Sprintf("sha256:%x", hash.Sum(nil)), size, err
}

// within waits for a channel, and fails the test if nothing happens.
func within[T any](t *testing.T, what string, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(clientTimeout):
		t.Fatalf("waited in vain for %s", what)
	}
	return value
}

// largeLayer is the one long blob of the testbed.
func largeLayer(t *testing.T) (image manifest, layer descriptor) {
	t.Helper()
	image = original(t, "docker.io", "library/large", "1")
	return image, image.Layers[2]
}

// What has been served once is served again when the upstream is gone, limits
// its rate or is broken: by tag and by digest, to engines that never saw it.
func TestPulledImagesSurviveTheirUpstream(t *testing.T) {
	for name, fail := range map[string]func(u *upstream){
		"refuses connections": func(u *upstream) { u.stop() },
		"answers 429":         func(u *upstream) { u.misbehave(&fault{path: regexp.MustCompile("/"), status: 429}) },
		"answers 503":         func(u *upstream) { u.misbehave(&fault{path: regexp.MustCompile("/"), status: 503}) },
	} {
		t.Run(name, func(t *testing.T) {
			m := startMirror(t, options{config: "tags: {fresh_for: 0s}\n"})
			image := original(t, "docker.io", "library/tiny", "latest")
			repository := m.address + "/docker.io/library/tiny"
			d := startDocker(t, "{}")
			d.run(t, "pull", "--quiet", repository+":latest")
			d.run(t, "image", "rm", "--force", repository+":latest")

			fail(m.upstream(t, "docker.io"))
			d.run(t, "pull", "--quiet", repository+":latest")
			d.wantImage(t, repository+":latest", image)
			d.wantRun(t, repository+":latest", said("docker.io", "library/tiny"))
			d.run(t, "image", "rm", "--force", repository+":latest")
			d.run(t, "pull", "--quiet", repository+"@"+image.digest)
			d.wantImage(t, repository+"@"+image.digest, image)
			newTool(t, "crane").run(t, "validate", "--remote", repository+":latest")

			_, head, _ := curl(t, "--header", "Accept: "+manifestTypes, "http://"+m.address+"/v2/library/tiny/manifests/latest")
			if !strings.Contains(head, "\nWarning: ") {
				t.Errorf("the old answer is not marked with Warning:\n%s", head)
			}
		})
	}
}

// A tag that moved upstream moves at the mirror.
func TestMovedTagGivesTheNewImage(t *testing.T) {
	m := startMirror(t, options{config: "tags: {fresh_for: 0s}\n"})
	crane := newTool(t, "crane")
	registry := bed.registries["quay.io"]
	crane.run(t, "copy", registry+"/team/tool:1", registry+"/team/moving:1")
	old := original(t, "quay.io", "team/moving", "1")
	name := m.address + "/quay.io/team/moving:1"
	if got := strings.TrimSpace(crane.run(t, "digest", name)); got != old.digest {
		t.Errorf("the digest is %s, want %s", got, old.digest)
	}
	crane.run(t, "mutate", registry+"/team/moving:1", "--label", "moved=yes", "-t", registry+"/team/moving:1")
	moved := original(t, "quay.io", "team/moving", "1")
	if moved.digest == old.digest {
		t.Fatal("the testbed's tag did not move")
	}
	if got := strings.TrimSpace(crane.run(t, "digest", name)); got != moved.digest {
		t.Errorf("after the move the digest is %s, want %s", got, moved.digest)
	}
	crane.run(t, "validate", "--remote", name)
	if got := strings.TrimSpace(crane.run(t, "digest", m.address+"/quay.io/team/moving@"+old.digest)); got != old.digest {
		t.Errorf("by its digest the old image is %s", got)
	}
}

// A client reads what has arrived while the rest has not, even when the first
// one has left, and the fill goes on without anybody.
func TestBlobStreamsWhileItArrives(t *testing.T) {
	m := startMirror(t, options{})
	_, layer := largeLayer(t)
	u := m.upstream(t, "docker.io")
	hold := u.hold("/blobs/"+layer.Digest, 16<<20)
	first, err := http.Get(blobURL(m, "library/large", layer.Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	within(t, "the upstream's half", hold.reached)
	read := make(chan error, 2)
	go func() {
		_, err := io.CopyN(io.Discard, first.Body, 8<<20)
		read <- err
	}()
	if err := within(t, "bytes while the upstream is still sending", read); err != nil {
		t.Fatal(err)
	}
	first.Body.Close()

	second := make(chan error, 1)
	go func() {
		digest, size, err := download(blobURL(m, "library/large", layer.Digest))
		if err == nil && (digest != layer.Digest || size != layer.Size) {
			err = fmt.Errorf("got %d bytes of digest %s", size, digest)
		}
		second <- err
	}()
	close(hold.release)
	if err := within(t, "the second client's blob", second); err != nil {
		t.Error(err)
	}
	u.wantAsked(t, "^GET .*/blobs/"+layer.Digest, 1, 1)
}

func TestFillGoesOnWhenItsClientLeaves(t *testing.T) {
	m := startMirror(t, options{})
	_, layer := largeLayer(t)
	u := m.upstream(t, "docker.io")
	hold := u.hold("/blobs/"+layer.Digest, 4<<20)
	resp, err := http.Get(blobURL(m, "library/large", layer.Digest))
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the upstream's first part", hold.reached)
	resp.Body.Close()
	close(hold.release)
	err = poll(clientTimeout, func() error {
		if sent := u.bodyBytes("/blobs/" + layer.Digest); sent != layer.Size {
			return fmt.Errorf("the upstream sent %d of %d bytes", sent, layer.Size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if digest, _, err := download(blobURL(m, "library/large", layer.Digest)); err != nil || digest != layer.Digest {
		t.Errorf("the blob has the digest %s, %v", digest, err)
	}
	u.wantAsked(t, "^GET .*/blobs/"+layer.Digest, 1, 1)
}

// Many clients want the same new blob at once: it crosses the link once.
func TestStampedeCrossesTheLinkOnce(t *testing.T) {
	m := startMirror(t, options{})
	_, layer := largeLayer(t)
	u := m.upstream(t, "docker.io")
	hold := u.hold("/blobs/"+layer.Digest, 1<<20)
	const clients = 12
	crane := newTool(t, "crane")
	var group sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		group.Go(func() {
			content, err := crane.output("blob", m.address+"/library/large@"+layer.Digest)
			if err == nil && digestOf([]byte(content)) != layer.Digest {
				err = errors.New("a client got other bytes")
			}
			errs <- err
		})
	}
	within(t, "the upstream's first part", hold.reached)
	close(hold.release)
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	u.wantAsked(t, "^GET .*/blobs/"+layer.Digest, 1, 1)
	if sent := u.bodyBytes("/blobs/" + layer.Digest); sent != layer.Size {
		t.Errorf("the upstream sent %d bytes, want %d", sent, layer.Size)
	}
}

// The upstream hangs up in the middle: the client notices nothing, and what had
// arrived is not fetched again.
func TestBrokenUpstreamIsResumed(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	image, layer := largeLayer(t)
	u := m.upstream(t, "docker.io")
	u.misbehave(&fault{path: regexp.MustCompile("/blobs/" + layer.Digest), once: true, cutAfter: 10 << 20})
	name := m.address + "/library/large:1"
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	u.wantAsked(t, "^GET .*/blobs/"+layer.Digest, 2, 2)
	if sent := u.bodyBytes("/blobs/" + layer.Digest); sent > layer.Size+1<<20 {
		t.Errorf("the upstream sent %d bytes of a blob of %d", sent, layer.Size)
	}
}

// kill -9 in the middle of a blob: after a restart the next pull is right, and
// what had been written is not fetched again.
func TestKilledInTheMiddleOfABlob(t *testing.T) {
	m := startMirror(t, options{})
	image, layer := largeLayer(t)
	u := m.upstream(t, "docker.io")
	const sentBefore = 18 << 20
	hold := u.hold("/blobs/"+layer.Digest, sentBefore)
	name := m.address + "/library/large:1"
	crane := newTool(t, "crane")
	pulled := make(chan error, 1)
	go func() {
		_, err := crane.output("pull", name, crane.dir+"/image.tar")
		pulled <- err
	}()
	within(t, "the upstream's part", hold.reached)
	received := readSome(t, blobURL(m, "library/large", layer.Digest), 16<<20)
	m.process.kill()
	if err := within(t, "the end of the pull", pulled); err == nil {
		t.Error("a pull that was cut off succeeded")
	}
	close(hold.release)

	u.forget()
	m.start(t)
	d := startDocker(t, "{}")
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	d.wantRun(t, name, said("docker.io", "library/large"))
	if sent := u.bodyBytes("/blobs/" + layer.Digest); sent > layer.Size-received/2 {
		t.Errorf("after clients had received %d bytes of %d, the restarted mirror fetched %d bytes again", received, layer.Size, sent+received-layer.Size)
	}
	crane.run(t, "validate", "--remote", name)
}

// readSome reads the first n bytes of a blob and leaves.
func readSome(t *testing.T, url string, n int64) int64 {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, resp.Body, n)
		read <- err
	}()
	if err := within(t, "the first part of the blob", read); err != nil {
		t.Fatal(err)
	}
	return n
}

// A wrong blob is never given out whole and never kept; once the upstream is
// healed the next pull is right at once.
func TestWrongBytesAreNotServed(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	image := original(t, "docker.io", "library/tiny", "latest")
	layer := image.Layers[0]
	u := m.upstream(t, "docker.io")
	u.misbehave(&fault{path: regexp.MustCompile("/blobs/" + layer.Digest), corrupt: true})
	if _, size, err := download(blobURL(m, "library/tiny", layer.Digest)); err == nil {
		t.Errorf("a client got all %d bytes of a wrong blob", size)
	}
	name := m.address + "/library/tiny"
	newTool(t, "crane").fail(t, "validate", "--remote", name)

	if !strings.Contains(m.process.logTail(1<<20), "does not match its digest") {
		t.Error("the log does not tell of the wrong digest")
	}
	u.heal()
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	d.wantRun(t, name, said("docker.io", "library/tiny"))
}
