package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sampan/internal/audit"
	"sampan/internal/config"
	"sampan/internal/upstream/local"
)

// reloadEvery is how often the configuration file is looked at.
const reloadEvery = time.Second

// errNoReload: nobody has said how the configuration is loaded.
var errNoReload = errors.New("this process cannot load its configuration again")

// Reload loads the configuration again and puts it into force. When anything is
// wrong with it, nothing changes and the error says what. What needs a restart is
// told in the log, and stays as it was. Requests and fetches that are running go
// on. Reloads follow one another.
func (a *App) Reload() error { return a.reload("signal") }

// reload is Reload, and tells the audit log by what it came: a signal, the file, or
// the admin listener.
func (a *App) reload(by string) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if err := a.audit.Reopen(); err != nil {
		a.o.Log.Error("audit log not opened anew", "err", err)
	}
	changes, err := a.replace()
	a.config.reloaded(err)
	if err != nil {
		a.audit.Record(audit.Event{Event: "reload_refused", Reason: err.Error(), Detail: map[string]string{"by": by}})
		return err
	}
	var fields []string
	for _, ch := range changes {
		fields = append(fields, ch.Field)
	}
	a.audit.Record(audit.Event{Event: "reloaded", Detail: map[string]any{"by": by, "changed": fields}})
	return nil
}

// replace puts a configuration that was loaded again into force. The caller holds
// reloading.
func (a *App) replace() ([]config.Change, error) {
	if a.o.Load == nil {
		return nil, errNoReload
	}
	c, err := a.o.Load()
	if err != nil {
		a.o.Log.Error("configuration refused, the one before stays", "err", err)
		return nil, err
	}
	before := a.serving.p.Load()
	changes, err := config.Compare(before.config, c)
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 && !readsFiles(c) {
		a.o.Log.Info("configuration loaded again, nothing has changed")
		return nil, nil
	}
	tasks, err := a.tasks(c)
	if err != nil {
		return nil, err
	}
	s, err := a.newServing(c, before)
	if err == nil {
		if err = s.face(a); err != nil {
			err = errors.Join(err, s.upstreams.closeOwn(before.upstreams))
		}
	}
	if err != nil {
		a.o.Log.Error("configuration not put into force, the one before stays", "err", err)
		return nil, err
	}
	a.limiter.Set(clientLimits(c))
	a.serving.p.Store(s)
	s.upstreams.begin()
	if err := a.limitStore(c); err != nil {
		a.o.Log.Error("shares of the disk stay as they were", "err", err)
	}
	if err := a.schedule.Set(context.Background(), tasks); err != nil {
		a.o.Log.Error("tasks stay as they were", "err", err)
	}
	a.edge.Bound(bounds(c))
	if a.o.SetLog != nil {
		a.o.SetLog(c.Log)
	}
	a.edge.Know(s.names.Registries())
	a.cache.Know(s.names.Registries())
	a.retire(before.upstreams.replaced(s.upstreams))
	a.cache.Forget() // a refusal may have been about what has changed
	a.tell(changes)
	return changes, nil
}

// tell logs what has changed.
func (a *App) tell(changes []config.Change) {
	for _, ch := range changes {
		attrs := []any{"field", ch.Field, "before", ch.Before, "after", ch.After}
		if slices.ContainsFunc(a.fixed(), func(f string) bool {
			return ch.Field == f || strings.HasPrefix(ch.Field, f+".") || strings.HasPrefix(ch.Field, f+"[")
		}) {
			a.o.Log.Warn("configuration changed, takes effect after a restart", attrs...)
			continue
		}
		a.o.Log.Info("configuration changed", attrs...)
	}
}

// fixed are the settings that a restart puts into force.
func (a *App) fixed() []string {
	list := []string{"listen", "tls", "proxy_protocol", "admin", "data", "fetch", "offline", "shutdown", "log.audit", "tracing"}
	if a.o.SetLog == nil {
		list = append(list, "log")
	}
	return list
}

// readsFiles tells whether files stand behind a configuration that may have changed
// though it has not, and are not looked at by themselves.
func readsFiles(c *config.Config) bool {
	return c.TokenKeyFile != "" ||
		slices.ContainsFunc(c.Issuers, func(i config.Issuer) bool { return i.CAFile != "" }) ||
		slices.ContainsFunc(c.Upstreams, func(u config.Upstream) bool { return u.Egress.Inherit(c.Egress).ReadsFiles() })
}

// watch reloads when the content of the configuration file has changed and stays
// so for two looks, until ctx is done: a file that is being written is not taken
// for what it will be. Links that change, as Kubernetes makes them, are seen.
func (a *App) watch(ctx context.Context) {
	file := a.o.Config.File
	if file == "" || a.o.Load == nil {
		return
	}
	last := a.o.Config.FileSum // it may have changed since it was read
	seen := last
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := digestOf(file)
		if now == seen && now != last && now != [sha256.Size]byte{} {
			last = now
			_ = a.reload("file") // it has told the log
		}
		seen = now
	}
}

// digestOf is that of the file's content; zero when it cannot be read.
func digestOf(file string) [sha256.Size]byte {
	b, err := os.ReadFile(file)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(b)
}

// A retired registry was replaced and may still be in use.
type retired struct {
	registry
	since time.Time
}

// retire has registries closed when nobody uses them any more.
func (a *App) retire(list []registry) {
	a.retiring.Lock()
	defer a.retiring.Unlock()
	for _, r := range list {
		if l, ok := r.(*local.Upstream); ok {
			l.Leave() // who took the disk out of the configuration wants to take it away
		}
		a.retired = append(a.retired, retired{r, time.Now()})
	}
}

// sweep closes those that were replaced before everything that runs began.
func (a *App) sweep(now time.Time) {
	oldest := now
	if running := a.fills.Running(); len(running) > 0 {
		oldest = running[0].Since
	}
	a.retiring.Lock()
	defer a.retiring.Unlock()
	a.retired = slices.DeleteFunc(a.retired, func(r retired) bool {
		if now.Sub(r.since) < retireAfter || !r.since.Add(time.Minute).Before(oldest) {
			return false
		}
		if err := r.Close(); err != nil {
			a.o.Log.Warn("upstream not closed", "upstream", r.Endpoint(), "err", err)
		}
		return true
	})
}

// sweepEvery is how often that is looked at.
const sweepEvery = time.Minute

func (a *App) sweeping(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			a.sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

// closeRetired closes all that are left.
func (a *App) closeRetired() error {
	a.retiring.Lock()
	defer a.retiring.Unlock()
	var errs []error
	for _, r := range a.retired {
		errs = append(errs, r.Close())
	}
	a.retired = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("upstreams that were replaced: %w", err)
	}
	return nil
}
