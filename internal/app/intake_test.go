package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// closedNetwork starts a mirror whose registries cannot be reached, with a token, an alias
// and an audit log.
func closedNetwork(t *testing.T, more string) (*reloadable, *diary) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	if err := ln.Close(); err != nil { // nobody listens there
		t.Fatal(err)
	}
	d := &diary{file: filepath.Join(t.TempDir(), "audit.log")}
	return startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: 'http://%s'}]}}\naliases: {short.test: up.test/team}\n"+
		"admin: {token: secret}\nlog: {audit: %s}\nfetch: {prefetch: false}\n%s", at, d.file, more)), d
}

// brought is what is asked of the intake.
func brought(path, repo string, more ...string) string {
	q := url.Values{"repository": {repo}}
	for i := 0; i < len(more); i += 2 {
		q.Add(more[i], more[i+1])
	}
	return "/api/v1/intake/" + path + "?" + q.Encode()
}

// bringBlob wants a status for a blob.
func (m *mirror) bringBlob(t *testing.T, want int, repo string, b []byte) {
	t.Helper()
	m.admin(t, want, "PUT", brought("blob", repo, "digest", oci.DigestOf(b).String(), "size", fmt.Sprint(len(b))), string(b), "secret", nil)
}

// bringImage brings an image of blobs, and returns the digest of its manifest.
func (m *mirror) bringImage(t *testing.T, repo, tag string, blobs ...[]byte) oci.Digest {
	t.Helper()
	var layers []oci.Descriptor
	for _, b := range blobs {
		m.bringBlob(t, 200, repo, b)
		layers = append(layers, oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: oci.DigestOf(b), Size: int64(len(b))})
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "layers": layers})
	if err != nil {
		t.Fatal(err)
	}
	d := oci.DigestOf(raw)
	m.admin(t, 200, "PUT", brought("manifest", repo, "digest", d.String(), "media_type", oci.MediaTypeImageManifest, "tag", tag), string(raw), "secret", nil)
	return d
}

