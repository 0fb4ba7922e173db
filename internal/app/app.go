// Package app puts the rooms of the server together from a configuration, runs
// them, and stops them in order: no new requests, running responses end, running
// fetches keep what they have, names are written, the data directory is let go.
//
// It is the one place where packages learn of each other, and it holds no logic
// of its own.
package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"sampan/internal/access"
	"sampan/internal/access/rate"
	"sampan/internal/admin"
	"sampan/internal/audit"
	"sampan/internal/cache"
	"sampan/internal/config"
	"sampan/internal/edge"
	"sampan/internal/fill"
	"sampan/internal/history"
	"sampan/internal/intake"
	"sampan/internal/inventory"
	"sampan/internal/prefetch"
	"sampan/internal/refs/bolt"
	"sampan/internal/schedule"
	"sampan/internal/store/disk"
	"sampan/internal/store/scrub"
	"sampan/internal/tracing"
)

// IndexFile is the name of the index of names within the data directory.
const IndexFile = "index.db"

// Options of an [App]. Config and Log are needed.
type Options struct {
	Config *config.Config
	Log    *slog.Logger
	// Access receives one line per request; nil for none.
	Access *slog.Logger
	// Load loads the configuration again; nil means that it cannot be, so that
	// nothing changes while the process runs.
	Load func() (*config.Config, error)
	// SetLog has Log and Access take another form; nil means that they cannot.
	SetLog func(config.Log)
	// Stderr is where the audit log goes that is to go there; nil means nowhere.
	Stderr io.Writer
	// Version is told to upstreams and metrics; empty means "devel".
	Version string
}

// App is a mirror that is built and listening, and serves when Run is called.
type App struct {
	o Options

	metrics *prometheus.Registry
	store   *disk.Store
	scrub   *scrub.Scrubber
	index   *bolt.Index
	fills   *fill.Group
	cache   *cache.Cache
	edge    *edge.Edge
	admin   *admin.Admin
	guard   *access.Guard
	denials *access.Metrics
	limiter *rate.Limiter
	config  *configMetrics
	recent  admin.Incidents
	events  admin.Events
	started bool
	audit   *audit.Log        // nil without
	tracing *tracing.Provider // nil without

	inventory *inventory.Inventory
	history   *history.History
	prefetch  *prefetch.Prefetcher
	intake    *intake.Intake
	schedule  *schedule.Scheduler

	serving   current
	reloading sync.Mutex // held by the reload that is running
	retiring  sync.Mutex
	retired   []retired

	certificates  *edge.Certificates // of files; nil without
	acme          *edge.ACME         // nil without
	listeners     []edge.Listener
	adminListener net.Listener // nil when admin is off
}

