package config

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"

	"sampan/internal/oci"
	"sampan/internal/schedule/timetable"
)

// What a [Task] does.
const (
	DoPurge    = "purge"
	DoPrefetch = "prefetch"
	DoScrub    = "scrub"
)

// DefaultScrubRate is how many bytes per second a scrub reads that does not say it.
const DefaultScrubRate = Size(20 << 20)

// A Task is something that the mirror does at set times.
type Task struct {
	// Name is its own: 1 to 63 of a-z, 0-9 and "-".
	Name string
	// Cron are the five fields that say when, on the clock of Timezone, a name of the
	// IANA database; empty is that of the machine.
	Cron, Timezone string
	// Do is what: [DoPurge], [DoPrefetch] or [DoScrub].
	Do string

	// Of a purge: what was not used for so long (0: whatever its age), is of a registry
	// (zero: any) and in repositories whose paths match (zero: any). At least one is
	// there. DryRun only says what would be deleted.
	Unused   Duration
	Registry oci.Registry
	Pattern  oci.Pattern
	DryRun   bool

	// Of a prefetch: images as clients name them, at least one, and of those with
	// several platforms which ones; none is all.
	Images, Platforms []string

	// Rate bounds a scrub, in bytes per second; 0: nothing does. Default
	// [DefaultScrubRate].
	Rate Size
}

// keysOf are the keys that go with something to do, beside those of all.
func keysOf(do string) []string {
	switch do {
	case DoPurge:
		return []string{"unused", "registry", "pattern", "dry_run"}
	case DoPrefetch:
		return []string{"images", "platforms"}
	case DoScrub:
		return []string{"rate"}
	default:
		return nil
	}
}

func (d *decoder) readSchedule(n node) {
	d.config.Schedule = nil
	seen := make(map[string]bool)
	for _, item := range d.list(n) {
		before := len(d.problems)
		t, at := d.readTask(item)
		if len(d.problems) > before {
			continue
		}
		switch {
		case t.Name == "" || t.Cron == "" || t.Do == "":
			d.complain(item.at, complainf(msgHalfTask))
		case !validLabel(t.Name) || seen[t.Name]:
			d.complain(at["name"], complainf(msgBadTaskName, t.Name))
		default:
			d.checkTask(item, t, at)
		}
		seen[t.Name] = true
		d.config.Schedule = append(d.config.Schedule, t)
	}
}

// readTask reads one, and tells where its keys are.
func (d *decoder) readTask(item node) (t Task, at map[string]place) {
	t.Rate, at = DefaultScrubRate, make(map[string]place)
	known := map[string]func(node){
		"name":     d.readText(&t.Name),
		"cron":     d.readText(&t.Cron),
		"timezone": d.readText(&t.Timezone),
		"do":       d.value(func(s string) *complaint { return setChoice(&t.Do, s, DoPurge, DoPrefetch, DoScrub) }),
		"unused":   d.value(func(s string) *complaint { return setDuration(&t.Unused, s) }),
		"registry": d.value(func(s string) (bad *complaint) {
			var err error
			if t.Registry, err = oci.ParseRegistry(s); err != nil {
				bad = complainf(msgBadRegistry, s)
			}
			return bad
		}),
		"pattern": d.value(func(s string) (bad *complaint) {
			var err error
			if t.Pattern, err = oci.ParsePattern(s); err != nil {
				bad = complainf(msgBadPattern, s)
			}
			return bad
		}),
		"dry_run":   d.value(func(s string) *complaint { return setBool(&t.DryRun, s) }),
		"images":    d.readImages(&t.Images),
		"platforms": d.readPlatforms(&t.Platforms),
		"rate":      d.value(func(s string) *complaint { return setSize(&t.Rate, strings.TrimSuffix(s, "/s")) }),
	}
	for key, read := range known {
		known[key] = func(n node) { at[key] = n.at; read(n) }
	}
	d.fields(item, known)
	return t, at
}

// checkTask refuses times that never come, keys of something else to do, and tasks
// that would do nothing, or too much.
func (d *decoder) checkTask(item node, t Task, at map[string]place) {
	zone, err := timetable.Zone(t.Timezone)
	if err != nil {
		d.complain(at["timezone"], complainf(msgBadTimezone, t.Timezone))
	} else if _, err := timetable.Parse(t.Cron, zone); errors.Is(err, timetable.ErrNever) {
		d.complain(at["cron"], complainf(msgNever, t.Cron))
	} else if err != nil {
		d.complain(at["cron"], complainf(msgBadCron, t.Cron))
	}
	for _, do := range []string{DoPurge, DoPrefetch, DoScrub} {
		for _, key := range keysOf(do) {
			if p, written := at[key]; written && do != t.Do {
				d.complain(p, complainf(msgOtherTask, do))
			}
		}
	}
	switch {
	case t.Do == DoPurge && t.Unused == 0 && t.Registry.IsZero() && t.Pattern.IsZero():
		d.complain(item.at, complainf(msgPurgesAll))
	case t.Do == DoPrefetch && len(t.Images) == 0:
		d.complain(item.at, complainf(msgNoImages))
	}
}

func (d *decoder) readImages(to *[]string) func(node) {
	return func(n node) {
		for _, item := range d.oneOrMore(n) {
			s, _, ok := d.scalar(item)
			if !ok {
				continue
			}
			if _, err := oci.ParseReference(s); err != nil {
				d.complain(item.at, complainf(msgBadImage, s))
				continue
			}
			*to = append(*to, s)
		}
	}
}

func (d *decoder) readPlatforms(to *[]string) func(node) {
	return func(n node) {
		for _, item := range d.oneOrMore(n) {
			s, _, ok := d.scalar(item)
			if !ok {
				continue
			}
			parts := strings.Split(s, "/")
			bad := len(parts) != 2 && len(parts) != 3
			for _, p := range parts {
				bad = bad || p == ""
			}
			if bad {
				d.complain(item.at, complainf(msgBadPlatform, s))
				continue
			}
			*to = append(*to, s)
		}
	}
}

// show is the task as the file has it.
func (t Task) show() yaml.MapSlice {
	m := yaml.MapSlice{{Key: "name", Value: t.Name}, {Key: "cron", Value: t.Cron}}
	add := func(written bool, key string, value any) {
		if written {
			m = append(m, yaml.MapItem{Key: key, Value: value})
		}
	}
	add(t.Timezone != "", "timezone", t.Timezone)
	add(true, "do", t.Do)
	add(t.Unused != 0, "unused", t.Unused.String())
	add(!t.Registry.IsZero(), "registry", t.Registry.String())
	add(!t.Pattern.IsZero(), "pattern", escape(t.Pattern.String()))
	add(t.Do == DoPurge, "dry_run", t.DryRun)
	add(len(t.Images) > 0, "images", t.Images)
	add(len(t.Platforms) > 0, "platforms", t.Platforms)
	add(t.Do == DoScrub, "rate", t.Rate.String())
	return m
}
