package app

import (
	"time"

	"sampan/internal/cache"
	"sampan/internal/config"
	"sampan/internal/oci"
)

// policy tells the cache how the answers about a repository age. It is asked on
// every request: registries without rules of their own cost a look into a map.
func policy(c *config.Config) func(oci.Repository) cache.Freshness {
	general := freshness(c.Tags)
	ruled := make(map[oci.Registry]bool)
	for _, u := range c.Upstreams {
		ruled[u.Registry] = u.RulesTags()
	}
	return func(repo oci.Repository) cache.Freshness {
		if !ruled[repo.Registry()] {
			return general
		}
		t, _ := c.TagsOf(repo)
		return freshness(t)
	}
}

func freshness(t config.Tags) cache.Freshness {
	f := cache.Freshness{
		FreshFor:     time.Duration(t.FreshFor),
		StaleIfError: time.Duration(t.StaleIfError),
		MissingFor:   time.Duration(t.MissingFor),
		Immutable:    t.Immutable,
		Refresh:      t.Refresh,
	}
	if t.StaleIfError == config.Forever {
		f.StaleIfError = cache.Forever
	}
	return f
}
