package config

import (
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// A Bound is a number of bytes or, written "80%", a share of something. The zero
// value is none.
type Bound struct {
	Bytes   Size
	Percent float64 // up to 100; 0: Bytes counts
}

// ParseBound reads a Bound; it is never negative.
func ParseBound(s string) (Bound, error) {
	digits, share := strings.CutSuffix(s, "%")
	if !share {
		n, err := ParseSize(s)
		return Bound{Bytes: n}, err
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsNaN(n) || n <= 0 || n > 100 || strings.Trim(digits, "0123456789.") != "" {
		return Bound{}, errBadSize
	}
	return Bound{Percent: n}, nil
}

// String returns what ParseBound reads.
func (b Bound) String() string {
	if b.Percent != 0 {
		return strconv.FormatFloat(b.Percent, 'f', -1, 64) + "%"
	}
	return b.Bytes.String()
}

// IsZero tells whether there is no bound.
func (b Bound) IsZero() bool { return b == Bound{} }

func setBound(to *Bound, s string) *complaint {
	b, err := ParseBound(s)
	if err != nil {
		return complainf(msgBadBound, s)
	}
	*to = b
	return nil
}

func setMaxSize(c *Config, s string) *complaint {
	var b Bound
	if bad := setBound(&b, s); bad != nil {
		return bad
	}
	if b.Bytes != 0 && b.Bytes < MinSize {
		return complainf(msgSmallSize, s, Size(MinSize))
	}
	c.Data.MaxSize = b
	return nil
}

func setScrubEvery(c *Config, s string) *complaint {
	if s == "off" {
		c.Data.Scrub.Every = 0
		return nil
	}
	var d Duration
	if bad := setDuration(&d, s); bad != nil {
		return bad
	}
	if d != 0 && d < MinScrub {
		return complainf(msgShortScrub, s, MinScrub)
	}
	c.Data.Scrub.Every = d
	return nil
}

func setScrubRate(c *Config, s string) *complaint {
	return setSize(&c.Data.Scrub.Rate, strings.TrimSuffix(s, "/s"))
}

// readShare reads a share of the disk of an upstream.
func (d *decoder) readShare(to *Bound, at *place) func(node) {
	return func(n node) {
		if s, _, ok := d.scalar(n); ok {
			*at = n.at
			if c := setBound(to, s); c != nil {
				d.complain(n.at, c)
			}
		}
	}
}

// readAge reads a max_age of an upstream.
func (d *decoder) readAge(to *Duration) func(node) {
	return func(n node) {
		if s, _, ok := d.scalar(n); ok {
			if c := setDuration(to, s); c != nil {
				d.complain(n.at, c)
			}
		}
	}
}

// finishShares refuses shares of nothing, and upstreams that are to have less than
// they are left.
func (l *loader) finishShares() {
	for _, e := range l.upstreams {
		for _, b := range []struct {
			bound Bound
			at    place
		}{{e.MaxSize, e.maxSize}, {e.MinSize, e.minSize}} {
			if b.bound.Percent != 0 && l.config.Data.MaxSize.IsZero() {
				l.complain(b.at, complainf(msgShareOfNothing, b.bound))
			}
		}
		alike := (e.MaxSize.Percent != 0) == (e.MinSize.Percent != 0)
		if alike && !e.MaxSize.IsZero() && (e.MinSize.Percent > e.MaxSize.Percent || e.MinSize.Bytes > e.MaxSize.Bytes) {
			l.complain(e.minSize, complainf(msgMinAboveMax, e.MinSize, e.MaxSize))
		}
	}
}

// show is the section data as the file has it.
func (d Data) show() yaml.MapSlice {
	return yaml.MapSlice{
		{Key: "dir", Value: escape(d.Dir)},
		{Key: "max_size", Value: d.MaxSize.String()},
		{Key: "soft_size", Value: d.SoftSize.String()},
		{Key: "min_free", Value: d.MinFree.String()},
		{Key: "max_age", Value: d.MaxAge.String()},
		{Key: "scrub", Value: yaml.MapSlice{
			{Key: "every", Value: d.Scrub.Every.String()}, {Key: "rate", Value: d.Scrub.Rate.String()},
		}},
	}
}
