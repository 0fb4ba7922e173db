package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sampan/internal/intake"
	"sampan/internal/inventory"
	"sampan/internal/oci"
	"sampan/internal/prefetch"
	"sampan/internal/store"
)

// Content is what is here, and what can be done with it. All but Intake are needed.
type Content struct {
	Inventory *inventory.Inventory
	Prefetch  *prefetch.Prefetcher
	// Intake takes images in that somebody brings; nil takes none.
	Intake *intake.Intake
	// Usage tells how full the store is.
	Usage func() store.Usage
	// Blobs lists what is stored.
	Blobs store.Lister
	// Verify reads all that is stored and removes what has rotted; progress is called
	// after each blob.
	Verify func(ctx context.Context, progress func(Verification)) (Verification, error)
	// Locate says what an image name means here, as a client would write it.
	Locate func(image string) (oci.Reference, Named, error)
	// Audit is told of every change that was asked for: what, about what, with what
	// result, and why it was not done. A dry run is none.
	Audit func(r *http.Request, act, about string, result any, err error)

	verifying verifying
}

const (
	// maxPage and usualPage bound what one answer lists.
	maxPage, usualPage = 1000, 100
	// maxBody bounds what is asked for in a body, in bytes.
	maxBody = 64 << 10
)

// register adds its paths.
func (c *Content) register(mux *routes) {
	get := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { reply(w, r, f) })
	}
	get("/api/v1/registries", func(r *http.Request) (any, error) {
		list, err := c.Inventory.Registries(r.Context())
		return map[string]any{"registries": list}, err
	})
	get("/api/v1/repositories", c.repositories)
	get("/api/v1/tags", c.tags)
	get("/api/v1/image", c.image)
	get("/api/v1/pins", func(r *http.Request) (any, error) {
		list, err := c.Inventory.Pins(r.Context())
		return map[string]any{"pins": list}, err
	})
	get("/api/v1/prefetches", func(*http.Request) (any, error) { return map[string]any{"prefetches": c.Prefetch.Jobs()}, nil })
	get("/api/v1/prefetches/{id}", func(r *http.Request) (any, error) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			return nil, prefetch.ErrNotFound
		}
		return c.Prefetch.Job(id)
	})
	get("/api/v1/blobs", c.blobs)
	get("/api/v1/blob", c.blob)
	mux.HandleFunc("POST /api/v1/verify", c.verify)
	if c.Intake != nil {
		c.registerIntake(mux)
	}
	get("/api/v1/usage", func(*http.Request) (any, error) { return c.Usage(), nil })

	change := func(pattern, act string, f func(r *http.Request) (about string, result any, err error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			about, result, err := f(r)
			if _, dry := result.(preview); !dry {
				c.Audit(r, act, about, result, err)
			}
			reply(w, r, func(*http.Request) (any, error) { return result, err })
		})
	}
	change("DELETE /api/v1/image", "delete", c.remove)
	change("DELETE /api/v1/repository", "delete", c.remove)
	change("POST /api/v1/purge", "purge", c.purge)
	change("PUT /api/v1/pins", "pin", func(r *http.Request) (string, any, error) { return c.pin(r, true) })
	change("DELETE /api/v1/pins", "unpin", func(r *http.Request) (string, any, error) { return c.pin(r, false) })
	change("POST /api/v1/prefetches", "prefetch", c.bring)
	change("DELETE /api/v1/prefetches/{id}", "cancel", func(r *http.Request) (string, any, error) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			err = prefetch.ErrNotFound
		} else {
			err = c.Prefetch.Cancel(id)
		}
		return r.PathValue("id"), map[string]any{}, err
	})
}

// errMistake is a mistake of whoever asks.
var (
	errMistake = errors.New("mistake in the request")
	// errVerifying: it is being done already.
	errVerifying = errors.New("all that is stored is being read already")
)

// reply answers with what f returns, or with its error as a sentence.
func reply(w http.ResponseWriter, r *http.Request, f func(r *http.Request) (any, error)) {
	v, err := f(r)
	status := http.StatusInternalServerError
	var e *oci.Error
	switch {
	case err == nil:
		sayJSON(w, v)
		return
	case errors.Is(err, inventory.ErrNotFound), errors.Is(err, store.ErrNotFound), errors.Is(err, prefetch.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, inventory.ErrPinned):
		status = http.StatusConflict
	case errors.Is(err, prefetch.ErrFull):
		status = http.StatusTooManyRequests
	case errors.Is(err, errMistake), errors.As(err, &e):
		status = http.StatusBadRequest
	case errors.Is(err, context.Canceled):
		return // whoever asked has left
	}
	say(w, status, err.Error())
}

// repositoryOf reads the parameter of that name.
func repositoryOf(r *http.Request, name string) (oci.Repository, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return oci.Repository{}, fmt.Errorf("%w: the parameter %s is needed", errMistake, name)
	}
	return oci.ParseRepository(s)
}

