package app_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A corp is a mirror of a registry with private repositories: alice reads team/a,
// bob reads team/b, and everybody reads open/pub. Its clients' own credentials are
// used.
type corp struct {
	*mirror
	conf   *config.Config
	up     *registrytest.Registry
	other  *registrytest.Registry // evil.test, where everybody may push
	shared oci.Descriptor         // in all three
	known  map[string]registrytest.Image
	n      uint64 // of blobs made
}

func corpBehavior(scheme registrytest.Scheme) registrytest.Behavior {
	return registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: scheme, PublicOpen: scheme == registrytest.SchemeBasic},
		Token: registrytest.Token{
			Private: []string{"team/a", "team/b"},
			Users: []registrytest.User{
				{Name: "alice", Password: "wonder", Repos: []string{"team/a"}},
				{Name: "bob", Password: "builder", Repos: []string{"team/b"}},
				{Name: "carol", Password: "singer", Repos: []string{"team/a"}},
			},
		},
	}
}

func startCorp(t *testing.T, scheme registrytest.Scheme, change func(*config.Upstream)) *corp {
	t.Helper()
	c := &corp{
		up:    registrytest.StartTest(t, registrytest.Options{Behavior: corpBehavior(scheme)}),
		other: registrytest.StartTest(t, registrytest.Options{}),
		known: make(map[string]registrytest.Image),
	}
	for i, repo := range []string{"open/pub", "team/a", "team/b"} {
		c.known[repo] = c.up.AddImage(repo, "v1", registrytest.ImageSpec{Layers: []int64{40_000, 5_000}, Seed: uint64(100 + i)})
		c.shared = c.up.AddBlob(repo, 30_000, 1)
	}
	c.conf = load(t, dataDir(t), "corp.test="+c.up.URL(), "evil.test="+c.other.URL())
	conf := c.conf
	at := slices.IndexFunc(conf.Upstreams, func(u config.Upstream) bool { return u.Registry.String() == "corp.test" })
	conf.Upstreams[at].PassThrough = true
	if change != nil {
		change(&conf.Upstreams[at])
	}
	c.mirror = serve(t, conf)
	return c
}

// as asks as a client; who is "name:password" or empty.
func (c *corp) as(t *testing.T, who, method, path string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.app.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user, password, ok := strings.Cut(who, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, b, err}
}

func (c *corp) warm(t *testing.T) {
	t.Helper()
	for repo, who := range map[string]string{"open/pub": "", "team/a": "alice:wonder", "team/b": "bob:builder"} {
		base := "/v2/corp.test/" + repo
		paths := []string{base + "/manifests/v1", base + "/blobs/" + c.shared.Digest.String(), base + "/tags/list"}
		for _, b := range c.known[repo].Layers[0] {
			paths = append(paths, base+"/blobs/"+b.Digest.String())
		}
		for _, path := range paths {
			if r := c.as(t, who, "GET", path); r.status != http.StatusOK {
				t.Fatalf("%s as %q: %d %s", path, who, r.status, r.body)
			}
		}
	}
}

// fresh makes a blob that nobody has asked for yet.
func (c *corp) fresh(repo string) oci.Digest {
	c.n++
	return c.up.AddBlob(repo, 20_000, 1000+c.n).Digest
}

