package dashboard

import (
	"context"
	"errors"
	"net/http"

	"sampan/internal/admin"
	"sampan/internal/inventory"
	"sampan/internal/oci"
	"sampan/internal/prefetch"
)

var (
	errToken   = errors.New("wrong token")
	errNoPage  = errors.New("there is no such page")
	errMistake = errors.New("mistake in the form")
)

// answer shows a page, or why it cannot be shown.
func (d *Dashboard) answer(w http.ResponseWriter, r *http.Request, v view, err error) {
	if err == nil {
		d.render(w, r, 0, v)
		return
	}
	status, key := http.StatusInternalServerError, "error.fault"
	var tooLarge *http.MaxBytesError
	var e *oci.Error
	switch {
	case errors.Is(err, errNoPage):
		status, key = http.StatusNotFound, "error.page"
	case errors.Is(err, admin.ErrNotHere):
		status, key = http.StatusForbidden, "error.elsewhere"
	case errors.Is(err, admin.ErrNoTask), errors.Is(err, inventory.ErrNotFound), errors.Is(err, prefetch.ErrNotFound):
		status, key = http.StatusNotFound, "error.gone"
	case errors.Is(err, inventory.ErrPinned):
		status, key = http.StatusConflict, "error.pinned"
	case errors.Is(err, admin.ErrTaskBusy), errors.Is(err, prefetch.ErrFull):
		status, key = http.StatusConflict, "error.busy"
	case errors.Is(err, errMistake), errors.As(err, &tooLarge), errors.As(err, &e):
		status, key = http.StatusBadRequest, "error.mistake"
	case errors.Is(err, context.Canceled):
		return // whoever asked has left
	default:
		d.o.Log.ErrorContext(r.Context(), "dashboard", "path", r.URL.Path, "err", err)
	}
	d.render(w, r, status, view{"problem", struct{ Key, Detail string }{key, err.Error()}})
}
