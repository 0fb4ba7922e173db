package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
)

const scheduleText = `
schedule:
  - name: nightly
    cron: 30 3 * * *
    timezone: Europe/Berlin
    do: purge
    unused: 30d
    registry: Docker.io
    pattern: "library/*"
    dry_run: true
  - {name: base, cron: "0 5 * * mon-fri", do: prefetch, images: [alpine, "quay.io/a/b:1"], platforms: linux/amd64}
  - {name: slow, cron: 0 1 1 * *, do: scrub, rate: 5MiB/s}
  - {name: usual, cron: 0 1 2 * *, do: scrub}
`

func TestTasksAreReadAndShown(t *testing.T) {
	c := mustLoad(t, scheduleText, nil)
	if len(c.Schedule) != 4 {
		t.Fatalf("%+v", c.Schedule)
	}
	p := c.Schedule[0]
	if p.Name != "nightly" || p.Cron != "30 3 * * *" || p.Timezone != "Europe/Berlin" || p.Do != DoPurge || p.Unused != Duration(30*24*time.Hour) ||
		p.Registry != oci.DockerHub || p.Pattern.String() != "library/*" || !p.DryRun {
		t.Errorf("%+v", p)
	}
	if f := c.Schedule[1]; strings.Join(f.Images, " ") != "alpine quay.io/a/b:1" || strings.Join(f.Platforms, " ") != "linux/amd64" {
		t.Errorf("%+v", f)
	}
	if c.Schedule[2].Rate != 5<<20 || c.Schedule[3].Rate != DefaultScrubRate {
		t.Errorf("%+v", c.Schedule[2:])
	}
	var text strings.Builder
	if err := c.Show(&text); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, text.String(), nil)
	if !reflect.DeepEqual(c.Schedule, again.Schedule) {
		t.Errorf("%+v of\n%s", again.Schedule, text.String())
	}
	less := mustLoad(t, strings.Replace(scheduleText, "30 3", "31 3", 1), nil)
	changes, err := Compare(c, less)
	if err != nil || len(changes) != 1 || changes[0].Field != "schedule[0].cron" {
		t.Errorf("%v, %v", changes, err)
	}
}

func TestTasksThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []struct{ fact, task, want string }{
		{"without times", `{name: a, do: scrub}`, `1:13 schedule[0]: needs a name, cron and do`},
		{"a misspelt key", `{name: a, cron: 0 1 * * *, do: scrub, raet: 1}`, `1:51 schedule[0].raet: unknown key "raet"; did you mean rate?`},
		{"something else to do", `{name: a, cron: 0 1 * * *, do: purg}`, `1:44 schedule[0].do: "purg" is not one of purge, prefetch, scrub; did you mean purge?`},
		{"a bad name", `{name: A b, cron: 0 1 * * *, do: scrub}`, `1:20 schedule[0].name: "A b" is not a name of its own`},
		{"bad times", `{name: a, cron: 0 25 * * *, do: scrub}`, `1:29 schedule[0].cron: "0 25 * * *" is not five fields of cron`},
		{"seconds", `{name: a, cron: 0 0 1 * * *, do: scrub}`, `1:29 schedule[0].cron: "0 0 1 * * *" is not five fields of cron`},
		{"a day that never comes", `{name: a, cron: 0 0 31 6 *, do: scrub}`, `1:29 schedule[0].cron: "0 0 31 6 *" is a day that never comes`},
		{"a bad zone", `{name: a, cron: 0 1 * * *, timezone: Berlin, do: scrub}`, `1:50 schedule[0].timezone: "Berlin" is not a time zone`},
		{"a key of another", `{name: a, cron: 0 1 * * *, do: scrub, unused: 7d}`, `1:59 schedule[0].unused: goes with do: purge only`},
		{"a purge of everything", `{name: a, cron: 0 1 * * *, do: purge, dry_run: true}`, `1:13 schedule[0]: would purge everything`},
		{"a prefetch of nothing", `{name: a, cron: 0 1 * * *, do: prefetch}`, `1:13 schedule[0]: needs images`},
		{"a bad image", `{name: a, cron: 0 1 * * *, do: prefetch, images: [b, "C:"]}`, `1:66 schedule[0].images[1]: "C:" is not an image`},
		{"a bad platform", `{name: a, cron: 0 1 * * *, do: prefetch, images: b, platforms: amd64}`, `1:76 schedule[0].platforms: "amd64" is not a platform`},
		{"a bad registry", `{name: a, cron: 0 1 * * *, do: purge, registry: "a b"}`, `1:61 schedule[0].registry: "a b" is not the name of a registry`},
	} {
		t.Run(c.fact, func(t *testing.T) {
			_, err := load(t, "schedule: [ "+c.task+"]\n", nil)
			got := problems(t, err)
			if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("%q, want %s", got, c.want)
			}
		})
	}
	_, err := load(t, "schedule: [{name: a, cron: 0 1 * * *, do: scrub}, {name: a, cron: 0 2 * * *, do: scrub}]", nil)
	if got := problems(t, err); len(got) != 1 || !strings.Contains(got[0], "schedule[1].name") {
		t.Errorf("one name for two: %q", got)
	}
}

func TestTheSentencesAboutTasksAreThere(t *testing.T) {
	for m := range taskMessages {
		for _, chinese := range []bool{false, true} {
			if m.format(chinese) == "" {
				t.Errorf("message %d is missing", m)
			}
		}
	}
}
