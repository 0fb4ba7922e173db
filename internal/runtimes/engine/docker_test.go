package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sampan/internal/oci"
)

const (
	testID     = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	otherID    = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	testDigest = "sha256:abcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd"
)

// fakeDocker is an engine of API 1.41, as Docker 20.10 is. It holds names and nothing
// else, and can be told to fail.
type fakeDocker struct {
	mu     sync.Mutex
	names  map[string]string // to IDs
	asked  []string
	auth   string // the header of the last pull
	refuse string // "METHOD /path-suffix" that fails
	said   string // error in the stream of a pull
	stall  chan struct{}
}

func startFakeDocker(t *testing.T, names map[string]string) (*fakeDocker, *dockerEngine) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // of the locks
	f := &fakeDocker{names: names}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	home := t.TempDir()
	e, err := Find(t.Context(), Options{Kind: Docker, Address: "tcp://" + server.Listener.Addr().String(), Getenv: environment(map[string]string{"HOME": home})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return f, e.(*dockerEngine)
}

func environment(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

func (f *fakeDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1.41")
	f.asked = append(f.asked, r.Method+" "+path)
	w.Header().Set("Api-Version", "1.41")
	fail := func(status int, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"message": message})
	}
	q := r.URL.Query()
	name, _ := strings.CutPrefix(path, "/images/")
	switch {
	case path == "/_ping":
	case f.refuse != "" && strings.HasPrefix(r.Method+" "+path, f.refuse) && (f.refuse != "POST /images/" || strings.HasSuffix(path, "/tag")):
		fail(http.StatusInternalServerError, "refused by the test")
	case path == "/version":
		json.NewEncoder(w).Encode(map[string]string{"ApiVersion": "1.41"})
	case path == "/images/create":
		f.auth = r.Header.Get("X-Registry-Auth")
		f.pull(w, r, q.Get("fromImage"), q.Get("tag"))
	case strings.HasSuffix(name, "/json"):
		name = strings.TrimSuffix(name, "/json")
		id, ok := f.names[name]
		if !ok {
			fail(http.StatusNotFound, "no such image: "+name)
			return
		}
		repository := name[:strings.LastIndexAny(name, ":@")]
		json.NewEncoder(w).Encode(map[string]any{"Id": id, "RepoDigests": []string{"elsewhere/x@" + otherID, repository + "@" + testDigest}})
	case strings.HasSuffix(name, "/tag"):
		f.names[q.Get("repo")+":"+q.Get("tag")] = strings.TrimSuffix(name, "/tag")
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodDelete:
		if _, ok := f.names[name]; !ok {
			fail(http.StatusNotFound, "no such image: "+name)
			return
		}
		delete(f.names, name)
		fmt.Fprint(w, `[{"Untagged":"x"}]`)
	default:
		fail(http.StatusNotFound, "the fake has no "+path)
	}
}

// pull is called with the lock, which it gives away while it stalls.
func (f *fakeDocker) pull(w http.ResponseWriter, r *http.Request, repository, tag string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintln(w, `{"status":"Pulling from x","id":"latest"}`)
	fmt.Fprintln(w, `{"status":"Downloading","progressDetail":{"current":10,"total":20},"id":"aaaaaaaaaaaa"}`)
	fmt.Fprintln(w, `{"status":"Extracting","progressDetail":{"current":3,"units":"s"},"id":"aaaaaaaaaaaa"}`)
	fmt.Fprintln(w, `{"status":"Already exists","progressDetail":{},"id":"bbbbbbbbbbbb"}`)
	http.NewResponseController(w).Flush()
	if f.stall != nil {
		stall := f.stall
		f.mu.Unlock()
		close(stall)
		<-r.Context().Done()
		f.mu.Lock()
		return
	}
	if f.said != "" {
		json.NewEncoder(w).Encode(map[string]any{"errorDetail": map[string]string{"message": f.said}, "error": f.said})
		return
	}
	separator := ":"
	if strings.Contains(tag, ":") {
		separator = "@"
	}
	f.names[repository+separator+tag] = testID
	fmt.Fprintln(w, `{"status":"Digest: x"}`)
}

func (f *fakeDocker) held() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.names)
}

func testImage(t *testing.T, name string) Image {
	t.Helper()
	ref, err := oci.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return Image{Ref: ref, Mirror: "127.0.0.1:1/" + ref.String()}
}