// New opens the data directory and the listeners. What it opened is closed
// again when it fails.
func New(o Options) (*App, error) {
	if o.Config == nil || o.Log == nil {
		return nil, errors.New("app: Config and Log are needed")
	}
	if o.Version == "" {
		o.Version = "devel"
	}
	a := &App{o: o}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// open builds the rooms from the bottom up.
func (a *App) open() (err error) {
	c := a.o.Config
	if err = a.openStore(c); err != nil {
		return err
	}
	if a.index, err = bolt.Open(filepath.Join(c.Data.Dir, IndexFile), a.o.Log); err != nil {
		return err
	}
	tracer, err := a.observe(c)
	if err != nil {
		return err
	}
	a.metrics = prometheus.NewRegistry()
	if err := a.registerProcess(a.metrics); err != nil {
		return err
	}
	if err := a.watchStore(c); err != nil {
		return err
	}
	if a.fills, err = newFills(c, a.o, a.store, a.metrics, &a.events); err != nil {
		return err
	}
	a.guard = access.NewGuard()
	if a.denials, err = access.NewMetrics(a.metrics); err != nil {
		return err
	}
	if a.limiter, err = rate.New(a.metrics); err != nil {
		return err
	}
	a.limiter.Set(clientLimits(c))
	s, err := a.newServing(c, nil)
	if err != nil {
		return err
	}
	a.serving.p.Store(s)
	if err := a.distrust(s.private); err != nil {
		return err
	}
	a.cache, err = cache.New(cache.Options{
		Store:      a.store,
		Refs:       a.index,
		Fills:      a.fills,
		Upstream:   a.serving.reader,
		Private:    a.serving.private,
		Vouches:    a.serving.vouches,
		Policy:     a.serving.policy,
		Offline:    c.Offline,
		Prefetch:   c.Fetch.Prefetch,
		MaxSize:    a.store.Usage().Limit,
		Registerer: a.metrics,
		Registries: s.names.Registries(),
		Log:        a.o.Log,
	})
	if err != nil {
		return err
	}
	if err := s.face(a); err != nil {
		return err
	}
	a.edge, err = edge.New(edge.Options{
		Handler:    &a.serving,
		Log:        a.o.Log,
		Access:     a.o.Access,
		Denied:     a.denied,
		Failed:     a.failed,
		Tracer:     tracer,
		Registerer: a.metrics,
		Registries: s.names.Registries(),
		HSTS:       hsts(c),
	})
	if err != nil {
		return err
	}
	a.edge.Bound(bounds(c))
	if err := a.keepHouse(); err != nil {
		return err
	}
	if err := a.openHistory(); err != nil {
		return err
	}
	if err := a.openAdmin(c); err != nil {
		return err
	}
	if err := a.listen(); err != nil {
		return err
	}
	return a.registerCertificates(a.metrics)
}

// observe opens what tells of requests and acts: the audit log, and the tracer, which
// is nil without.
func (a *App) observe(c *config.Config) (tracer trace.Tracer, err error) {
	if a.audit, err = newAudit(c, a.o); err != nil || c.Tracing.Endpoint == "" {
		return nil, err
	}
	a.tracing, err = tracing.New(tracing.Options{Endpoint: c.Tracing.Endpoint, Sample: c.Tracing.Sample, Version: a.o.Version, Log: a.o.Log})
	if err != nil {
		return nil, err
	}
	return a.tracing.Tracer(), nil
}

// Addr is the first address that clients use.
func (a *App) Addr() string { return a.listeners[0].Addr().String() }

// AdminAddr is the address of health and metrics; empty when there is none.
func (a *App) AdminAddr() string {
	if a.adminListener == nil {
		return ""
	}
	return a.adminListener.Addr().String()
}

// Run serves until ctx is done and then stops everything. It must be called
// once; the App is of no use afterwards.
func (a *App) Run(ctx context.Context) error {
	a.warnOfNewIndex()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Health and metrics are there to the very end.
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	adminEnded := make(chan error, 1)
	go func() {
		err := a.serveAdmin(adminCtx)
		if err != nil {
			cancel() // an operator who asked for it must not lose it in silence
		}
		adminEnded <- err
	}()
	a.started = true
	a.serving.p.Load().upstreams.begin()
	a.audit.Record(audit.Event{Event: "started", Detail: map[string]string{"version": a.o.Version, "config": a.o.Config.File}})
	a.admin.SetReady(true)
	go func() {
		<-ctx.Done()
		a.admin.SetReady(false)
	}()
	var watching sync.WaitGroup
	if a.certificates != nil {
		watching.Go(func() { a.certificates.Watch(ctx, certificatesEvery) })
	}
	if a.acme != nil {
		watching.Go(func() {
			if err := a.acme.Run(ctx); err != nil {
				a.o.Log.Error("no certificates are got", "err", err)
			}
		})
	}
	watching.Go(func() { a.watch(ctx) })
	watching.Go(func() { a.sweeping(ctx) })
	watching.Go(func() { a.repinning(ctx) })
	watching.Go(func() { a.store.Run(ctx) })
	watching.Go(func() { a.history.Run(ctx) })
	watching.Go(func() { a.scrub.Run(ctx) })
	watching.Go(func() { a.schedule.Run(ctx) })
	err := a.edge.Serve(ctx, time.Duration(a.o.Config.Shutdown.Grace), a.listeners...)
	cancel()
	watching.Wait()
	a.listeners = nil // closed by their servers
	a.prefetch.Close()
	a.cache.Close()
	a.fills.Close()
	a.fills = nil
	stopAdmin()
	err = errors.Join(err, <-adminEnded)
	a.adminListener = nil
	return errors.Join(err, a.close())
}

func (a *App) serveAdmin(ctx context.Context) error {
	if a.adminListener == nil {
		return nil
	}
	srv := edge.NewServer(a.admin, a.o.Log)
	srv.BaseContext = func(net.Listener) context.Context { return ctx } // so that streams and long work end with it
	defer a.admin.Wait()
	return edge.Serve(ctx, a.adminListener, srv, time.Second)
}

// warnOfNewIndex tells when the names are gone and the blobs are not.
func (a *App) warnOfNewIndex() {
	if a.index.IsNew() && !a.store.IsNew() {
		a.o.Log.Warn("the index of names was missing and is made anew: tags and links are asked for again, blobs are used again",
			"file", filepath.Join(a.o.Config.Data.Dir, IndexFile))
	}
}

// close lets go of what is still open, in the order opposite to open.
func (a *App) close() error {
	var errs []error
	for _, ln := range a.listeners {
		errs = append(errs, ln.Close())
	}
	if a.adminListener != nil {
		errs = append(errs, a.adminListener.Close())
	}
	if a.acme != nil {
		a.acme.Close()
		a.acme = nil
	}
	if a.prefetch != nil {
		a.prefetch.Close()
	}
	if a.cache != nil {
		a.cache.Close()
	}
	if a.fills != nil {
		a.fills.Close()
	}
	if s := a.serving.p.Load(); s != nil {
		errs = append(errs, s.upstreams.close(), a.closeRetired())
	}
	if a.started {
		a.audit.Record(audit.Event{Event: "stopped"})
	}
	errs = append(errs, a.audit.Close(), a.tracing.Close())
	a.tracing = nil
	a.audit = nil
	if a.index != nil {
		errs = append(errs, a.index.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}
