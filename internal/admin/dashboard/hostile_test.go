package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/internal/admin"
	"sampan/internal/inventory"
	"sampan/internal/oci"
	"sampan/internal/prefetch"
	"sampan/internal/refs"
	"sampan/internal/refs/bolt"
	"sampan/internal/store"
)

// hostile is text that others may have chosen, and that must stay text.
const hostile = `</code><script>alert(1)</script>'"><img src=x onerror=alert(1)>`

// memory is what is here, in memory.
type memory map[oci.Digest][]byte

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

func (m memory) Open(_ context.Context, d oci.Digest) (store.Blob, error) {
	if b, ok := m[d]; ok {
		return content{bytes.NewReader(b)}, nil
	}
	return nil, store.ErrNotFound
}

func (m memory) Stat(_ context.Context, d oci.Digest) (int64, time.Time, error) {
	if b, ok := m[d]; ok {
		return int64(len(b)), noon, nil
	}
	return 0, time.Time{}, store.ErrNotFound
}

func (m memory) Delete(_ context.Context, d oci.Digest) error { delete(m, d); return nil }

func (memory) Pin(map[oci.Digest]struct{}) {}

func (m memory) put(t *testing.T, mediaType string, v any) oci.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := oci.DigestOf(b)
	m[d] = b
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// hostileBoard is a dashboard of which everything that others choose is hostile, with an
// image of repo whose config and annotations are.
func hostileBoard(t *testing.T, repo oci.Repository) *Dashboard {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	index, err := bolt.Open(filepath.Join(t.TempDir(), "index.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = index.Close() })
	here := memory{}
	config := here.put(t, "application/vnd.oci.image.config.v1+json", map[string]any{
		"os": hostile, "architecture": hostile,
		"history": []map[string]any{{"created_by": hostile, "comment": hostile}},
	})
	manifest := here.put(t, oci.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": config,
		"layers":      []any{map[string]any{"mediaType": hostile, "digest": config.Digest, "size": config.Size}},
		"annotations": map[string]string{hostile: hostile},
	})
	tag, err := oci.ParseTag("1")
	if err == nil {
		err = index.PutLinks(t.Context(), repo, manifest, config)
	}
	if err == nil {
		err = index.PutTag(t.Context(), repo, tag, refs.TagEntry{Manifest: manifest, Checked: noon})
	}
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.New(inventory.Options{Refs: index, Blobs: here, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := prefetch.New(prefetch.Options{Reader: oci.Reader(nil), Log: log})
	if err == nil {
		t.Cleanup(ahead.Close)
	}
	d, err := New(Options{
		Content: &admin.Content{
			Inventory: inv, Prefetch: ahead,
			Usage: func() store.Usage { return store.Usage{Owners: map[string]store.OwnerUsage{hostile: {Bytes: 1}}} },
		},
		Fills: func() []admin.Fill {
			return []admin.Fill{{Digest: manifest.Digest, Repositories: []string{hostile}, Size: 2}}
		},
		Upstreams: func() []admin.Upstream {
			return []admin.Upstream{{
				Registry:  hostile,
				Endpoints: []admin.Endpoint{{URL: "javascript:" + hostile, State: "down", Error: hostile}},
				Budgets:   []admin.Budget{{Account: hostile}},
			}}
		},
		Recent: func() []admin.Incident {
			return []admin.Incident{{Kind: hostile, Client: hostile, User: hostile, Repository: hostile, Reference: hostile, Code: hostile, Reason: hostile, Request: hostile}}
		},
		Tasks: func() []admin.Task {
			return []admin.Task{{Name: hostile, Do: "purge", Cron: hostile, Last: &admin.TaskRun{Ended: noon, Outcome: hostile, Error: hostile}}}
		},
		Config: func() string { return hostile },
		Log:    log, Now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatOthersChooseStaysText(t *testing.T) {
	repo, err := oci.ParseRepository("docker.io/library/app")
	if err != nil {
		t.Fatal(err)
	}
	d := hostileBoard(t, repo)
	for path, shown := range map[string]bool{
		"/": true, "/fills": true, "/upstreams": true, "/recent": true, "/tasks": true, "/configuration": true,
		"/content/image?repository=docker.io/library/app&reference=1":    true,
		"/content/repository?repository=docker.io/library/app":           false,
		"/delete?repository=docker.io/library/app&reference=1":           false,
		"/content?search=" + "%3C/code%3E%3Cscript%3Ealert(1)%3C/script": true,
	} {
		for _, lang := range []string{"en", "zh-CN"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:5001"+path, nil)
			r.RemoteAddr = "127.0.0.1:4321"
			r.Header.Set("Accept-Language", lang)
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			text := w.Body.String()
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", path, w.Code, text)
			}
			for _, bad := range []string{"<script>", "<img src=x", `href="javascript:`} {
				if strings.Contains(text, bad) {
					t.Errorf("%s in %s has %q:\n%s", path, lang, bad, text)
				}
			}
			if got := strings.Contains(text, "&lt;script&gt;alert(1)"); got != shown {
				t.Errorf("%s in %s shows the text: %v, want %v", path, lang, got, shown)
			}
			if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'") {
				t.Errorf("%s: %s", path, policy)
			}
		}
	}
}

// Who has not logged in is not offered to log out.
func TestTheLoginOffersNothingElse(t *testing.T) {
	repo, err := oci.ParseRepository("docker.io/library/app")
	if err != nil {
		t.Fatal(err)
	}
	o := hostileBoard(t, repo).o
	o.Token = "secret"
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://mirror.example:5001/recent", nil))
	text := w.Body.String()
	if w.Code != http.StatusUnauthorized || !strings.Contains(text, `action="/login"`) || strings.Contains(text, "/logout") || strings.Contains(text, "alert(1)") {
		t.Errorf("%d %s", w.Code, text)
	}
}

// Long lists are cut into pages that together have everything once.
func TestIncidentsArePaged(t *testing.T) {
	const n = 3*pageSize - 10
	d := hostileBoard(t, func() oci.Repository { r, _ := oci.ParseRepository("docker.io/library/app"); return r }())
	var all []admin.Incident
	for i := range n {
		all = append(all, admin.Incident{Kind: admin.IncidentError, Status: 502, Time: noon, Reason: fmt.Sprintf("reason-%03d.", i)})
	}
	d.o.Recent = func() []admin.Incident { return all }
	seen := map[string]int{}
	pages, path := 0, "/recent?kind=error"
	for path != "" {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:5001"+path, nil)
		r.RemoteAddr = "127.0.0.1:4321"
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		text := w.Body.String()
		for i := range n {
			seen[fmt.Sprintf("reason-%03d.", i)] += strings.Count(text, fmt.Sprintf("reason-%03d.", i))
		}
		path = ""
		if _, rest, ok := strings.Cut(text, `<a class="button plain" href="?`); ok {
			query, _, _ := strings.Cut(rest, `"`)
			path = "/recent?" + strings.ReplaceAll(query, "&amp;", "&")
		}
		if pages++; pages > 5 {
			t.Fatal("the pages do not end")
		}
	}
	for reason, times := range seen {
		if times != 1 {
			t.Errorf("%s is shown %d times", reason, times)
		}
	}
	if pages != 3 || len(seen) != n {
		t.Errorf("%d pages of %d incidents", pages, len(seen))
	}
}
