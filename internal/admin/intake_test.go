package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A mirror that stops ends what runs, while whoever brings something is still there: that
// it was cut short must not look as if it had been taken.
func TestWhatWasCutShortIsNoSuccess(t *testing.T) {
	w := httptest.NewRecorder()
	answerIntake(w, nil, fmt.Errorf("take in: %w", context.Canceled))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %q, want 503", w.Code, w.Body)
	}
}

// deadlines notes each deadline that is set.
type deadlines struct {
	*httptest.ResponseRecorder
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	return nil
}

// net/http reads on behind a body, to see whether the client leaves: a deadline that is set
// then ends the request when it has passed, however well it goes.
func TestABodyThatHasEndedHasNoDeadline(t *testing.T) {
	for name, body := range map[string]io.ReadCloser{
		"one with bytes": io.NopCloser(strings.NewReader("bytes")),
		"none":           http.NoBody,
	} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		b := patient(w, body)
		if _, err := io.ReadAll(b); err != nil {
			t.Fatal(err)
		}
		w.set = 0
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v", name, err)
		}
		if w.set > 0 {
			t.Errorf("%s: a deadline was set behind its end", name)
		}
	}
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	if _, err := patient(w, http.NoBody).Read(make([]byte, 1)); !errors.Is(err, io.EOF) || w.set > 0 {
		t.Errorf("no body: %d deadlines were set: %v", w.set, err)
	}
}
