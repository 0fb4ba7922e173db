package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sampan/internal/admin"
	"sampan/internal/inventory"
	"sampan/internal/oci"
)

// pageSize is how many rows a page lists.
const pageSize = 50

// A list is what a page shows of something longer.
type list[T any] struct {
	Rows []T
	Next string // what comes behind; empty at the end
}

// cut makes a list of one row more than it shows, if there is one.
func cut[T any](rows []T, name func(T) string) list[T] {
	if len(rows) <= pageSize {
		return list[T]{Rows: rows}
	}
	return list[T]{rows[:pageSize], name(rows[pageSize-1])}
}

type contentData struct {
	Search, Registry string
	Registries       []inventory.Registry
	Repositories     list[oci.Repository]
}

// content lists repositories.
func (d *Dashboard) content(r *http.Request) (view, error) {
	q := r.URL.Query()
	c := contentData{Search: strings.TrimSpace(q.Get("search")), Registry: q.Get("registry")}
	f, err := admin.ParseFilter(func(name string) string {
		return map[string]string{"search": c.Search, "registry": c.Registry}[name]
	})
	if err != nil {
		return view{}, mistake(err)
	}
	var after oci.Repository
	if s := q.Get("after"); s != "" {
		if after, err = oci.ParseRepository(s); err != nil {
			return view{}, mistake(err)
		}
	}
	if c.Registries, err = d.o.Content.Inventory.Registries(r.Context()); err != nil {
		return view{}, err
	}
	repos, err := d.o.Content.Inventory.Repositories(r.Context(), f, after, pageSize+1)
	c.Repositories = cut(repos, oci.Repository.String)
	return view{"content", c}, err
}

func mistake(err error) error { return fmt.Errorf("%w: %w", errMistake, err) }

type repositoryData struct {
	Repository oci.Repository
	Tags       list[inventory.Tag]
}

// repository lists the tags of one.
func (d *Dashboard) repository(r *http.Request) (view, error) {
	q := r.URL.Query()
	repo, err := oci.ParseRepository(q.Get("repository"))
	if err != nil {
		return view{}, mistake(err)
	}
	var after oci.Tag
	if s := q.Get("after"); s != "" {
		if after, err = oci.ParseTag(s); err != nil {
			return view{}, mistake(err)
		}
	}
	tags, err := d.o.Content.Inventory.Tags(r.Context(), repo, after, pageSize+1)
	return view{"repository", repositoryData{Repository: repo, Tags: cut(tags, func(t inventory.Tag) string { return t.Name.String() })}}, err
}

type imageData struct {
	*inventory.Image
	Reference string // as it was asked for
	Name      string // of the whole, for people
}

// image shows a manifest.
func (d *Dashboard) image(r *http.Request) (view, error) {
	repo, reference, err := named(r.URL.Query())
	if err != nil {
		return view{}, err
	}
	img, err := d.o.Content.Inventory.Image(r.Context(), repo, reference)
	if err != nil {
		return view{}, err
	}
	return view{"image", imageData{img, reference, fullName(repo, reference)}}, nil
}

// named reads the parameters repository and reference.
func named(q url.Values) (oci.Repository, string, error) {
	repo, err := oci.ParseRepository(q.Get("repository"))
	if err != nil {
		return repo, "", mistake(err)
	}
	return repo, q.Get("reference"), nil
}

// fullName is that of an image, or of the repository for an empty reference.
func fullName(repo oci.Repository, reference string) string {
	switch {
	case reference == "":
		return repo.String()
	case strings.Contains(reference, ":"):
		return repo.String() + "@" + reference
	}
	return repo.String() + ":" + reference
}

// place is the page of an image or repository.
func place(repo oci.Repository, reference string) string {
	q := url.Values{"repository": {repo.String()}}
	if reference == "" {
		return "/content/repository?" + q.Encode()
	}
	q.Set("reference", reference)
	return "/content/image?" + q.Encode()
}

type deleteData struct {
	Repository oci.Repository
	Reference  string
	Name       string
	Report     *inventory.Report
}

// confirmDelete shows what would go.
func (d *Dashboard) confirmDelete(r *http.Request) (view, error) {
	repo, reference, err := named(r.URL.Query())
	if err != nil {
		return view{}, err
	}
	report, err := d.o.Content.Inventory.Delete(r.Context(), repo, reference, true)
	return view{"delete", deleteData{repo, reference, fullName(repo, reference), report}}, err
}

func (d *Dashboard) delete(r *http.Request) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", mistake(err)
	}
	repo, reference, err := named(r.PostForm)
	if err != nil {
		return "", err
	}
	report, err := d.o.Content.Inventory.Delete(r.Context(), repo, reference, false)
	d.o.Content.Audit(r, "delete", strings.TrimSpace(repo.String()+" "+reference), report, err)
	if err != nil {
		return "", err
	}
	if _, err := d.o.Content.Inventory.Tags(r.Context(), repo, oci.Tag{}, 1); reference == "" || err != nil {
		return "/content", nil //nolint:nilerr // it is gone, and its page with it
	}
	return place(repo, ""), nil
}

func (d *Dashboard) pin(r *http.Request, pinned bool) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", mistake(err)
	}
	repo, reference, err := named(r.PostForm)
	if err != nil {
		return "", err
	}
	if reference == "" {
		return "", mistake(errors.New("the reference is missing"))
	}
	act := "pin"
	if !pinned {
		act = "unpin"
	}
	err = d.o.Content.Inventory.SetPin(r.Context(), repo, reference, pinned)
	d.o.Content.Audit(r, act, repo.String()+" "+reference, nil, err)
	return place(repo, reference), err
}
