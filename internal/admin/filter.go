package admin

import "sampan/internal/inventory"

// ParseFilter reads the parameters registry, pattern and search; what get returns empty
// chooses nothing.
func ParseFilter(get func(name string) string) (inventory.Filter, error) { return filterOf(get) }