// An image is brought under a name that clients may use, with more bytes than anything else
// of the API has, and is served at once, by tag and by digest, now and after a restart.
func TestImagesAreBroughtToAMirrorOfAClosedNetwork(t *testing.T) {
	for _, mode := range []string{"", "offline: true\n"} {
		t.Run(mode, func(t *testing.T) {
			m, d := closedNetwork(t, mode)
			big, small := bytes.Repeat([]byte("0123456789abcdef"), 200_000), []byte("small")
			digest := m.bringImage(t, "short.test/app", "1", big, small)
			var taken struct{ Repository, Digest string }
			m.admin(t, 200, "GET", brought("manifest", "short.test/app", "reference", "1"), "", "secret", &taken)
			if taken.Repository != "up.test/team/app" || taken.Digest != digest.String() {
				t.Errorf("got %+v", taken)
			}
			acts := d.acts(t)
			if len(acts) != 3 {
				t.Fatalf("instead of one act for each there are %+v", acts)
			}
			want := act{event: "load", method: "PUT", path: "/api/v1/intake/manifest", about: "up.test/team/app@" + digest.String() + " 1", client: here, detail: acts[2].detail}
			if acts[2] != want || !strings.Contains(want.detail, digest.String()) {
				t.Errorf("got %+v, want %+v", acts[2], want)
			}
			m.end(t)
			again := startAgain(t, m)
			for _, reference := range []string{"1", digest.String()} {
				if err := again.pull("up.test/team/app", reference); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What is no good is refused, with a sentence, and changes nothing; each attempt to change
// something is told to the audit log.
func TestWhatIsBroughtBadlyIsRefused(t *testing.T) {
	m, d := closedNetwork(t, "data: {max_size: 16MiB}\n")
	b := []byte("some bytes")
	digest, size := oci.DigestOf(b).String(), fmt.Sprint(len(b))
	const repo = "up.test/team/app"
	manifest := func(more ...string) string {
		return brought("manifest", repo, append([]string{"media_type", oci.MediaTypeImageManifest}, more...)...)
	}
	names := `{"schemaVersion": 2, "layers": [{"mediaType": "a/b", "size": 10, "digest": "` + digest + `"}]}`
	for _, c := range []struct {
		name, target, body string
		want               int
		says               string
	}{
		{"no repository", "/api/v1/intake/blob?size=1&digest=" + digest, "x", 400, "parameter repository"},
		{"a registry that is not served", brought("blob", "other.test/app", "digest", digest, "size", size), string(b), 400, "other.test"},
		{"no name at all", brought("blob", "UP", "digest", digest, "size", size), string(b), 400, "mistake"},
		{"a name with a tag", brought("blob", repo+":1", "digest", digest, "size", size), string(b), 400, "neither a tag"},
		{"a path in the digest", brought("blob", repo, "digest", "sha256:../../../../etc/passwd", "size", size), string(b), 400, "mistake"},
		{"no size", brought("blob", repo, "digest", digest), string(b), 400, "size is a number"},
		{"a negative size", brought("blob", repo, "digest", digest, "size", "-1"), string(b), 400, "size is a number"},
		{"a negative offset", brought("blob", repo, "digest", digest, "size", size, "offset", "-1"), string(b), 400, "offset is a number"},
		{"too short", brought("blob", repo, "digest", digest, "size", "11"), string(b), 400, "10 bytes follow"},
		{"too long", brought("blob", repo, "digest", digest, "size", "9"), string(b), 400, "10 bytes follow"},
		{"behind what is here", brought("blob", repo, "digest", digest, "size", "20", "offset", "10"), string(b), 416, `"have":0`},
		{"other bytes", brought("blob", repo, "digest", digest, "size", size), "same bytes", 422, "not those of " + digest},
		{"more than the disk may hold", brought("blob", repo, "digest", digest, "size", "17000000"), strings.Repeat("x", 17_000_000), 507, "data.max_size"},
		{"a manifest of blobs that are not here", manifest("digest", oci.DigestOf([]byte(names)).String(), "tag", "1"), names, 422, "bring " + digest},
		{"a manifest of another digest", manifest("digest", digest, "tag", "1"), names, 422, "not those of"},
		{"a manifest that is too large", manifest("digest", digest), strings.Repeat(" ", oci.MaxManifestSize+1), 422, "at most"},
		{"no tag", manifest("digest", oci.DigestOf([]byte(names)).String(), "tag", "a b"), names, 400, "mistake"},
	} {
		said := m.admin(t, c.want, "PUT", c.target, c.body, "secret", nil)
		if !strings.Contains(said, c.says) {
			t.Errorf("%s: %q does not say %q", c.name, said, c.says)
		}
		if acts := d.acts(t); len(acts) != 1 || acts[0].event != "load" || acts[0].reason == "" || acts[0].detail != "" {
			t.Errorf("%s: instead of one refusal there are %+v", c.name, acts)
		}
	}
	for _, token := range []string{"", "wrong"} {
		m.admin(t, 401, "PUT", brought("blob", repo, "digest", digest, "size", size), string(b), token, nil)
		m.admin(t, 401, "GET", brought("blob", repo, "digest", digest), "", token, nil)
	}
	var usage struct{ Blobs int }
	m.admin(t, 200, "GET", "/api/v1/usage", "", "secret", &usage)
	if usage.Blobs != 0 {
		t.Errorf("%d blobs are stored", usage.Blobs)
	}
	m.bringBlob(t, 200, repo, b)
}

// A blob whose sender is cut off goes on where it was, and while it comes nobody else may
// bring it.
func TestABlobThatIsCutOffGoesOn(t *testing.T) {
	m, _ := closedNetwork(t, "")
	const repo = "up.test/team/app"
	b := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	digest, half := oci.DigestOf(b).String(), len(b)/2
	asked := brought("blob", repo, "digest", digest, "size", fmt.Sprint(len(b)))
	conn, err := net.Dial("tcp", m.app.AdminAddr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nContent-Length: %d\r\n\r\n%s", asked, len(b), b[:half])
	other := asked + "&offset=1" // which is nowhere right
	m.awaitIntake(t, other, b[1:], http.StatusConflict)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	var arrived struct {
		Here bool
		Have int64
	}
	if err := json.Unmarshal(m.awaitIntake(t, other, b[1:], http.StatusRequestedRangeNotSatisfiable), &arrived); err != nil || arrived.Have != int64(half) {
		t.Fatalf("%+v %v", arrived, err)
	}
	m.admin(t, 200, "GET", asked, "", "secret", &arrived)
	if arrived.Here {
		t.Error("half a blob is here")
	}
	m.admin(t, 200, "PUT", asked+fmt.Sprintf("&offset=%d", half), string(b[half:]), "secret", nil)
	m.admin(t, 200, "GET", asked, "", "secret", &arrived)
	if !arrived.Here {
		t.Errorf("%+v", arrived)
	}
}

// awaitIntake puts until the status is that, and returns the answer.
func (m *mirror) awaitIntake(t *testing.T, target string, body []byte, want int) []byte {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+m.app.AdminAddr()+target, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		r := do(t, m.client, req)
		if r.status == want {
			return r.body
		}
		if r.status != http.StatusRequestedRangeNotSatisfiable && r.status != http.StatusConflict {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
}

// What was brought for a registry that can be reached ages as if it had said so: the tag
// is asked for again, and the blobs are not.
func TestWhatWasBroughtAgesLikeWhatWasPulled(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nadmin: {token: secret}\nfetch: {prefetch: false}\ntags: {fresh_for: 0}\n", up.URL()))
	b := []byte("a layer")
	old := m.bringImage(t, "up.test/team/app", "1", b)
	moved := up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{1000}, Seed: 1})
	got, err := m.content("/v2/up.test/team/app/manifests/1")
	if err != nil || oci.DigestOf(got) != moved.Manifest.Descriptor.Digest {
		t.Errorf("the tag leads to %s: %v", oci.DigestOf(got), err)
	}
	up.ResetCounts()
	if err := m.pull("up.test/team/app", old.String()); err != nil {
		t.Error(err)
	}
	if n := up.Count(""); n != 0 {
		t.Errorf("the registry was asked %d times for what was brought", n)
	}
}
