package timetable

import (
	"errors"
	"testing"
	"time"
)

const layout = "2006-01-02 15:04 MST"

// next lists the times behind a start, which is read in the zone.
func next(t *testing.T, text, zone, start string, n int) (list []string) {
	t.Helper()
	loc, err := Zone(zone)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Parse(text, loc)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", start, loc)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		at = table.Next(at)
		list = append(list, at.Format(layout))
	}
	return list
}

func TestTimesFollowTheClockOnTheWall(t *testing.T) {
	for _, c := range []struct {
		fact, text, zone, start string
		want                    []string
	}{
		{"a time a day", "30 3 * * *", "UTC", "2026-11-26 03:30", []string{"2026-11-27 03:30 UTC", "2026-11-28 03:30 UTC"}},
		{"names of days", "0 5 * * mon-fri", "UTC", "2026-11-27 05:00", []string{"2026-11-30 05:00 UTC"}},
		{"Sunday is 0 and 7", "0 5 * * 7", "UTC", "2026-11-27 05:00", []string{"2026-11-29 05:00 UTC"}},
		{"one of two days suffices", "0 0 13 * 5", "UTC", "2026-11-26 00:00", []string{"2026-11-27 00:00 UTC", "2026-12-04 00:00 UTC", "2026-12-11 00:00 UTC", "2026-12-13 00:00 UTC"}},
		{"the 29th of February", "0 0 29 2 *", "UTC", "2026-01-01 00:00", []string{"2028-02-29 00:00 UTC"}},
		{"a time that is leapt over comes later", "30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", []string{"2026-03-29 03:30 CEST", "2026-03-30 02:30 CEST"}},
		{"a midnight that is leapt over comes later", "0 0 * * *", "America/Santiago", "2026-09-05 12:00", []string{"2026-09-06 01:00 -03", "2026-09-07 00:00 -03"}},
		{"half an hour that is leapt over", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", []string{"2026-10-04 02:45 +11", "2026-10-05 02:15 +11"}},
		{"a time that comes twice counts once", "30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", []string{"2026-10-25 02:30 CEST", "2026-10-26 02:30 CET"}},
		{"times of the hour that comes twice", "15,45 2,3 * * *", "Europe/Berlin", "2026-10-24 12:00", []string{"2026-10-25 02:15 CEST", "2026-10-25 02:45 CEST", "2026-10-25 03:15 CET", "2026-10-25 03:45 CET", "2026-10-26 02:15 CET"}},
		{"every half hour stays so when the clock is put back", "*/30 * * * *", "Europe/Berlin", "2026-10-25 01:30", []string{"2026-10-25 02:00 CEST", "2026-10-25 02:30 CEST", "2026-10-25 02:00 CET", "2026-10-25 02:30 CET", "2026-10-25 03:00 CET"}},
		{"every half hour stays so when it leaps", "*/30 * * * *", "Europe/Berlin", "2026-03-29 01:00", []string{"2026-03-29 01:30 CET", "2026-03-29 03:00 CEST"}},
	} {
		t.Run(c.fact, func(t *testing.T) {
			for i, got := range next(t, c.text, c.zone, c.start, len(c.want)) {
				if got != c.want[i] {
					t.Errorf("%d: %s, want %s", i, got, c.want[i])
				}
			}
		})
	}
}

// Whatever the zone, a time a day comes on every day once.
func TestATimeADayComesOnEveryDay(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "America/Santiago", "Africa/Cairo", "Asia/Beirut", "Australia/Lord_Howe", "Asia/Shanghai", "America/Havana"} {
		for _, text := range []string{"0 0 * * *", "30 0 * * *", "30 1 * * *", "30 2 * * *", "59 23 * * *"} {
			loc, err := Zone(zone)
			if err != nil {
				t.Fatal(err)
			}
			table, err := Parse(text, loc)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			days := make(map[string]bool)
			for range 365 {
				next := table.Next(at)
				day := next.Format(time.DateOnly)
				if !next.After(at) || days[day] || next.Sub(at) > 49*time.Hour {
					t.Fatalf("%s in %s: %s comes behind %s", text, zone, next, at)
				}
				days[day] = true
				at = next
			}
			if first, last := time.Date(2026, 1, 1, 0, 0, 0, 0, loc), at; last.Sub(first) > 367*24*time.Hour {
				t.Errorf("%s in %s: 365 times last until %s", text, zone, last)
			}
		}
	}
}

func TestWhatIsNoTimetableIsRefused(t *testing.T) {
	for _, text := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "@daily", "@every 1s", "TZ=UTC * * * * *", "TZ=UTC * * * *", "H * * * *", "x * * * *", "*/0 * * * *"} {
		if _, err := Parse(text, time.UTC); !errors.Is(err, ErrFields) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Parse("0 0 30 2 *", time.UTC); !errors.Is(err, ErrNever) {
		t.Errorf("the 30th of February: %v", err)
	}
	if _, err := Zone("Europe/Atlantis"); !errors.Is(err, ErrZone) {
		t.Errorf("a zone that is not: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("30 3 * * 1-5")
	f.Add("*/15 0-6,22 1 jan sun")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Parse(text, time.UTC)
		if err != nil {
			return
		}
		start := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
		if next := table.Next(start); !next.IsZero() && (!next.After(start) || next.Second() != 0) {
			t.Errorf("%q: %s", text, next)
		}
	})
}
