package local

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/upstream"
)

var (
	one = image{name: "docker.io/team/app:1", layer: "the first layer"}
	two = image{name: "docker.io/team/app:2", layer: "another layer"}
)

func TestImagesAreFoundUnderTheNamesThatTheyHave(t *testing.T) {
	tool := image{name: "quay.io/team/tool:1", layer: "x"}
	u := serve(t, nil, archiveOf(t, one, tool), archiveOf(t, two))
	wantTag(t, u, "docker.io/team/app", "1", one)
	wantTag(t, u, "docker.io/team/app", "2", two)
	wantTag(t, u, "quay.io/team/tool", "1", tool)
	app := repository(t, one.name[:strings.LastIndex(one.name, ":")])
	m, err := u.Manifest(t.Context(), app, two.digest())
	if err != nil || string(m.Bytes) != string(two.manifest()) || m.Descriptor.MediaType != oci.MediaTypeImageManifest {
		t.Errorf("%+v, %v", m, err)
	}
	if d, err := u.StatManifest(t.Context(), app, one.digest()); err != nil || d.Size != int64(len(one.manifest())) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := u.StatBlob(t.Context(), app, two.blob()); err != nil || d.Size != int64(len(two.layer)) {
		t.Errorf("%+v, %v", d, err)
	}
	b, err := u.Blob(t.Context(), app, two.blob())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != two.layer || err != nil || b.Close() != nil {
		t.Errorf("%q, %v", got, err)
	}
	for repo, want := range map[string]oci.Code{"docker.io/team/app": oci.CodeManifestUnknown, "docker.io/team/none": oci.CodeNameUnknown} {
		_, err = u.ResolveTag(t.Context(), repository(t, repo), tag(t, "9"))
		wantCode(t, err, want)
		_, err = u.Tags(t.Context(), repository(t, repo+"x"))
		wantCode(t, err, oci.CodeNameUnknown)
	}
	_, err = u.StatBlob(t.Context(), repository(t, "quay.io/team/tool"), one.blob())
	wantCode(t, err, oci.CodeBlobUnknown)
}

// What other programs write names images by no more than a tag.
func TestATagAloneIsOneOfTheRepositoryThatIsSaid(t *testing.T) {
	plain := image{name: "1", layer: "x"}
	p := Place{Path: t.TempDir(), Layout: true, Base: repository(t, "docker.io/library/nginx")}
	writeLayout(t, p.Path, files(plain))
	wantTag(t, serve(t, nil, p), "docker.io/library/nginx", "1", plain)
	p.Base = oci.Repository{}
	_, err := serve(t, nil, p).ResolveTag(t.Context(), repository(t, "docker.io/library/nginx"), tag(t, "1"))
	wantCode(t, err, oci.CodeNameUnknown)
}

func TestWhatIsOnTheDiskIsNotAskedOfTheRegistry(t *testing.T) {
	r, up := network(t)
	moved := image{layer: "a newer one"}
	moved.add(r, "team/app", "1")
	u := serve(t, up, archiveOf(t, one))
	app := repository(t, "docker.io/team/app")
	wantTag(t, u, "docker.io/team/app", "1", one)
	if _, err := u.TaggedManifest(t.Context(), app, tag(t, "1")); err != nil {
		t.Error(err)
	}
	if got, err := readPart(t, u.FetchBlob(app, one.blob()), 4, 9); got != "first" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if len(r.Requests()) != 0 {
		t.Errorf("the registry was asked: %+v", r.Requests())
	}
}

