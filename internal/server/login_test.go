package server_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"sampan/internal/access"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/server"
)

func newChallenging(t *testing.T, l oci.Reader) *httptest.Server {
	t.Helper()
	names, err := mirror.New(mirror.Options{
		Domain:    "mirror.example.com",
		Upstreams: []mirror.Upstream{{Registry: oci.DockerHub, Hosts: []string{"docker"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{
		Reader: l, Names: names, Log: slog.New(slog.DiscardHandler),
		Directory: newDirectory(t, access.DirectoryOptions{}),
		Challenge: func(a mirror.Address) bool { return strings.HasPrefix(a.Host, "docker.") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	return ts
}

// newDirectory knows whom o names.
func newDirectory(t *testing.T, o access.DirectoryOptions) *access.Directory {
	t.Helper()
	o.Key, o.Guard, o.Log = make([]byte, access.MinTokenKey), access.NewGuard(), slog.New(slog.DiscardHandler)
	d, err := access.NewDirectory(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	alice  = "Basic YWxpY2U6cHc=" // alice:pw
	nobody = "Basic Og=="         // as Podman sends it
)

func TestThePingAsksWhereThereIsSomethingToAskFor(t *testing.T) {
	ts := newChallenging(t, newLibrary())
	for _, c := range []struct {
		fact    string
		headers []string
		status  int
	}{
		{"a client that says nothing is asked", []string{"Host", "docker.mirror.example.com"}, 401},
		{"a client that says who it is goes on", []string{"Host", "docker.mirror.example.com", "Authorization", alice}, 200},
		{"and so does one that says it is nobody", []string{"Host", "docker.mirror.example.com", "Authorization", nobody}, 200},
		{"elsewhere nobody is asked", []string{"Host", "mirror.example.com"}, 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			x := do(t, ts, method+" /v2/", c.headers...)
			if got := x.header.Get("WWW-Authenticate"); x.status != c.status || (got == `Bearer realm="http://docker.mirror.example.com/token",service="sampan"`) != (c.status == 401) {
				t.Errorf("%s: %s got %d, %q", c.fact, method, x.status, got)
			}
		}
	}
}

// A doorkeeper asks everybody but alice.
type doorkeeper struct {
	*library
	private bool
}

func (d doorkeeper) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	oci.TraceFrom(ctx).Private = d.private
	if !d.private {
		return oci.Descriptor{}, &oci.Error{Code: oci.CodeUnauthorized, Message: "who are you", Err: access.ErrLogin}
	}
	return d.library.ResolveTag(ctx, repo, tag)
}

func TestAQuestionToTheClientIsAChallenge(t *testing.T) {
	ts := newServer(t, doorkeeper{newLibrary(), false})
	for _, method := range []string{"GET", "HEAD"} {
		x := do(t, ts, method+" /v2/app/manifests/v1")
		if x.status != 401 || !strings.HasSuffix(x.header.Get("WWW-Authenticate"), `/token",service="sampan",scope="repository:app:pull"`) {
			t.Errorf("%s: %d, %v", method, x.status, x.header)
		}
	}
	mustBeError(t, do(t, ts, "GET /v2/app/manifests/v1"), oci.CodeUnauthorized)
}

func TestWhatIsForOneClientIsKeptByNobodyOnTheWay(t *testing.T) {
	for _, private := range []bool{false, true} {
		l := newLibrary()
		ts := newServer(t, trusting{l, private})
		for path, public := range map[string]string{
			"manifests/v1": "", "tags/list": "", "blobs/" + oci.DigestOf(l.blob).String(): "max-age=31536000, immutable",
		} {
			want := public
			switch {
			case private && public == "":
				want = "private"
			case private:
				want = "private, " + public
			}
			if got := do(t, ts, "GET /v2/app/"+path).header.Get("Cache-Control"); got != want {
				t.Errorf("private %v, %s: %q", private, path, got)
			}
		}
	}
}

// trusting marks every answer.
type trusting struct {
	*library
	private bool
}

func (d trusting) Manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	oci.TraceFrom(ctx).Private = d.private
	return d.library.Manifest(ctx, repo, digest)
}

func (d trusting) Blob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	oci.TraceFrom(ctx).Private = d.private
	return d.library.Blob(ctx, repo, digest)
}

func (d trusting) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	oci.TraceFrom(ctx).Private = d.private
	return d.library.Tags(ctx, repo)
}
