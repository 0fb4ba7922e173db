package dashboard

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"sampan/internal/admin"
	"sampan/internal/history"
	"sampan/internal/store"
)

// A span is a stretch of time that the overview may show, and in which steps.
type span struct {
	Name string
	For  time.Duration
	step time.Duration
}

func spans() []span {
	const day = 24 * time.Hour
	return []span{{"day", day, 15 * time.Minute}, {"week", 7 * day, 2 * time.Hour}, {"month", 30 * day, 6 * time.Hour}}
}

// overviewData is what the first page shows.
type overviewData struct {
	Usage   store.Usage
	Shown   int64 // bytes that count against the limit
	Full    float64
	Owners  []owner
	Fills   []fill
	Spans   []span
	Span    span
	Charts  []*chart       // none without a history
	Total   history.Counts // of the span
	Ratio   float64        // of bytes that were here among those sent
	Saved   int64          // bytes that did not come from upstreams
	Trouble int            // endpoints that are not asked
	Broken  bool           // the history could not be read
}

// An owner is an upstream's share of the disk.
type owner struct {
	Name string
	store.OwnerUsage
}

// A fill is a running fetch with how far it is.
type fill struct {
	admin.Fill
	Share float64       // of Size; 0 while that is not known
	Left  time.Duration // at its rate; 0: not known
}

func (d *Dashboard) running() []fill {
	var list []fill
	for _, f := range d.o.Fills() {
		one := fill{Fill: f}
		if f.Size > 0 {
			one.Share = min(1, float64(f.Bytes)/float64(f.Size))
			if f.BytesPerSecond > 0 {
				one.Left = time.Duration(float64(f.Size-f.Bytes) / float64(f.BytesPerSecond) * float64(time.Second))
			}
		}
		list = append(list, one)
	}
	return list
}

// fills is the part of the overview that a script replaces.
func (d *Dashboard) fills(*http.Request) (view, error) {
	return view{"fills", d.running()}, nil
}

func (d *Dashboard) overview(r *http.Request) (view, error) {
	u := d.o.Content.Usage()
	o := overviewData{Usage: u, Shown: u.Total(), Fills: d.running(), Spans: spans(), Span: spans()[0]}
	if u.Limit > 0 {
		o.Full = min(1, float64(o.Shown)/float64(u.Limit))
	}
	for name, usage := range u.Owners {
		if name != "" || usage.Blobs > 0 { // those that belong to no registry
			o.Owners = append(o.Owners, owner{name, usage})
		}
	}
	slices.SortFunc(o.Owners, func(a, b owner) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name)) })
	for _, u := range d.o.Upstreams() {
		for _, e := range u.Endpoints {
			if e.State != "up" {
				o.Trouble++
			}
		}
	}
	for _, s := range o.Spans {
		if s.Name == r.URL.Query().Get("span") {
			o.Span = s
		}
	}
	if d.o.History == nil {
		return view{"overview", o}, nil
	}
	to := d.o.Now().UTC()
	from := to.Add(-o.Span.For).Truncate(o.Span.step)
	points, err := d.o.History(r.Context(), from, to, o.Span.step)
	if err != nil {
		d.o.Log.WarnContext(r.Context(), "history not read", "err", err)
		o.Broken = true
		return view{"overview", o}, nil
	}
	for _, p := range points {
		o.Total = o.Total.And(p.Counts)
	}
	if o.Total.Served > 0 {
		o.Ratio = float64(o.Total.Cached) / float64(o.Total.Served)
	}
	o.Saved = max(0, o.Total.Served-o.Total.Fetched)
	o.Charts = charts(points, from, to, o.Span, u.Limit)
	return view{"overview", o}, nil
}
