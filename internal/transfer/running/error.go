package running

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"sampan/internal/oci"
)

// Errors of a [Mirror], beside [*Refusal] and [*Silence].
var (
	// ErrNoAnswer is the cause of a [*Silence]: a mirror that was connected to does not go
	// on.
	ErrNoAnswer = errors.New("no answer")
	// ErrForeign: who answers is no mirror.
	ErrForeign = errors.New("the answer is not that of a mirror")
)

// A Refusal is an answer of the mirror that is no success.
type Refusal struct {
	Host   string
	Status string // such as "404 Not Found"
	Code   int    // of the status
	Said   string // the body of the answer
	Token  bool   // whether one was sent
}

// Error implements error.
func (e *Refusal) Error() string { return fmt.Sprintf("%s: %s: %.300s", e.Host, e.Status, e.Said) }

// As lets others tell an answer from silence ([oci.IsAnswer]): that is not asked for
// again.
func (e *Refusal) As(target any) bool {
	t, ok := target.(**oci.Error)
	if !ok {
		return false
	}
	code := oci.CodeDenied
	switch e.Code {
	case http.StatusNotFound:
		code = oci.CodeManifestUnknown
	case http.StatusConflict, http.StatusRequestedRangeNotSatisfiable, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		code = oci.CodeUnavailable
	}
	*t = &oci.Error{Code: code}
	return true
}

// statusOf is that of an answer; 0 when there was none.
func statusOf(err error) int {
	var e *Refusal
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// offsetOf is from where on the mirror wants to be sent a blob.
func offsetOf(err error) int64 {
	var e *Refusal
	var a arrivedBlob
	if errors.As(err, &e) && json.Unmarshal([]byte(e.Said), &a) == nil && a.Have > 0 {
		return a.Have
	}
	return 0
}

// A Silence is that the mirror gave no answer: it is not there, or it does not go on.
type Silence struct {
	Host string
	Err  error // why
}

// Error implements error.
func (e *Silence) Error() string { return e.Host + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *Silence) Unwrap() error { return e.Err }

func silent(host string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // the address is told here, without its query
	}
	return &Silence{host, err}
}