func TestWhatIsNotOnTheDiskIsAskedOfTheRegistry(t *testing.T) {
	r, up := network(t)
	two.add(r, "team/app", "2")
	content := files(one)
	delete(content, "blobs/sha256/"+one.blob().Hex()) // it was left out: the other side has it
	r.AddBytes("team/app", layerType, []byte(one.layer))
	p := Place{Path: filepath.Join(t.TempDir(), "x.tar")}
	writeArchive(t, p.Path, content)
	u := serve(t, up, p)
	app := repository(t, "docker.io/team/app")
	wantTag(t, u, "docker.io/team/app", "2", two)
	m, err := u.TaggedManifest(t.Context(), app, tag(t, "2"))
	if err != nil || m.Descriptor.Digest != two.digest() {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := u.Manifest(t.Context(), app, two.digest()); err != nil {
		t.Error(err)
	}
	for _, i := range []image{one, two} {
		if got, err := readPart(t, u.FetchBlob(app, i.blob()), 0, -1); got != i.layer || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := u.StatBlob(t.Context(), app, i.blob()); err != nil {
			t.Error(err)
		}
		b, err := u.Blob(t.Context(), app, i.blob())
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	_, err = u.ResolveTag(t.Context(), app, tag(t, "3"))
	wantCode(t, err, oci.CodeManifestUnknown)
}

func TestListsAreThoseOfAllTogether(t *testing.T) {
	r, up := network(t)
	two.add(r, "team/app", "2")
	one.add(r, "team/app", "1")
	d := one.descriptor()
	here, there := image{layer: "a signature", subject: &d}, image{layer: "another signature", subject: &d}
	there.add(r, "team/app", "")
	here.add(r, "team/app", "")
	third := image{name: "docker.io/team/app:0", layer: "x"}
	u := serve(t, up, archiveOf(t, one, here, third))
	app := repository(t, "docker.io/team/app")
	tags, err := u.Tags(t.Context(), app)
	if want := []oci.Tag{tag(t, "0"), tag(t, "1"), tag(t, "2")}; !slices.Equal(tags, want) || err != nil {
		t.Errorf("%v, %v", tags, err)
	}
	list, err := u.Referrers(t.Context(), app, one.digest())
	if err != nil || len(list) != 2 || list[0].Digest != here.digest() || list[1].Digest != there.digest() {
		t.Errorf("%+v, %v", list, err)
	}
	// What the registry does not know is on the disk all the same.
	r.RemoveRepository("team/app")
	if tags, err := u.Tags(t.Context(), app); err != nil || len(tags) != 2 {
		t.Errorf("%v, %v", tags, err)
	}
	// A list that lacks what cannot be asked for would be a lie.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = u.Tags(t.Context(), app)
	wantCode(t, err, oci.CodeUnavailable)
	wantTag(t, u, "docker.io/team/app", "1", one)
}

// An archive knows no accounts: what a client may have with its own, the registry says.
func TestClientsOwnCredentialsAreForTheRegistry(t *testing.T) {
	r, up := network(t)
	ctx := oci.WithLogin(t.Context(), oci.Login{Username: "ann", Password: "x"})
	app := repository(t, "docker.io/team/app")
	place := archiveOf(t, one)
	u := serve(t, up, place)
	_, err := u.ResolveTag(ctx, app, tag(t, "1"))
	wantCode(t, err, oci.CodeManifestUnknown)
	_, err = u.FetchBlob(app, one.blob()).Part(ctx, 0, -1)
	wantCode(t, err, oci.CodeNameUnknown)
	if len(r.Requests()) == 0 {
		t.Error("the registry was not asked")
	}
	alone := serve(t, nil, place)
	_, err = alone.ResolveTag(ctx, app, tag(t, "1"))
	wantCode(t, err, oci.CodeDenied)
	_, err = alone.Blob(ctx, app, one.blob())
	wantCode(t, err, oci.CodeDenied)
	_, err = alone.Tags(ctx, app)
	wantCode(t, err, oci.CodeDenied)
	_, err = alone.FetchBlob(app, one.blob()).Part(ctx, 0, -1)
	wantCode(t, err, oci.CodeDenied)
}

// An archive that serves blobs saves the bytes, and says nothing about tags.
func TestAnArchiveForBlobsIsAskedForNothingElse(t *testing.T) {
	r, up := network(t)
	moved := image{layer: "a newer one"}
	moved.add(r, "team/app", "1")
	place := archiveOf(t, one)
	u := made(t, Options{Registry: hub(t), Pool: NewPool(slog.New(slog.DiscardHandler)), Next: up, Endpoints: []Endpoint{{Place: place, BlobsOnly: true}}})
	wantTag(t, u, "docker.io/team/app", "1", moved)
	app := repository(t, "docker.io/team/app")
	_, err := u.StatBlob(t.Context(), app, one.blob())
	wantCode(t, err, oci.CodeBlobUnknown)
	before := len(r.Requests())
	part, err := u.FetchBlob(app, one.blob()).Part(t.Context(), 0, -1)
	if err != nil || part.Vouched || part.Endpoint != place.String() || part.Size != int64(len(one.layer)) {
		t.Fatalf("%+v, %v", part, err)
	}
	part.Body.Close()
	if len(r.Requests()) != before {
		t.Error("the registry was asked for bytes that are here")
	}
	if s := u.Status(); len(s.Endpoints) != 2 || !s.Endpoints[0].BlobsOnly || s.Endpoints[1].BlobsOnly {
		t.Errorf("%+v", s)
	}
	// Nor does it say anything about the registry's answers when it is gone.
	if err := os.Remove(place.Path); err != nil {
		t.Fatal(err)
	}
	_, err = u.FetchBlob(app, two.blob()).Part(t.Context(), 0, -1)
	wantCode(t, err, oci.CodeBlobUnknown)
}

func TestWhatIsHereIsNoReasonToSpareTheRegistry(t *testing.T) {
	r, up := network(t)
	r.SetBehavior(registrytest.Behavior{RateLimit: registrytest.RateLimit{Pulls: 20, Window: time.Hour}})
	two.add(r, "team/other", "2")
	u := serve(t, up, archiveOf(t, one))
	wantTag(t, u, "docker.io/team/app", "1", one)
	other := repository(t, "docker.io/team/other")
	for range 18 {
		if _, err := u.TaggedManifest(t.Context(), other, tag(t, "2")); err != nil {
			t.Fatal(err)
		}
	}
	if !u.Spare(other) {
		t.Error("little may still be asked about what is at the registry alone")
	}
	if u.Spare(repository(t, "docker.io/team/app")) {
		t.Error("what is here costs nothing")
	}
}

func TestMetricsTellWhetherAnArchiveCanBeRead(t *testing.T) {
	reg := prometheus.NewRegistry()
	place := archiveOf(t, one)
	pool := NewPool(slog.New(slog.DiscardHandler))
	u := made(t, Options{Registry: hub(t), Pool: pool, Registerer: reg, Endpoints: []Endpoint{{Place: place}}})
	value := func() (up float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sampan_upstream_endpoint_up" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatal("there is no such metric")
		return 0
	}
	wantTag(t, u, "docker.io/team/app", "1", one)
	if value() != 1 {
		t.Error("it is down")
	}
	if err := os.Rename(place.Path, place.Path+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := u.ResolveTag(t.Context(), repository(t, "docker.io/team/app"), tag(t, "1"))
	wantCode(t, err, oci.CodeUnavailable)
	if value() != 0 {
		t.Error("it is up")
	}
	if n, err := testutil.GatherAndCount(reg, "sampan_upstream_endpoint_failures_total"); n != 1 || err != nil {
		t.Errorf("%d failures, %v", n, err)
	}
	if err := os.Rename(place.Path+".away", place.Path); err != nil {
		t.Fatal(err)
	}
	wantTag(t, u, "docker.io/team/app", "1", one)
	if value() != 1 {
		t.Error("it is down still")
	}
	// One that belongs to a registry as well shares the metrics with it.
	if _, err := upstream.NewEndpointMeter(reg, hub(t), "x"); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreNeeded(t *testing.T) {
	for _, o := range []Options{{}, {Registry: hub(t)}, {Registry: hub(t), Endpoints: []Endpoint{{}}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
