package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"sampan/internal/history"
)

// registerHistory adds GET /api/v1/history?from=TIME&to=TIME&step=DURATION. Times are as
// in RFC 3339; without them it is the last day, in steps of five minutes.
func registerHistory(mux *http.ServeMux, o Options) {
	if o.History == nil {
		return
	}
	mux.HandleFunc("GET /api/v1/history", func(w http.ResponseWriter, r *http.Request) {
		reply(w, r, func(r *http.Request) (any, error) {
			from, to, step, err := spanOf(r, time.Now())
			if err != nil {
				return nil, err
			}
			list, err := o.History(r.Context(), from, to, step)
			if errors.Is(err, history.ErrSpan) {
				err = fmt.Errorf("%w: %w", errMistake, err)
			}
			return map[string]any{"points": list}, err
		})
	})
}

// spanOf reads from, to and step.
func spanOf(r *http.Request, now time.Time) (from, to time.Time, step time.Duration, err error) {
	const day = 24 * time.Hour
	q := r.URL.Query()
	to, step = now, history.Step
	if s := q.Get("to"); s != "" {
		if to, err = time.Parse(time.RFC3339, s); err != nil {
			return from, to, step, fmt.Errorf("%w: to is a time such as 2026-01-31T12:00:00Z", errMistake)
		}
	}
	from = to.Add(-day)
	if s := q.Get("from"); s != "" {
		if from, err = time.Parse(time.RFC3339, s); err != nil {
			return from, to, step, fmt.Errorf("%w: from is a time such as 2026-01-31T12:00:00Z", errMistake)
		}
	}
	if s := q.Get("step"); s != "" {
		if step, err = time.ParseDuration(s); err != nil || step <= 0 || step > 100*day {
			return from, to, step, fmt.Errorf("%w: step is a duration such as 15m", errMistake)
		}
	}
	return from, to, step, nil
}
