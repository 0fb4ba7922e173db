package oci

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestALoginIsNeverPrinted(t *testing.T) {
	l := Login{"alice", "s3cret"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "login", l)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "login", l)
	text, err := json.Marshal(map[string]any{"l": l})
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithLogin(t.Context(), l)
	for _, s := range []string{log.String(), string(text), fmt.Sprint(l), fmt.Sprintf("%v %+v %#v %s", l, l, l, l), fmt.Sprint(ctx)} {
		if strings.Contains(s, "s3cret") || strings.Contains(s, "alice") {
			t.Errorf("printed: %s", s)
		}
	}
}

func TestLoginsAreToldApartByTheirSum(t *testing.T) {
	key := []byte("k")
	seen := make(map[[32]byte]Login)
	for _, l := range []Login{{}, {"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"a", "1:bc"}} {
		if other, ok := seen[l.Sum(key)]; ok {
			t.Errorf("%q/%q and %q/%q are the same", l.Username, l.Password, other.Username, other.Password)
		}
		seen[l.Sum(key)] = l
		if again := l; l.Sum(key) != again.Sum([]byte("k")) || l.Sum(key) == l.Sum([]byte("other")) {
			t.Error("a sum depends on the key and on nothing else")
		}
	}
}

func TestNobodyIsNotTheSameAsWhoeverIsConfigured(t *testing.T) {
	if _, ok := LoginFrom(t.Context()); ok {
		t.Error("a context without a login has one")
	}
	if l, ok := LoginFrom(WithLogin(t.Context(), Login{})); !ok || !l.IsZero() {
		t.Error("nobody is lost")
	}
}
