package config

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestWhatTheDiskKeepsIsReadAndShown(t *testing.T) {
	const text = `
data:
  dir: /data
  max_size: 80%
  soft_size: 70GiB
  min_free: 5GiB
  max_age: 90d
  scrub: {every: 30d, rate: 10MiB/s}
upstreams:
  docker.io: {max_size: 50%, min_size: 10GiB, max_age: 7d}
`
	c := mustLoad(t, text, nil)
	want := Data{
		Dir: "/data", MaxSize: Bound{Percent: 80}, SoftSize: Bound{Bytes: 70 << 30}, MinFree: 5 << 30,
		MaxAge: Duration(90 * 24 * time.Hour), Scrub: Scrub{Every: Duration(30 * 24 * time.Hour), Rate: 10 << 20},
	}
	if c.Data != want {
		t.Errorf("got %+v", c.Data)
	}
	u := upstream(t, c, "docker.io")
	if u.MaxSize != (Bound{Percent: 50}) || u.MinSize != (Bound{Bytes: 10 << 30}) || u.MaxAge != Duration(7*24*time.Hour) {
		t.Errorf("got %+v", u)
	}
	var shown bytes.Buffer
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, shown.String(), nil)
	if v := upstream(t, again, "docker.io"); again.Data != want || v.MaxSize != u.MaxSize || v.MinSize != u.MinSize || v.MaxAge != u.MaxAge {
		t.Errorf("what is shown is read as something else: %+v, %+v", again.Data, v)
	}
}

func TestWhatTheDiskCannotKeepIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"more than all":         {"data: {max_size: 101%}", `"101%" is not a size`},
		"no number":             {"data: {max_size: big%}", `"big%" is not a size`},
		"nothing is no share":   {"data: {max_size: 0%}", `"0%" is not a size`},
		"less than a manifest":  {"data: {max_size: 1MB}", "is too small"},
		"all the time":          {"data: {scrub: {every: 1m}}", "is too short"},
		"unknown below scrub":   {"data: {scrub: {evry: 1d}}", `unknown key "evry"`},
		"a share of nothing":    {"upstreams: {quay.io: {max_size: 10%}}", "a share of data.max_size, which is not set"},
		"more at least than":    {"upstreams: {quay.io: {max_size: 1GiB, min_size: 2GiB}}", "2GiB is more than max_size, 1GiB"},
		"a size that is no one": {"upstreams: {quay.io: {min_size: some}}", `"some" is not a size`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tc.text, nil)
			if got := strings.Join(problems(t, err), "\n"); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
