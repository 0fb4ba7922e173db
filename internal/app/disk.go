package app

import (
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/config"
	"sampan/internal/store/disk"
	"sampan/internal/store/scrub"
)

// scrubFile is where the position of the scrub is kept within the data directory.
const scrubFile = "scrub"

func (a *App) openStore(c *config.Config) (err error) {
	a.store, err = disk.New(disk.Options{
		Dir: c.Data.Dir, Limits: diskLimits(c.Data, c.Upstreams), Counted: []string{IndexFile}, Log: a.o.Log,
	})
	return err
}

// limitStore puts the shares of upstreams into force, and leaves what needs a
// restart as it was.
func (a *App) limitStore(c *config.Config) error {
	return a.store.Limits(diskLimits(a.o.Config.Data, c.Upstreams))
}

func diskLimits(d config.Data, upstreams []config.Upstream) disk.Limits {
	l := disk.Limits{
		MaxSize: diskBound(d.MaxSize), SoftSize: diskBound(d.SoftSize),
		MinFree: int64(d.MinFree), MaxAge: time.Duration(d.MaxAge), Owners: make(map[string]disk.OwnerLimits),
	}
	for _, u := range upstreams {
		own := disk.OwnerLimits{MaxSize: diskBound(u.MaxSize), MinSize: diskBound(u.MinSize), MaxAge: time.Duration(u.MaxAge)}
		if own != (disk.OwnerLimits{}) {
			l.Owners[u.Registry.String()] = own
		}
	}
	return l
}

func diskBound(b config.Bound) disk.Bound {
	return disk.Bound{Bytes: int64(b.Bytes), Share: b.Percent / 100}
}

// watchStore makes the scrub and the metrics of the store.
func (a *App) watchStore(c *config.Config) (err error) {
	a.scrub, err = scrub.New(scrub.Options{
		Store: a.store, Rate: int64(c.Data.Scrub.Rate), Every: time.Duration(c.Data.Scrub.Every),
		State: filepath.Join(c.Data.Dir, scrubFile), Log: a.o.Log, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	return a.metrics.Register(&diskMetrics{store: a.store, serving: &a.serving, desc: describeDisk()})
}

// diskMetrics tell how full the disk is at the moment they are asked for.
type diskMetrics struct {
	store   *disk.Store
	serving *current // its registries are labels
	desc    map[string]*prometheus.Desc
}

func describeDisk() map[string]*prometheus.Desc {
	all := make(map[string]*prometheus.Desc)
	for _, m := range []struct{ name, help, label string }{
		{"sampan_store_bytes", "Bytes that count against data.max_size.", "state"},
		{"sampan_store_limit_bytes", "What the store may hold: hard, and soft, from where on it evicts in the background; 0 is no limit.", "limit"},
		{"sampan_store_blobs", "Complete blobs.", ""},
		{"sampan_store_pinned_bytes", "Bytes of complete blobs that are pinned.", ""},
		{"sampan_store_free_bytes", "Free bytes of the file system.", ""},
		{"sampan_store_registry_bytes", "Bytes of the blobs that were fetched for a registry.", "registry"},
		{"sampan_store_evicted_total", "Blobs that have left for want of room or for their age.", ""},
		{"sampan_store_evicted_bytes_total", "Their bytes.", ""},
	} {
		var labels []string
		if m.label != "" {
			labels = []string{m.label}
		}
		all[m.name] = prometheus.NewDesc(m.name, m.help, labels, nil)
	}
	return all
}

// Describe implements [prometheus.Collector].
func (m *diskMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range m.desc {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *diskMetrics) Collect(to chan<- prometheus.Metric) {
	u := m.store.Usage()
	gauge := func(name string, value int64, label ...string) {
		to <- prometheus.MustNewConstMetric(m.desc[name], prometheus.GaugeValue, float64(value), label...)
	}
	gauge("sampan_store_bytes", u.Complete, "complete")
	gauge("sampan_store_bytes", u.Partial, "partial")
	gauge("sampan_store_bytes", u.Reserved, "reserved")
	gauge("sampan_store_bytes", u.Index, "index")
	gauge("sampan_store_limit_bytes", u.Limit, "hard")
	gauge("sampan_store_limit_bytes", u.Soft, "soft")
	gauge("sampan_store_blobs", int64(u.Blobs))
	gauge("sampan_store_pinned_bytes", u.Pinned)
	if u.Free >= 0 {
		gauge("sampan_store_free_bytes", u.Free)
	}
	known, bytes := make(map[string]bool), make(map[string]int64)
	if s := m.serving.p.Load(); s != nil {
		for _, r := range s.names.Registries() {
			known[r.String()] = true
		}
	}
	for name, o := range u.Owners {
		if o.Blobs == 0 {
			continue
		}
		if !known[name] {
			name = "other"
		}
		bytes[name] += o.Bytes
	}
	for name, n := range bytes {
		gauge("sampan_store_registry_bytes", n, name)
	}
	blobs, n := m.store.Evicted()
	to <- prometheus.MustNewConstMetric(m.desc["sampan_store_evicted_total"], prometheus.CounterValue, float64(blobs))
	to <- prometheus.MustNewConstMetric(m.desc["sampan_store_evicted_bytes_total"], prometheus.CounterValue, float64(n))
}
