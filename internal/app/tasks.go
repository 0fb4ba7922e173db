package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan/internal/admin"
	"sampan/internal/audit"
	"sampan/internal/config"
	"sampan/internal/inventory"
	"sampan/internal/prefetch"
	"sampan/internal/schedule"
	"sampan/internal/schedule/timetable"
)

// bringing is how many images of a task wait or come at once, and toldImages how many
// of those that do not come are told one by one.
const bringing, toldImages = 8, 5

// openSchedule makes what is done at set times.
func (a *App) openSchedule(c *config.Config) error {
	tasks, err := a.tasks(c)
	if err != nil {
		return err
	}
	a.schedule, err = schedule.New(schedule.Options{
		Notes: a.index, Log: a.o.Log, Registerer: a.metrics,
		Ended: func(t schedule.Task, r schedule.Result) {
			a.audit.Record(audit.Event{Event: "task", Reason: r.Error, Detail: map[string]any{
				"name": t.Name, "do": t.Do, "started": r.Started, "ended": r.Ended, "outcome": r.Outcome,
			}})
		},
	})
	if err != nil {
		return err
	}
	return a.schedule.Set(context.Background(), tasks)
}

// tasks are those of a configuration.
func (a *App) tasks(c *config.Config) ([]schedule.Task, error) {
	var list []schedule.Task
	for _, t := range c.Schedule {
		zone, err := timetable.Zone(t.Timezone)
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", t.Name, err)
		}
		times, err := timetable.Parse(t.Cron, zone)
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", t.Name, err)
		}
		run := map[string]func(context.Context, config.Task) (string, error){
			config.DoPurge: a.purgeTask, config.DoPrefetch: a.prefetchTask, config.DoScrub: a.scrubTask,
		}[t.Do]
		list = append(list, schedule.Task{
			Name: t.Name, Do: t.Do, Cron: t.Cron, Key: t.Cron + " " + t.Timezone, Times: times,
			Run: func(ctx context.Context) (string, error) { return run(ctx, t) },
		})
	}
	return list, nil
}

func (a *App) purgeTask(ctx context.Context, t config.Task) (string, error) {
	s := inventory.Selection{Filter: inventory.Filter{Registry: t.Registry, Pattern: t.Pattern}, Unused: time.Duration(t.Unused)}
	r, err := a.inventory.Purge(ctx, s, t.DryRun, nil)
	if err != nil {
		return "", err
	}
	verb := "deleted"
	if t.DryRun {
		verb = "would be deleted"
	}
	text := fmt.Sprintf("%d tags, %d manifests and %d blobs %s, %d bytes", r.Tags, r.Manifests, r.Blobs, verb, r.Bytes)
	if len(r.Kept) > 0 {
		text += fmt.Sprintf("; %d pinned ones stay", len(r.Kept))
	}
	return text, nil
}

func (a *App) prefetchTask(ctx context.Context, t config.Task) (string, error) {
	jobs, errs := make([]prefetch.Job, len(t.Images)), make([]error, len(t.Images))
	locate := a.newExplainer().Locate
	var group errgroup.Group
	group.SetLimit(bringing)
	var left atomic.Int64
	for i, image := range t.Images {
		group.Go(func() error {
			ref, _, err := locate(image)
			if err == nil {
				jobs[i], err = a.prefetch.Bring(ctx, ref, t.Platforms)
			}
			if err == nil && jobs[i].State != prefetch.Done {
				err = errors.New(strings.TrimSpace(string(jobs[i].State) + " " + jobs[i].Error))
			}
			if errs[i] = err; err != nil {
				left.Add(1)
			}
			return nil // the others come all the same
		})
	}
	_ = group.Wait() // always nil
	var blobs int
	var bytes int64
	for _, j := range jobs {
		blobs, bytes = blobs+j.BlobsDone, bytes+j.BytesDone
	}
	text := fmt.Sprintf("%d of %d images are here, %d blobs, %d bytes", len(jobs)-int(left.Load()), len(jobs), blobs, bytes)
	var reasons []string
	for i, err := range errs {
		if err != nil && len(reasons) < toldImages {
			reasons = append(reasons, t.Images[i]+": "+err.Error())
		}
	}
	if len(reasons) == 0 {
		return text, nil
	}
	return text, fmt.Errorf("%d images did not come: %s", left.Load(), strings.Join(reasons, "; "))
}

func (a *App) scrubTask(ctx context.Context, t config.Task) (string, error) {
	select {
	case <-a.store.Checked():
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	p, err := a.scrub.VerifyAt(ctx, int64(t.Rate), nil)
	return fmt.Sprintf("%d blobs and %d bytes read, %d removed that had rotted, %d could not be read", p.Blobs, p.Bytes, len(p.Rotten), p.Unreadable), err
}

// taskList is what the admin listener tells of tasks.
func (a *App) taskList() []admin.Task {
	list := []admin.Task{}
	for _, s := range a.schedule.Tasks() {
		t := admin.Task{Name: s.Name, Do: s.Do, Cron: s.Cron, Next: s.Next}
		if s.Last != nil {
			last := admin.TaskRun(*s.Last)
			t.Last = &last
		}
		list = append(list, t)
	}
	return list
}

// runTask begins a task because somebody asks for it.
func (a *App) runTask(r *http.Request, name string) error {
	err := a.schedule.RunNow(name)
	e := audit.Event{Event: "run_task", Method: r.Method, Path: r.URL.Path, Detail: map[string]string{"name": name}}
	if host, _, bad := net.SplitHostPort(r.RemoteAddr); bad == nil {
		e.Client = host
	}
	switch {
	case errors.Is(err, schedule.ErrNotFound):
		err = fmt.Errorf("%w: %s", admin.ErrNoTask, name)
	case err != nil:
		err = fmt.Errorf("%w: %w", admin.ErrTaskBusy, err)
	}
	if err != nil {
		e.Reason = err.Error()
	}
	a.audit.Record(e)
	return err
}
