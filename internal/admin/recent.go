package admin

import "time"

// The kinds of an [Incident].
const (
	IncidentDenial = "denial" // somebody was refused by a rule, the policy or a limit
	IncidentError  = "error"  // an answer of 5xx, or one that ended before its end
)

// An Incident is an answer that was not what its client wanted, for the operator to see
// why. Codes of hosts and passwords are never in it.
type Incident struct {
	Time       time.Time `json:"time"`
	Kind       string    `json:"kind"`
	Status     int       `json:"status"`
	Client     string    `json:"client"` // address, without port
	User       string    `json:"user,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Reference  string    `json:"reference,omitempty"`
	Code       string    `json:"code,omitempty"` // of the specification, such as DENIED
	Reason     string    `json:"reason"`
	Request    string    `json:"request,omitempty"` // identifier, as in the access log
}

// A Task is what the configuration has done at set times.
type Task struct {
	Name string    `json:"name"`
	Do   string    `json:"do"`   // purge, prefetch or scrub
	Cron string    `json:"cron"` // five fields, as configured
	Next time.Time `json:"next"`
	Last *TaskRun  `json:"last,omitempty"` // nil before the first
}

// A TaskRun is one run of a [Task].
type TaskRun struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"` // zero while it runs
	Outcome string    `json:"outcome,omitempty"`
	Error   string    `json:"error,omitempty"`
}
