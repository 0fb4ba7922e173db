package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// Descriptions are those of all metrics, whether they have a value yet or not.
func (a *App) Descriptions() []string {
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		a.metrics.Describe(ch)
	}()
	var list []string
	for d := range ch {
		list = append(list, d.String())
	}
	return list
}

// AdminRoutes are those of the admin listener.
func (a *App) AdminRoutes() []string { return a.admin.Routes() }

// Admin is what the admin listener serves.
func (a *App) Admin() http.Handler { return a.admin }
