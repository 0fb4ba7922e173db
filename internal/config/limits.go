package config

import (
	"math"
	"strconv"

	"github.com/goccy/go-yaml"
)

// ClientLimits are what each client may take of those that Rule is about: a user, a
// code, or else an address, where one /64 of IPv6 counts as one. Zero is no limit.
type ClientLimits struct {
	// Rule has Networks, Users, Groups, Codes and Hosts, and nothing else.
	Rule Rule
	// RequestsPerSecond are those of the registry's API.
	RequestsPerSecond float64
	// BytesPerSecond and BytesPerDay are those of blobs; the day is that of UTC.
	BytesPerSecond, BytesPerDay Size
	// ConcurrentPulls are blobs that are being sent at the same time.
	ConcurrentPulls int
	// Cold are the limits of what has to come from an upstream.
	Cold ColdLimits
}

// ColdLimits are those of what has to come from an upstream. Zero is no limit.
type ColdLimits struct {
	RequestsPerHour, ConcurrentPulls int
	BytesPerDay                      Size
}

func (d *decoder) readClientLimits(n node) {
	d.config.Limits.Clients = nil
	for _, item := range d.list(n) {
		var c ClientLimits
		count := func(to *int) func(node) {
			return d.value(func(s string) *complaint { return setCount(to, s) })
		}
		size := func(to *Size) func(node) {
			return d.value(func(s string) *complaint { return setSize(to, s) })
		}
		fields := d.whoFields(&c.Rule)
		fields["requests_per_second"] = d.value(func(s string) *complaint { return setRate(&c.RequestsPerSecond, s) })
		fields["bytes_per_second"] = size(&c.BytesPerSecond)
		fields["bytes_per_day"] = size(&c.BytesPerDay)
		fields["concurrent_pulls"] = count(&c.ConcurrentPulls)
		fields["cold"] = func(n node) {
			d.fields(n, map[string]func(node){
				"requests_per_hour": count(&c.Cold.RequestsPerHour),
				"concurrent_pulls":  count(&c.Cold.ConcurrentPulls),
				"bytes_per_day":     size(&c.Cold.BytesPerDay),
			})
		}
		d.fields(item, fields)
		d.config.Limits.Clients = append(d.config.Limits.Clients, c)
	}
}

// setRate takes a number from 0, such as 0.5.
func setRate(to *float64, s string) *complaint {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return complainf(msgBadRate, s)
	}
	*to = f
	return nil
}

// show is the limits as the file has them.
func (c ClientLimits) show() yaml.MapSlice {
	m := c.Rule.showWho(nil)
	if c.RequestsPerSecond > 0 {
		m = append(m, yaml.MapItem{Key: "requests_per_second", Value: c.RequestsPerSecond})
	}
	size := func(m yaml.MapSlice, key string, s Size) yaml.MapSlice {
		if s > 0 {
			m = append(m, yaml.MapItem{Key: key, Value: s.String()})
		}
		return m
	}
	count := func(m yaml.MapSlice, key string, n int) yaml.MapSlice {
		if n > 0 {
			m = append(m, yaml.MapItem{Key: key, Value: n})
		}
		return m
	}
	m = size(m, "bytes_per_second", c.BytesPerSecond)
	m = size(m, "bytes_per_day", c.BytesPerDay)
	m = count(m, "concurrent_pulls", c.ConcurrentPulls)
	cold := count(nil, "requests_per_hour", c.Cold.RequestsPerHour)
	cold = count(cold, "concurrent_pulls", c.Cold.ConcurrentPulls)
	cold = size(cold, "bytes_per_day", c.Cold.BytesPerDay)
	if len(cold) > 0 {
		m = append(m, yaml.MapItem{Key: "cold", Value: cold})
	}
	if m == nil {
		return yaml.MapSlice{}
	}
	return m
}

// show is the section as the file has it.
func (l Limits) show() yaml.MapSlice {
	m := yaml.MapSlice{
		{Key: "connections", Value: l.Connections},
		{Key: "connections_per_client", Value: l.ConnectionsPerClient},
		{Key: "min_rate", Value: l.MinRate.String()},
	}
	if len(l.Clients) > 0 {
		m = append(m, yaml.MapItem{Key: "clients", Value: shown(l.Clients, ClientLimits.show)})
	}
	return m
}
