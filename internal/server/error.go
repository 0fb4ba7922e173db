package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"sampan/internal/oci"
)

// status maps the specification's codes to HTTP.
func status(code oci.Code) int {
	switch code {
	case oci.CodeBlobUnknown, oci.CodeManifestUnknown, oci.CodeNameUnknown:
		return http.StatusNotFound
	case oci.CodeDigestInvalid, oci.CodeManifestInvalid, oci.CodeNameInvalid, oci.CodeSizeInvalid, oci.CodeTagInvalid:
		return http.StatusBadRequest
	case oci.CodeUnauthorized:
		return http.StatusUnauthorized
	case oci.CodeDenied:
		return http.StatusForbidden
	case oci.CodeUnsupported:
		return http.StatusMethodNotAllowed
	case oci.CodeTooManyRequests:
		return http.StatusTooManyRequests
	case oci.CodeRangeInvalid:
		return http.StatusRequestedRangeNotSatisfiable
	case oci.CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// writeError answers with an error. Only what is in the message of an
// [oci.Error] reaches the client.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	oci.TraceFrom(r.Context()).Err = err
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // the client has left: there is nobody to answer
	}
	var e *oci.Error
	if !errors.As(err, &e) {
		s.o.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "err", err)
		e = oci.Errorf(oci.CodeUnknown, "something failed inside the mirror; its log says what")
	}
	switch {
	case asksClient(e):
		w.Header().Set("WWW-Authenticate", challenge(r, e))
	case e.Code == oci.CodeUnauthorized:
		// It is this mirror that the upstream does not know, not the client. A 401
		// without a challenge would be fatal to clients, and one with a challenge a
		// question that they cannot answer.
		e = &oci.Error{Code: oci.CodeDenied, Message: e.Message}
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", wholeSeconds(e.RetryAfter))
	}
	writeErrorBody(w, r, e)
}

func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(d.Seconds())), 10)
}

// writeErrorBody writes the specification's form of an error.
func writeErrorBody(w http.ResponseWriter, r *http.Request, e *oci.Error) {
	type entry struct {
		Code    oci.Code `json:"code"`
		Message string   `json:"message"`
		Detail  any      `json:"detail"`
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // people read it, and nobody renders it
	if err := enc.Encode(map[string][]entry{"errors": {{Code: e.Code, Message: bilingual(e)}}}); err != nil {
		panic(http.ErrAbortHandler) // strings always marshal
	}
	h := w.Header()
	for _, name := range []string{"Docker-Content-Digest", "Etag", "Cache-Control", "Accept-Ranges"} {
		h.Del(name)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status(e.Code))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes()) // the client may have left
	}
}
