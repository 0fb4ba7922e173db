package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this program as "sampan".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sampan": func() { os.Exit(run()) }})
}

// TestScript runs testdata/script: each script states what a command does, with its
// files on the same page. They run in an empty directory, in English, with nobody's
// settings; $HOME is a directory of their own.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			home := e.Getenv("WORK") + "/home"
			e.Setenv("HOME", home)
			e.Setenv("LC_ALL", "C")
			return os.MkdirAll(home, 0o700)
		},
	})
}
