package progress

import (
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	began := time.Unix(0, 0)
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	steady := func(m *meter) {
		for n := range 200 {
			m.add(at(float64(n+1)/10), 100)
		}
	}
	tests := map[string]struct {
		do   func(m *meter)
		now  float64 // seconds
		want int64   // bytes a second
	}{
		"nothing moves":             {func(*meter) {}, 3, 0},
		"at once":                   {func(m *meter) { m.add(at(0), 1000) }, 0, 10000},
		"in the first second":       {func(m *meter) { m.add(at(0.1), 1000) }, 0.5, 2000},
		"steady":                    {steady, 20, 1000},
		"what was long ago counts":  {func(m *meter) { m.add(at(0.1), 1000) }, 4, 250},
		"what was too long ago not": {func(m *meter) { m.add(at(0.1), 1000) }, 5.1, 0},
		"it stops":                  {steady, 22.5, 444},
		"it has stopped":            {steady, 30, 0},
		"a hundred times faster": {func(m *meter) {
			steady(m)
			for n := range 50 {
				m.add(at(20+float64(n+1)/10), 10000)
			}
		}, 25, 100000},
		"it did not move after all": {func(m *meter) {
			steady(m)
			m.add(at(20), 1<<40)
			m.take(1 << 40)
		}, 20, 1000},
		"and more is taken than there is": {func(m *meter) {
			m.add(at(0.1), 10)
			m.take(1000)
		}, 1, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var m meter
			m.advance(began)
			test.do(&m)
			if got := m.rate(at(test.now)); got < test.want*95/100 || got > test.want*105/100 {
				t.Errorf("got %d bytes a second, want %d", got, test.want)
			}
		})
	}
}