func pageOf(r *http.Request) (int, error) {
	s := r.URL.Query().Get("n")
	if s == "" {
		return usualPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPage {
		return 0, fmt.Errorf("%w: n is a number from 1 to %d", errMistake, maxPage)
	}
	return n, nil
}

// ParseFilter reads the parameters registry, pattern and search; what get returns empty
// chooses nothing.
func ParseFilter(get func(string) string) (f inventory.Filter, err error) {
	f.Search = get("search")
	if s := get("registry"); s != "" {
		if f.Registry, err = oci.ParseRegistry(s); err != nil {
			return f, err
		}
	}
	if s := get("pattern"); s != "" {
		if f.Pattern, err = oci.ParsePattern(s); err != nil {
			return f, fmt.Errorf("%w: %w", errMistake, err)
		}
	}
	return f, nil
}

func (c *Content) repositories(r *http.Request) (any, error) {
	f, err := ParseFilter(r.URL.Query().Get)
	if err != nil {
		return nil, err
	}
	n, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	var after oci.Repository
	if r.URL.Query().Get("after") != "" {
		if after, err = repositoryOf(r, "after"); err != nil {
			return nil, err
		}
	}
	list, err := c.Inventory.Repositories(r.Context(), f, after, n)
	names := make([]string, len(list))
	for i, repo := range list {
		names[i] = repo.String()
	}
	return map[string]any{"repositories": names}, err
}

func (c *Content) tags(r *http.Request) (any, error) {
	repo, err := repositoryOf(r, "repository")
	if err != nil {
		return nil, err
	}
	n, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	var after oci.Tag
	if s := r.URL.Query().Get("after"); s != "" {
		if after, err = oci.ParseTag(s); err != nil {
			return nil, err
		}
	}
	list, err := c.Inventory.Tags(r.Context(), repo, after, n)
	return map[string]any{"tags": list}, err
}

func (c *Content) image(r *http.Request) (any, error) {
	repo, err := repositoryOf(r, "repository")
	if err != nil {
		return nil, err
	}
	return c.Inventory.Image(r.Context(), repo, r.URL.Query().Get("reference"))
}

// remove deletes an image, or a repository where the path says so.
func (c *Content) remove(r *http.Request) (string, any, error) {
	repo, err := repositoryOf(r, "repository")
	if err != nil {
		return "", nil, err
	}
	reference := r.URL.Query().Get("reference")
	if whole := strings.HasSuffix(r.URL.Path, "/repository"); whole != (reference == "") {
		return repo.String(), nil, fmt.Errorf("%w: an image has a reference, and a repository has none", errMistake)
	}
	dry, err := dryOf(r.URL.Query().Get("dry_run"))
	if err != nil {
		return repo.String(), nil, err
	}
	report, err := c.Inventory.Delete(r.Context(), repo, reference, dry)
	return strings.TrimSpace(repo.String() + " " + reference), reported(report, dry), err
}

// A preview is what would be deleted: of that, no log tells.
type preview struct{ *inventory.Report }

// reported is the result of a deletion, or of the preview of one; nil where nothing was
// begun.
func reported(report *inventory.Report, dry bool) any {
	switch {
	case dry:
		return preview{report}
	case report == nil:
		return nil
	default:
		return report
	}
}

func dryOf(s string) (bool, error) {
	if s == "" {
		return false, nil
	}
	dry, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%w: dry_run is true or false", errMistake)
	}
	return dry, nil
}

// decode reads a body strictly.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errMistake, err)
	}
	return nil
}

func (c *Content) purge(r *http.Request) (string, any, error) {
	var asked struct {
		Registry string `json:"registry"`
		Pattern  string `json:"pattern"`
		Search   string `json:"search"`
		Unused   string `json:"unused"` // 720h; empty is whatever its age
		All      bool   `json:"all"`    // needed to purge without any other choice
		DryRun   bool   `json:"dry_run"`
	}
	if err := decode(r, &asked); err != nil {
		return "", nil, err
	}
	about := strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", asked.Registry, asked.Pattern, asked.Search, asked.Unused)), " ")
	f, err := ParseFilter(func(key string) string {
		return map[string]string{"registry": asked.Registry, "pattern": asked.Pattern, "search": asked.Search}[key]
	})
	if err != nil {
		return about, nil, err
	}
	s := inventory.Selection{Filter: f}
	if asked.Unused != "" {
		if s.Unused, err = time.ParseDuration(asked.Unused); err != nil || s.Unused < 0 {
			return about, nil, fmt.Errorf("%w: unused is a duration such as 720h", errMistake)
		}
	}
	if about == "" && !asked.All {
		return about, nil, fmt.Errorf("%w: this would purge everything; say all to mean it", errMistake)
	}
	report, err := c.Inventory.Purge(r.Context(), s, asked.DryRun, nil)
	return about, reported(report, asked.DryRun), err
}

func (c *Content) pin(r *http.Request, pinned bool) (string, any, error) {
	repo, err := repositoryOf(r, "repository")
	if err != nil {
		return "", nil, err
	}
	reference := r.URL.Query().Get("reference")
	err = c.Inventory.SetPin(r.Context(), repo, reference, pinned)
	return repo.String() + " " + reference, map[string]any{}, err
}

func (c *Content) bring(r *http.Request) (string, any, error) {
	var asked struct {
		Image     string   `json:"image"`
		Platforms []string `json:"platforms"`
	}
	if err := decode(r, &asked); err != nil {
		return "", nil, err
	}
	ref, _, err := c.Locate(asked.Image)
	if err != nil {
		return asked.Image, nil, err
	}
	job, err := c.Prefetch.Start(ref, asked.Platforms)
	return ref.String(), job, err
}