// TestIsolation is the table of who gets what: each client, for each repository,
// asks for a blob that is in the cache, one that is only at the registry, one that
// several repositories share, and one that does not exist.
func TestIsolation(t *testing.T) {
	const challenge = `/token",service="sampan",scope="repository:corp.test/%s:pull"`
	for _, scheme := range []registrytest.Scheme{registrytest.SchemeBearer, registrytest.SchemeBasic} {
		t.Run(string(scheme), func(t *testing.T) {
			c := startCorp(t, scheme, nil)
			c.warm(t)
			var notFound []byte
			for _, row := range []struct {
				client, who string
				status      map[string]int // by repository, of blobs that exist
			}{
				{"anonymous", "", map[string]int{"open/pub": 200, "team/a": 401, "team/b": 401}},
				{"alice", "alice:wonder", map[string]int{"open/pub": 200, "team/a": 200, "team/b": 404}},
				{"bob", "bob:builder", map[string]int{"open/pub": 200, "team/a": 404, "team/b": 200}},
				{"alice with a wrong password", "alice:x", map[string]int{"team/a": 401, "team/b": 401}},
				{"a stranger", "mallory:x", map[string]int{"team/a": 401, "team/b": 401}},
			} {
				for repo, want := range row.status {
					for _, blob := range []struct {
						kind   string
						digest oci.Digest
						cross  int64 // bytes that cross the link when it is served
					}{
						{"known", c.known[repo].Layers[0][0].Digest, 0},
						{"unknown", c.fresh(repo), 20_000},
						{"shared", c.shared.Digest, 0},
						{"absent", oci.DigestOf(fmt.Append(nil, row.client, repo)), 0},
					} {
						want, cross := want, blob.cross
						if blob.kind == "absent" && want == 200 {
							want = 404
						}
						if want != 200 {
							cross = 0
						}
						before := c.up.BytesSentOf(blob.digest)
						path := "/v2/corp.test/" + repo + "/blobs/" + blob.digest.String()
						r := c.as(t, row.who, "GET", path)
						name := fmt.Sprintf("%s, %s, %s blob", row.client, repo, blob.kind)
						if r.status != want || r.status == 200 && !blob.digest.Verify(r.body) {
							t.Errorf("%s: got %d, want %d: %.200s", name, r.status, want, r.body)
						}
						if sent := c.up.BytesSentOf(blob.digest) - before; sent != cross {
							t.Errorf("%s: %d bytes crossed, want %d", name, sent, cross)
						}
						if strings.HasSuffix(r.header.Get("WWW-Authenticate"), fmt.Sprintf(challenge, repo)) != (want == 401) {
							t.Errorf("%s: the challenge is %q", name, r.header.Get("WWW-Authenticate"))
						}
						if want == 404 { // whatever the reason, byte for byte
							if notFound == nil {
								notFound = r.body
							}
							if r.code() != string(oci.CodeBlobUnknown) || string(r.body) != string(notFound) {
								t.Errorf("%s: %s differs from %s", name, r.body, notFound)
							}
						}
						if h := c.as(t, row.who, "HEAD", path); h.status != want {
							t.Errorf("%s: HEAD got %d", name, h.status)
						}
					}
				}
			}
			for _, req := range c.up.Requests() {
				if req.User != "" && req.Status == 200 && strings.Contains(req.Path, "/v2/team/") && !strings.Contains(req.Path, map[string]string{"alice": "team/a", "bob": "team/b", "carol": "team/a"}[req.User]) {
					t.Errorf("the registry gave %s to %s", req.Path, req.User)
				}
			}
		})
	}
}

// TestIsolationOfNames is the same for what is not a blob: tags, digests, lists
// and referrers.
func TestIsolationOfNames(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	c.warm(t)
	for _, row := range []struct {
		client, who string
		status      map[string]int
	}{
		{"anonymous", "", map[string]int{"open/pub": 200, "team/a": 401, "team/b": 401}},
		{"alice", "alice:wonder", map[string]int{"open/pub": 200, "team/a": 200, "team/b": 404}},
		{"bob", "bob:builder", map[string]int{"open/pub": 200, "team/a": 404, "team/b": 200}},
	} {
		for repo, want := range row.status {
			d := c.known[repo].Manifest.Descriptor.Digest.String()
			for _, below := range []string{"manifests/v1", "manifests/" + d, "tags/list", "referrers/" + d} {
				if r := c.as(t, row.who, "GET", "/v2/corp.test/"+repo+"/"+below); r.status != want {
					t.Errorf("%s, %s, %s: got %d, want %d", row.client, repo, below, r.status, want)
				}
			}
			for _, below := range []string{"manifests/v2", "manifests/" + oci.DigestOf([]byte(repo)).String()} {
				r := c.as(t, row.who, "GET", "/v2/corp.test/"+repo+"/"+below)
				if missing := max(want, 404); row.who != "" && (r.status != missing || r.code() != string(oci.CodeManifestUnknown)) {
					t.Errorf("%s, %s, %s: got %d %s", row.client, repo, below, r.status, r.body)
				}
			}
		}
	}
}

