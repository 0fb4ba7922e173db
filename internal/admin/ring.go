package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// RecentIncidents is how many of them are kept.
const RecentIncidents = 500

// Incidents keeps the last [RecentIncidents] that it was told of. The zero value is
// ready to use, from several goroutines.
type Incidents struct {
	mu   sync.Mutex
	ring []Incident
	next int // where the next one goes once the ring is full
}

// Add keeps one, in the place of the oldest where there is no other.
func (l *Incidents) Add(i Incident) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < RecentIncidents {
		l.ring = append(l.ring, i)
		return
	}
	l.ring[l.next] = i
	l.next = (l.next + 1) % RecentIncidents
}

// List returns a copy, the newest first.
func (l *Incidents) List() []Incident {
	l.mu.Lock()
	list := slices.Concat(l.ring[l.next:], l.ring[:l.next])
	l.mu.Unlock()
	slices.Reverse(list)
	return list
}

// serveRecent answers GET /api/v1/recent?kind=KIND&n=N.
func serveRecent(recent func() []Incident) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reply(w, r, func(r *http.Request) (any, error) {
			n := RecentIncidents
			if s := r.URL.Query().Get("n"); s != "" {
				var err error
				if n, err = strconv.Atoi(s); err != nil || n < 1 || n > RecentIncidents {
					return nil, fmt.Errorf("%w: n is a number from 1 to %d", errMistake, RecentIncidents)
				}
			}
			kind := r.URL.Query().Get("kind")
			if kind != "" && kind != IncidentDenial && kind != IncidentError {
				return nil, fmt.Errorf("%w: kind is %s or %s", errMistake, IncidentDenial, IncidentError)
			}
			list := []Incident{} // not null in JSON
			for _, i := range recent() {
				if len(list) < n && (kind == "" || i.Kind == kind) {
					list = append(list, i)
				}
			}
			return map[string]any{"recent": list}, nil
		})
	}
}
