package registrytest

// TB is the part of testing.TB that [StartTest] needs.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// StartTest is [Start] for a test, which fails if it does and closes the
// Registry at its end.
func StartTest(t TB, opts Options) *Registry {
	t.Helper()
	r, err := Start(opts)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = r.Close() }) // it returns nil
	return r
}
