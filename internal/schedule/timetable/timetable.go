// Package timetable reads five fields of cron and tells when they are next.
//
// The fields are minute, hour, day of the month, month and day of the week, each a
// number, "*", a list, a range or a step; months and days of the week have English
// names as well. Where both days are restricted, one of them suffices, as crontab(5)
// has it.
//
// It promises one run for each time on the clock on the wall, whatever summer time does
// to it. A time that the clock leaps over is as much later as the clock leaps: half past
// two becomes half past three. A time that comes twice counts when it comes first. Hours
// that are "*", or steps of it, follow the hours that pass instead, so that "every ten
// minutes" stays so while the clock is put back.
//
// It does not run anything. The names of time zones are those of the IANA database,
// which is a part of the program.
package timetable

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a container has none

	"github.com/netresearch/go-cron"
)

// Errors of [Parse] and [Zone].
var (
	// ErrFields: these are not five fields that can be read.
	ErrFields = errors.New("not five fields of cron")
	// ErrNever: there is no such day, as the 30th of February.
	ErrNever = errors.New("there is no such day")
	// ErrZone: there is no such time zone.
	ErrZone = errors.New("no such time zone")
)

// A Timetable is made by [Parse].
type Timetable struct {
	times  cron.Schedule
	zone   *time.Location
	hourly bool // the hours are "*" or steps of it
}

// Zone finds a time zone; the empty name is the machine's own.
func Zone(name string) (*time.Location, error) {
	if name == "" {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %q", ErrZone, name)
	}
	return zone, nil
}

// Parse reads five fields for the clock of a zone.
func Parse(text string, zone *time.Location) (*Timetable, error) {
	fields := strings.Fields(text)
	if len(fields) != 5 || strings.Contains(text, "=") {
		return nil, ErrFields
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom)
	if err != nil {
		return nil, err
	}
	t := &Timetable{zone: zone, hourly: strings.HasPrefix(fields[1], "*")}
	place := zone.String()
	if !t.hourly {
		place = "UTC" // the clock on the wall is calculated with as if it were that
	}
	if t.times, err = parser.Parse("TZ=" + place + " " + strings.Join(fields, " ")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFields, err)
	}
	if t.times.Next(time.Unix(0, 0)).IsZero() {
		return nil, ErrNever
	}
	return t, nil
}

// Next is the first time behind after, in the timetable's zone.
func (t *Timetable) Next(after time.Time) time.Time {
	after = after.In(t.zone)
	if t.hourly {
		return t.times.Next(after)
	}
	_, offset := after.Zone()
	wall := after.UTC().Add(time.Duration(offset) * time.Second)
	for {
		if wall = t.times.Next(wall); wall.IsZero() {
			return wall
		}
		if next := t.at(wall); next.After(after) {
			return next
		}
	}
}

// at is when the clock on the wall first shows what wall shows in UTC.
func (t *Timetable) at(wall time.Time) time.Time {
	const day = 24 * time.Hour
	offset := func(at time.Time) time.Duration {
		_, seconds := at.In(t.zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	// No zone changes twice within two days.
	before, behind := offset(wall.Add(-day)), offset(wall.Add(day))
	early := wall.Add(-before)
	if late := wall.Add(-behind); offset(early) != before && offset(late) == behind {
		return late.In(t.zone)
	}
	return early.In(t.zone)
}
