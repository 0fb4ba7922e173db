package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sampan/internal/admin"
	"sampan/internal/inventory"
	"sampan/internal/prefetch"
)

type prefetchData struct {
	Image string
	Jobs  []prefetch.Job // the newest first
}

func (d *Dashboard) prefetches(r *http.Request) (view, error) {
	jobs := d.o.Content.Prefetch.Jobs()
	slices.Reverse(jobs)
	return view{"prefetch", prefetchData{r.URL.Query().Get("image"), jobs[:min(len(jobs), pageSize)]}}, nil
}

func (d *Dashboard) prefetch(r *http.Request) (string, error) {
	name := strings.TrimSpace(r.PostFormValue("image"))
	ref, _, err := d.o.Content.Locate(name)
	if err != nil {
		d.o.Content.Audit(r, "prefetch", name, nil, err)
		return "", mistake(err)
	}
	platforms := strings.FieldsFunc(r.PostFormValue("platforms"), func(c rune) bool { return c == ',' || c == ' ' })
	job, err := d.o.Content.Prefetch.Start(ref, platforms)
	d.o.Content.Audit(r, "prefetch", ref.String(), job, err)
	return "/prefetch", err
}

func (d *Dashboard) cancel(r *http.Request) (string, error) {
	id, err := strconv.Atoi(r.PostFormValue("id"))
	if err != nil {
		return "", mistake(err)
	}
	err = d.o.Content.Prefetch.Cancel(id)
	d.o.Content.Audit(r, "cancel", strconv.Itoa(id), nil, err)
	return "/prefetch", err
}

// purgeData is what is chosen to be purged.
type purgeData struct {
	Registry, Pattern, Search, Days string
	Registries                      []inventory.Registry
	Report                          *inventory.Report // of the dry run; nil before
	Done                            bool              // it was purged just now
}

// selection reads the form of a purge. Everything is never meant by leaving all empty.
func selection(get func(string) string) (inventory.Selection, purgeData, error) {
	p := purgeData{Registry: get("registry"), Pattern: strings.TrimSpace(get("pattern")), Search: strings.TrimSpace(get("search")), Days: strings.TrimSpace(get("days"))}
	f, err := admin.ParseFilter(func(name string) string {
		return map[string]string{"registry": p.Registry, "pattern": p.Pattern, "search": p.Search}[name]
	})
	if err != nil {
		return inventory.Selection{}, p, mistake(err)
	}
	s := inventory.Selection{Filter: f}
	if p.Days != "" {
		days, err := strconv.Atoi(p.Days)
		if err != nil || days < 0 || days > maxDays {
			return s, p, mistake(errors.New("days is a whole number from 0 to 3650"))
		}
		s.Unused = time.Duration(days) * 24 * time.Hour
	}
	if p.Registry+p.Pattern+p.Search == "" && s.Unused == 0 {
		return s, p, mistake(errors.New("nothing is chosen"))
	}
	return s, p, nil
}

const maxDays = 3650

// previewPurge shows the form, and what would go when it was filled in.
func (d *Dashboard) previewPurge(r *http.Request) (v view, err error) {
	q := r.URL.Query()
	p := purgeData{Days: "30"}
	if q.Has("days") {
		var s inventory.Selection
		if s, p, err = selection(q.Get); err != nil {
			return v, err
		}
		p.Done = q.Has("done")
		if p.Report, err = d.o.Content.Inventory.Purge(r.Context(), s, true, nil); err != nil {
			return v, err
		}
	}
	p.Registries, err = d.o.Content.Inventory.Registries(r.Context())
	return view{"purge", p}, err
}

func (d *Dashboard) purge(r *http.Request) (string, error) {
	s, p, err := selection(r.PostFormValue)
	if err != nil {
		return "", err
	}
	report, err := d.o.Content.Inventory.Purge(r.Context(), s, false, nil)
	d.o.Content.Audit(r, "purge", strings.Join(strings.Fields(p.Registry+" "+p.Pattern+" "+p.Search+" "+p.Days+"d"), " "), report, err)
	if err != nil {
		return "", err
	}
	q := url.Values{"registry": {p.Registry}, "pattern": {p.Pattern}, "search": {p.Search}, "days": {p.Days}, "done": {"1"}}
	return "/purge?" + q.Encode(), nil
}

func (d *Dashboard) upstreams(*http.Request) (view, error) {
	return view{"upstreams", d.o.Upstreams()}, nil
}

type recentData struct {
	Kind string // empty for all
	Rows []admin.Incident
	Next string // how many to leave out on the next page; empty at the end
}

// recent lists what went wrong. What comes in between two pages moves the rest down.
func (d *Dashboard) recent(r *http.Request) (view, error) {
	q := r.URL.Query()
	p := recentData{Kind: q.Get("kind")}
	after := 0
	if s := q.Get("after"); s != "" {
		var err error
		if after, err = strconv.Atoi(s); err != nil || after < 0 {
			return view{}, mistake(errors.New("after is a whole number"))
		}
	}
	n := 0
	for _, i := range d.o.Recent() {
		if p.Kind != "" && p.Kind != i.Kind {
			continue
		}
		if n++; n <= after {
			continue
		}
		if len(p.Rows) == pageSize {
			p.Next = strconv.Itoa(after + pageSize)
			break
		}
		p.Rows = append(p.Rows, i)
	}
	return view{"recent", p}, nil
}

func (d *Dashboard) tasks(*http.Request) (view, error) {
	return view{"tasks", struct {
		Tasks []admin.Task
		Run   bool
	}{d.o.Tasks(), d.o.RunTask != nil}}, nil
}

func (d *Dashboard) runTask(r *http.Request) (string, error) {
	return "/tasks", d.o.RunTask(r, r.PostFormValue("name"))
}

func (d *Dashboard) configuration(*http.Request) (view, error) {
	return view{"configuration", d.o.Config()}, nil
}
