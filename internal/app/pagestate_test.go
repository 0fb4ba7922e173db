package app

import (
	"testing"

	"sampan/internal/upstream"
	"sampan/internal/welcome"
)

func TestTheStateOfARegistryInOneWord(t *testing.T) {
	up := upstream.EndpointStatus{State: "up"}
	down := upstream.EndpointStatus{State: "down"}
	blobs := upstream.EndpointStatus{State: "up", BlobsOnly: true}
	for name, c := range map[string]struct {
		endpoints []upstream.EndpointStatus
		want      welcome.State
	}{
		"all is well":                   {[]upstream.EndpointStatus{up, up}, welcome.Good},
		"one failure is none":           {[]upstream.EndpointStatus{{State: "up", Failures: 1}}, welcome.Good},
		"two in a row are":              {[]upstream.EndpointStatus{{State: "up", Failures: 2}}, welcome.Failing},
		"one of two is down":            {[]upstream.EndpointStatus{down, up}, welcome.Slow},
		"all are down":                  {[]upstream.EndpointStatus{down, {State: "probing"}}, welcome.Failing},
		"who has blobs alone is no use": {[]upstream.EndpointStatus{down, blobs}, welcome.Failing},
		"and does no harm":              {[]upstream.EndpointStatus{up, {State: "down", BlobsOnly: true}}, welcome.Good},
		"little comes":                  {[]upstream.EndpointStatus{{State: "up", Rate: slowBelow - 1}}, welcome.Slow},
		"enough comes":                  {[]upstream.EndpointStatus{{State: "up", Rate: slowBelow}}, welcome.Good},
		"little from one of two":        {[]upstream.EndpointStatus{{State: "up", Rate: 1}, up}, welcome.Good},
	} {
		if got := stateOf(upstream.Status{Endpoints: c.endpoints}); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
