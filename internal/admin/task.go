package admin

import (
	"errors"
	"net/http"
)

// Errors of Options.RunTask.
var (
	// ErrNoTask: there is no task of that name.
	ErrNoTask = errors.New("there is no such task")
	// ErrTaskBusy: it cannot begin now, because it is running, or the mirror is stopping.
	ErrTaskBusy = errors.New("the task cannot begin now")
)

// registerTasks adds what is about tasks.
func registerTasks(mux *http.ServeMux, o Options) {
	mux.HandleFunc("GET /api/v1/tasks", func(w http.ResponseWriter, _ *http.Request) {
		list := []Task{} // not null in JSON
		if o.Tasks != nil {
			list = append(list, o.Tasks()...)
		}
		sayJSON(w, struct {
			Tasks []Task `json:"tasks"`
		}{list})
	})
	if o.RunTask == nil {
		return
	}
	mux.HandleFunc("POST /api/v1/tasks/run", func(w http.ResponseWriter, r *http.Request) {
		switch err := o.RunTask(r, r.URL.Query().Get("name")); {
		case err == nil:
			sayJSON(w, struct{}{})
		case errors.Is(err, ErrNoTask):
			say(w, http.StatusNotFound, err.Error())
		case errors.Is(err, ErrTaskBusy):
			say(w, http.StatusConflict, err.Error())
		default:
			say(w, http.StatusInternalServerError, err.Error())
		}
	})
}
