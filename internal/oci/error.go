package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Code is an error code of the distribution specification ("Error Codes"), or
// one of the three that registries use beside it: UNAVAILABLE, UNKNOWN and
// RANGE_INVALID.
type Code string

// The codes that a read-only registry gives or receives.
const (
	CodeBlobUnknown     Code = "BLOB_UNKNOWN"
	CodeDigestInvalid   Code = "DIGEST_INVALID"
	CodeManifestInvalid Code = "MANIFEST_INVALID"
	CodeManifestUnknown Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid     Code = "NAME_INVALID"
	CodeNameUnknown     Code = "NAME_UNKNOWN"
	CodeSizeInvalid     Code = "SIZE_INVALID"
	CodeTagInvalid      Code = "TAG_INVALID"
	CodeUnauthorized    Code = "UNAUTHORIZED"
	CodeDenied          Code = "DENIED"
	CodeUnsupported     Code = "UNSUPPORTED"
	CodeTooManyRequests Code = "TOOMANYREQUESTS"
	CodeRangeInvalid    Code = "RANGE_INVALID"
	CodeUnavailable     Code = "UNAVAILABLE"
	CodeUnknown         Code = "UNKNOWN"
)

// Error is an answer of the distribution protocol. Two Errors are the same for
// [errors.Is] when their codes are.
type Error struct {
	Code Code
	// Message is for the person at the client: safe to send, a sentence that
	// says what to do where something can be done.
	Message string
	// RetryAfter says when asking again makes sense; zero is "not known".
	RetryAfter time.Duration
	// Err is the cause, whose text is for the log only; nil when there is none.
	Err error
}

// Errorf makes an Error with a formatted message; a %w operand becomes the
// cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns "CODE: message (cause)" for the log, with what there is. A
// cause that the message tells already is not repeated.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err == nil {
		return s
	}
	if cause := e.Err.Error(); !strings.Contains(e.Message, cause) {
		s += " (" + cause + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is tells whether target is an *Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Sentinels for [errors.Is].
var (
	ErrBlobUnknown     = &Error{Code: CodeBlobUnknown}
	ErrManifestUnknown = &Error{Code: CodeManifestUnknown}
	ErrNameUnknown     = &Error{Code: CodeNameUnknown}
	ErrUnauthorized    = &Error{Code: CodeUnauthorized}
	ErrDenied          = &Error{Code: CodeDenied}
	ErrTooManyRequests = &Error{Code: CodeTooManyRequests}
	ErrUnavailable     = &Error{Code: CodeUnavailable}
)

// CodeOf returns the code of the first *Error in err's chain, or "" when there
// is none: then nobody has answered, which is different from a refusal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// IsUnknown tells whether err says that the thing asked for does not exist.
func IsUnknown(err error) bool {
	switch CodeOf(err) {
	case CodeBlobUnknown, CodeManifestUnknown, CodeNameUnknown:
		return true
	default:
		return false
	}
}

// IsAnswer tells whether err is an answer about the thing asked for (it does
// not exist, it is not allowed, the question is wrong), as opposed to a failure
// to get one (a broken link, a rate limit, a server error).
func IsAnswer(err error) bool {
	switch CodeOf(err) {
	case "", CodeUnavailable, CodeTooManyRequests, CodeUnknown:
		return false
	default:
		return true
	}
}

func quote(s string) string { return strconv.QuoteToGraphic(s) }
