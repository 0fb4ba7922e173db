package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorsAreTheSameWhenTheirCodesAre(t *testing.T) {
	err := fmt.Errorf("cache: %w", Errorf(CodeBlobUnknown, "no blob %d", 1))
	if !errors.Is(err, ErrBlobUnknown) || errors.Is(err, ErrManifestUnknown) || CodeOf(err) != CodeBlobUnknown {
		t.Errorf("got %v", err)
	}
}

func TestErrorfKeepsTheCause(t *testing.T) {
	err := Errorf(CodeUnavailable, "reading: %w", io.ErrUnexpectedEOF)
	if !errors.Is(err, io.ErrUnexpectedEOF) || err.Message != "reading: unexpected EOF" || err.Error() != "UNAVAILABLE: reading: unexpected EOF" {
		t.Errorf("got %+v", err)
	}
	hidden := &Error{Code: CodeUnavailable, Message: "cannot be reached", Err: io.ErrUnexpectedEOF}
	if s := hidden.Error(); s != "UNAVAILABLE: cannot be reached (unexpected EOF)" {
		t.Errorf("the log would say %q", s)
	}
	if err := Errorf(CodeDenied, "no"); err.Err != nil {
		t.Errorf("a cause from nowhere: %v", err.Err)
	}
	if s := (&Error{Code: CodeDenied}).Error(); s != "DENIED" {
		t.Errorf("got %q", s)
	}
}

func TestAnswersAndFailures(t *testing.T) {
	for _, c := range []struct {
		err             error
		unknown, answer bool
	}{
		{ErrBlobUnknown, true, true},
		{ErrManifestUnknown, true, true},
		{ErrNameUnknown, true, true},
		{ErrDenied, false, true},
		{ErrUnauthorized, false, true},
		{&Error{Code: CodeNameInvalid}, false, true},
		{ErrTooManyRequests, false, false},
		{ErrUnavailable, false, false},
		{&Error{Code: CodeUnknown}, false, false},
		{io.EOF, false, false},
		{context.Canceled, false, false},
		{nil, false, false},
	} {
		if IsUnknown(c.err) != c.unknown || IsAnswer(c.err) != c.answer {
			t.Errorf("%v: unknown %v, answer %v", c.err, IsUnknown(c.err), IsAnswer(c.err))
		}
	}
}

func TestATraceTravelsWithItsContext(t *testing.T) {
	var trace Trace
	ctx, cancel := context.WithCancel(WithTrace(t.Context(), &trace))
	defer cancel()
	TraceFrom(ctx).Result = ResultHit
	if trace.Result != ResultHit {
		t.Errorf("got %q", trace.Result)
	}
	TraceFrom(t.Context()).Result = ResultMiss // nobody reads it, and nothing breaks
}
