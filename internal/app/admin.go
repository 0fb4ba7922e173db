package app

import (
	"strings"

	"sampan/internal/admin"
	"sampan/internal/admin/dashboard"
	"sampan/internal/config"
)

// openAdmin makes what the operator's listener serves: the API, and the pages over it.
func (a *App) openAdmin(c *config.Config) (err error) {
	explainer := a.newExplainer()
	fills := a.fills // the field is cleared while the listener still answers
	o := admin.Options{
		Gatherer:  a.metrics,
		Fills:     func() []admin.Fill { return running(fills) },
		Upstreams: func() []admin.Upstream { return a.serving.p.Load().upstreams.status() },
		Explainer: explainer,
		Content:   a.content(explainer),
		Tasks:     a.taskList,
		RunTask:   a.runTask,
		Token:     c.Admin.Token.Reveal(),
		Reload:    func() error { return a.reload("admin") },
		History:   a.history.Points,
	}
	o.Dashboard, err = dashboard.New(dashboard.Options{
		Content: o.Content, Fills: o.Fills, Upstreams: o.Upstreams, Recent: o.Recent, Tasks: o.Tasks, RunTask: o.RunTask,
		History: o.History, Config: a.shownConfig, Token: o.Token, Log: a.o.Log,
	})
	if err != nil {
		return err
	}
	a.admin, err = admin.New(o)
	return err
}

// shownConfig is the configuration in force, without secrets.
func (a *App) shownConfig() string {
	var text strings.Builder
	if err := a.serving.p.Load().config.Show(&text); err != nil {
		return err.Error()
	}
	return text.String()
}