// TestWarmPrivateContentCostsNoQuestion: a permission is believed for a while.
func TestWarmPrivateContentCostsNoQuestion(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	c.warm(t)
	c.up.ResetCounts()
	for range 3 {
		for _, below := range []string{"manifests/v1", "blobs/" + c.known["team/a"].Layers[0][0].Digest.String()} {
			r := c.as(t, "alice:wonder", "GET", "/v2/corp.test/team/a/"+below)
			if r.status != 200 || !strings.HasPrefix(r.header.Get("Cache-Control"), "private") {
				t.Errorf("%s: %d, %v", below, r.status, r.header)
			}
		}
	}
	if n := c.up.Count(registrytest.KindAny); n != 0 {
		t.Errorf("%d questions: %+v", n, c.up.Requests())
	}
}

// TestTheUpstreamIsAskedAsTheClientAndNobodyElse, in spite of the accounts there
// are.
func TestTheUpstreamIsAskedAsTheClientAndNobodyElse(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, func(u *config.Upstream) {
		u.Accounts = []config.Account{{Username: "bob", Password: config.NewSecret("builder")}}
	})
	if r := c.as(t, "alice:wonder", "GET", "/v2/corp.test/team/a/manifests/v1"); r.status != 200 {
		t.Fatalf("got %d %s", r.status, r.body)
	}
	if r := c.as(t, "", "GET", "/v2/corp.test/team/b/manifests/v1"); r.status != 401 {
		t.Errorf("anonymous got %d", r.status)
	}
	if r := c.as(t, "alice:wonder", "GET", "/v2/corp.test/team/b/manifests/v1"); r.status != 404 {
		t.Errorf("alice got %d", r.status)
	}
	if n := c.up.CountUser(registrytest.KindAny, "bob"); n != 0 {
		t.Errorf("the account was used %d times: %+v", n, c.up.Requests())
	}
	if c.up.CountUser(registrytest.KindManifest, "alice") == 0 {
		t.Error("the client's credentials were not used")
	}
}

// TestAccountsServeTheRepositoriesTheyAreFor, and no others.
func TestAccountsServeTheRepositoriesTheyAreFor(t *testing.T) {
	yes := true
	rule := func(pattern string, accounts ...config.Account) config.RepositoryRule {
		p, err := oci.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return config.RepositoryRule{Pattern: p, Access: config.AccessRule{Accounts: append([]config.Account{}, accounts...), Public: &yes}}
	}
	c := startCorp(t, registrytest.SchemeBearer, func(u *config.Upstream) {
		u.PassThrough = false
		u.Username, u.Password, u.Public = "bob", config.NewSecret("builder"), true
		u.Repositories = []config.RepositoryRule{rule("team/a", config.Account{Username: "alice", Password: config.NewSecret("wonder")}), rule("open/*")}
	})
	for repo, user := range map[string]string{"team/a": "alice", "team/b": "bob", "open/pub": ""} {
		c.up.ResetCounts()
		if r := c.as(t, "", "GET", "/v2/corp.test/"+repo+"/manifests/v1"); r.status != 200 {
			t.Errorf("%s: %d %s", repo, r.status, r.body)
		}
		for _, other := range []string{"alice", "bob", ""} {
			if n := c.up.CountUser(registrytest.KindToken, other); (n > 0) != (other == user) {
				t.Errorf("%s: %d tokens for %q", repo, n, other)
			}
		}
	}
	if r := c.as(t, "", "GET", "/v2/"); r.status != 200 {
		t.Errorf("a mirror without pass_through asks at the ping: %d", r.status)
	}
}

// TestAccountsOfNobodyServeNobody: the configuration is refused before it comes to
// this.
func TestAccountsOfNobodyServeNobody(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, func(u *config.Upstream) {
		u.PassThrough = false
		u.Accounts = []config.Account{{Username: "bob", Password: config.NewSecret("builder")}}
	})
	for _, who := range []string{"", "bob:builder"} {
		if r := c.as(t, who, "GET", "/v2/corp.test/team/b/manifests/v1"); r.status != 404 {
			t.Errorf("%q got %d", who, r.status)
		}
	}
	if n := c.up.Count(registrytest.KindAny); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

