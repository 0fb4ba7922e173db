package history

import (
	"maps"
	"slices"
)

// grown is by how much a counter grew; one that fell did not grow.
func grown(now, before int64) int64 { return max(0, now-before) }

func (t Traffic) since(b Traffic) Traffic {
	return Traffic{
		Requests: grown(t.Requests, b.Requests), Hits: grown(t.Hits, b.Hits), Misses: grown(t.Misses, b.Misses),
		Served: grown(t.Served, b.Served), Cached: grown(t.Cached, b.Cached), Fetched: grown(t.Fetched, b.Fetched),
	}
}

func (t Traffic) plus(b Traffic) Traffic {
	return Traffic{
		Requests: t.Requests + b.Requests, Hits: t.Hits + b.Hits, Misses: t.Misses + b.Misses,
		Served: t.Served + b.Served, Cached: t.Cached + b.Cached, Fetched: t.Fetched + b.Fetched,
	}
}

// since is what happened after an earlier look. Disk stays what it is.
func (c Counters) since(b Counters) Counters {
	d := Counters{Traffic: c.Traffic.since(b.Traffic), Errors: grown(c.Errors, b.Errors), Denials: grown(c.Denials, b.Denials), Disk: c.Disk}
	for name, t := range c.Registries {
		if t = t.since(b.Registries[name]); t != (Traffic{}) {
			if d.Registries == nil {
				d.Registries = make(map[string]Traffic)
			}
			d.Registries[name] = t
		}
	}
	return d
}

// idle tells that nothing happened.
func (c Counters) idle() bool {
	return c.Traffic == (Traffic{}) && c.Errors == 0 && c.Denials == 0 && len(c.Registries) == 0
}

// add adds what happened later. Its map is its own.
func (c *Counters) add(b Counters) {
	c.Traffic = c.Traffic.plus(b.Traffic)
	c.Errors += b.Errors
	c.Denials += b.Denials
	if b.Disk != 0 {
		c.Disk = b.Disk
	}
	for _, name := range slices.Sorted(maps.Keys(b.Registries)) {
		if c.Registries == nil {
			c.Registries = make(map[string]Traffic)
		}
		if t, ok := c.Registries[name]; ok || len(c.Registries) < maxRegistries {
			c.Registries[name] = t.plus(b.Registries[name])
		}
	}
}

// sound tells whether a record can be one of ours.
func (c Counters) sound() bool {
	sound := func(t Traffic) bool {
		return min(t.Requests, t.Hits, t.Misses, t.Served, t.Cached, t.Fetched) >= 0
	}
	for _, t := range c.Registries {
		if !sound(t) {
			return false
		}
	}
	return sound(c.Traffic) && min(c.Errors, c.Denials, c.Disk) >= 0 && len(c.Registries) <= maxRegistries
}
