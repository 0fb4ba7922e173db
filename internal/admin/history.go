package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sampan/internal/history"
)

// usualSpan and usualStep are what is told of the history unless a request says more.
const (
	usualSpan = 24 * time.Hour
	usualStep = time.Hour
)

// A Teller lists what happened from one time to another, as [history.History] does.
type Teller func(ctx context.Context, from, to time.Time, step time.Duration) ([]history.Point, error)

// serveHistory answers with the points from the parameter from to the parameter to, which
// are times of RFC 3339, in steps of the parameter step, a duration.
func serveHistory(tell Teller) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reply(w, r, func(r *http.Request) (any, error) {
			q := r.URL.Query()
			to, err := timeOf(q.Get("to"), time.Now())
			if err != nil {
				return nil, err
			}
			from, err := timeOf(q.Get("from"), to.Add(-usualSpan))
			if err != nil {
				return nil, err
			}
			step := usualStep
			if s := q.Get("step"); s != "" {
				if step, err = time.ParseDuration(s); err != nil || step <= 0 {
					return nil, fmt.Errorf("%w: step is a duration such as 1h", errMistake)
				}
			}
			points, err := tell(r.Context(), from, to, step)
			if errors.Is(err, history.ErrRange) {
				err = fmt.Errorf("%w: %w", errMistake, err)
			}
			if err != nil {
				return nil, err
			}
			return map[string]any{"points": points}, nil
		})
	}
}

func timeOf(s string, usual time.Time) (time.Time, error) {
	if s == "" {
		return usual, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%w: a time is written as 2026-01-02T15:04:05Z", errMistake)
	}
	return t, nil
}