// TestPrivateAndPublicAtOneAddress: the ping asks, and who says nothing still gets
// what is public.
func TestPrivateAndPublicAtOneAddress(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	for path, status := range map[string]int{"/v2/": 401, "/corp.test/v2/": 401, "/quay.io/v2/": 200, "/v2/?ns=quay.io": 200, "/v2/?ns=corp.test": 401} {
		if r := c.as(t, "", "GET", path); r.status != status {
			t.Errorf("%s: %d", path, r.status)
		}
		if r := c.as(t, "alice:wonder", "GET", path); r.status != 200 {
			t.Errorf("%s as alice: %d", path, r.status)
		}
	}
	if r := c.as(t, "", "GET", "/v2/corp.test/open/pub/manifests/v1"); r.status != 200 {
		t.Errorf("public: %d", r.status)
	}
}

// TestOneCrossingForAllWhoMay: clients of different names share a fetch, each after
// its own permission.
func TestOneCrossingForAllWhoMay(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	d := c.up.AddBlob("team/a", 3_000_000, 77).Digest
	var all sync.WaitGroup
	for range 5 {
		for who, want := range map[string]int{"alice:wonder": 200, "carol:singer": 200, "bob:builder": 404, "": 401, "alice:x": 401} {
			all.Go(func() {
				r := c.as(t, who, "GET", "/v2/corp.test/team/a/blobs/"+d.String())
				if r.status != want || want == 200 && !d.Verify(r.body) {
					t.Errorf("%q: %d, %d bytes", who, r.status, len(r.body))
				}
			})
		}
	}
	all.Wait()
	if n := c.up.BytesSentOf(d); n != 3_000_000 {
		t.Errorf("%d bytes crossed", n)
	}
	for _, who := range []string{"alice", "carol"} {
		asked := 0
		for _, req := range c.up.Requests() {
			if req.User == who && req.Method == http.MethodHead && req.Kind == registrytest.KindBlob {
				asked++
			}
		}
		if asked == 0 {
			t.Errorf("%s was not permitted by the registry", who)
		}
	}
}

// TestWithoutAnAnswerOfTheRegistryPermissionsLastAndNoneIsGiven has a registry that
// is away.
func TestWithoutAnAnswerOfTheRegistryPermissionsLastAndNoneIsGiven(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	c.warm(t)
	c.up.Close()
	path := "/v2/corp.test/team/a/blobs/" + c.known["team/a"].Layers[0][0].Digest.String()
	for who, want := range map[string]int{"alice:wonder": 200, "carol:singer": 503, "bob:builder": 503, "": 503} {
		if r := c.as(t, who, "GET", path); r.status != want {
			t.Errorf("%q: %d %.200s", who, r.status, r.body)
		}
	}
}

// TestNamingAPrivateBlobDoesNotOpenIt, through the whole mirror: somebody pushes a
// manifest that names it to a registry where everybody may. The second time, the
// index was lost with what it knew of where the bytes came from.
func TestNamingAPrivateBlobDoesNotOpenIt(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	secret := c.known["team/a"].Layers[0][0]
	c.other.AddManifest("evil/app", "v1", oci.MediaTypeImageManifest, fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`, oci.MediaTypeImageManifest, secret.Digest, secret.Size))
	c.warm(t)
	for _, index := range []string{"kept", "lost"} {
		if index == "lost" {
			c.end(t)
			if err := os.Remove(filepath.Join(c.conf.Data.Dir, app.IndexFile)); err != nil {
				t.Fatal(err)
			}
			c.mirror = serve(t, c.conf)
		}
		if r := c.get(t, "/v2/evil.test/evil/app/manifests/v1"); r.status != 200 {
			t.Fatalf("index %s: manifest: %d %s", index, r.status, r.body)
		}
		if r := c.get(t, "/v2/evil.test/evil/app/blobs/"+secret.Digest.String()); r.status != 404 {
			t.Errorf("index %s: got %d, %d bytes", index, r.status, len(r.body))
		}
		before := c.up.BytesSentOf(secret.Digest)
		if r := c.as(t, "alice:wonder", "GET", "/v2/corp.test/team/a/blobs/"+secret.Digest.String()); r.status != 200 || c.up.BytesSentOf(secret.Digest) != before {
			t.Errorf("index %s: alice got %d, and bytes crossed again", index, r.status)
		}
	}
}