func TestDockerHoldsTheOwnNameAlone(t *testing.T) {
	const at = "127.0.0.1:1/docker.io/library/tiny:1"
	for fact, c := range map[string]struct {
		image        string
		before, want map[string]string
		keep         bool
		kept         string
		existed      bool
		invented     bool
	}{
		"where nothing was":                    {image: "tiny:1", want: map[string]string{"docker.io/library/tiny:1": testID}},
		"where it is asked for by digest":      {image: "tiny@" + testDigest, want: map[string]string{"docker.io/library/tiny:sha256-abcdefabcdef": testID}, invented: true},
		"where tag and digest are given":       {image: "tiny:1@" + testDigest, want: map[string]string{"docker.io/library/tiny:1": testID}},
		"where the own name was something old": {image: "tiny:1", before: map[string]string{"docker.io/library/tiny:1": otherID}, want: map[string]string{"docker.io/library/tiny:1": testID}},
		"where the very image was": {
			image: "tiny:1", before: map[string]string{"docker.io/library/tiny:1": testID}, want: map[string]string{"docker.io/library/tiny:1": testID}, existed: true,
		},
		"but for the mirror's, where that was": {
			image: "tiny:1", before: map[string]string{at: otherID}, want: map[string]string{at: testID, "docker.io/library/tiny:1": testID}, kept: at,
		},
		"but for the mirror's, where that is wanted": {
			image: "tiny:1", want: map[string]string{at: testID, "docker.io/library/tiny:1": testID}, keep: true, kept: at,
		},
	} {
		t.Run(fact, func(t *testing.T) {
			if c.before == nil {
				c.before = map[string]string{}
			}
			f, d := startFakeDocker(t, c.before)
			d.options.KeepMirrorTag = c.keep
			got, err := d.Pull(t.Context(), testImage(t, c.image), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(f.held(), c.want) {
				t.Errorf("held are %v, want %v", f.held(), c.want)
			}
			if got.ID != testID || got.Digest != testDigest || got.Kept != c.kept || got.Existed != c.existed || got.Invented != c.invented {
				t.Errorf("the result is %+v", got)
			}
			if _, ok := c.want[got.Names[0]]; !ok {
				t.Errorf("the names are %v", got.Names)
			}
		})
	}
}

func TestDockerThatFailsLeavesTheNamesAsTheyWere(t *testing.T) {
	const own, at = "docker.io/library/tiny:1", "127.0.0.1:1/docker.io/library/tiny:1"
	for fact, c := range map[string]struct {
		refuse, said string
		step         Step
		hint         Hint
		want         map[string]string
	}{
		"when the image is not at the mirror": {said: "manifest unknown", step: StepPull, hint: HintMirrorDown, want: map[string]string{own: otherID}},
		"when it refuses to pull":             {refuse: "POST /images/create", step: StepPull, hint: HintMirrorDown, want: map[string]string{own: otherID}},
		"when it refuses to tag":              {refuse: "POST /images/", step: StepTag, want: map[string]string{own: otherID}},
		"but for the one it does not let go":  {refuse: "DELETE /images/", step: StepUntag, want: map[string]string{own: testID, at: testID}},
	} {
		t.Run(fact, func(t *testing.T) {
			f, d := startFakeDocker(t, map[string]string{own: otherID})
			f.refuse, f.said = c.refuse, c.said
			_, err := d.Pull(t.Context(), testImage(t, "tiny:1"), nil)
			var e *Error
			if !errors.As(err, &e) || e.Step != c.step || e.Hint != c.hint {
				t.Fatalf("the error is %v, want one at %s with hint %q", err, c.step, c.hint)
			}
			if want := cmpOr(c.said, "refused by the test"); !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
			if !maps.Equal(f.held(), c.want) {
				t.Errorf("held are %v, want %v", f.held(), c.want)
			}
		})
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestDockerPullThatIsGivenUpLeavesNoName(t *testing.T) {
	f, d := startFakeDocker(t, map[string]string{})
	f.stall = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.stall
		cancel()
	}()
	_, err := d.Pull(ctx, testImage(t, "tiny:1"), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if len(f.held()) != 0 {
		t.Errorf("held are %v", f.held())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.asked[len(f.asked)-1]; !strings.HasPrefix(last, "DELETE ") {
		t.Errorf("the mirror's name was not looked for at the end: %s", last)
	}
}

func TestDockerTellsOfLayersInBytes(t *testing.T) {
	_, d := startFakeDocker(t, map[string]string{})
	var events []Event
	if _, err := d.Pull(t.Context(), testImage(t, "tiny:1"), func(e Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	want := []Event{
		{Layer: "aaaaaaaaaaaa", Phase: Downloading, Current: 10, Total: 20},
		{Layer: "aaaaaaaaaaaa", Phase: Extracting}, // seconds are no bytes
		{Layer: "bbbbbbbbbbbb", Phase: Exists},
	}
	if !slices.Equal(events, want) {
		t.Errorf("events are %+v, want %+v", events, want)
	}
}

func TestDockerIsToldTheLoginAtTheMirrorOnly(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("kept:secret"))
	for fact, c := range map[string]struct {
		config, username string
		want             string
	}{
		"of the person's settings":     {username: "me", want: `{"username":"me","password":"mine","serveraddress":"127.0.0.1:1"}`},
		"that docker login kept":       {config: `{"auths":{"127.0.0.1:1":{"auth":"` + encoded + `"}}}`, want: `{"username":"kept","password":"secret","serveraddress":"127.0.0.1:1"}`},
		"not that of another host":     {config: `{"auths":{"docker.io":{"auth":"` + encoded + `"},"https://index.docker.io/v1/":{"auth":"` + encoded + `"}}}`},
		"none, where there is no file": {},
	} {
		t.Run(fact, func(t *testing.T) {
			f, d := startFakeDocker(t, map[string]string{})
			d.options.Username = c.username
			if c.username != "" {
				d.options.Password = "mine"
			}
			if c.config != "" {
				write(t, filepath.Join(d.options.Getenv("HOME"), ".docker", "config.json"), c.config)
			}
			if _, err := d.Pull(t.Context(), testImage(t, "tiny:1"), nil); err != nil {
				t.Fatal(err)
			}
			got, err := base64.URLEncoding.DecodeString(f.auth)
			if err != nil || string(got) != c.want {
				t.Errorf("the login is %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

// Two pulls of the same image, each of which would take the other's name for one that
// was there before.
func TestPullsOfOneImageFollowEachOther(t *testing.T) {
	f, d := startFakeDocker(t, map[string]string{})
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			if _, err := d.Pull(t.Context(), testImage(t, "tiny:1"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if want := map[string]string{"docker.io/library/tiny:1": testID}; !maps.Equal(f.held(), want) {
		t.Errorf("held are %v, want %v", f.held(), want)
	}
}
