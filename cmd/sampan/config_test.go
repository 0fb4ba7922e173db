package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// runConfig runs "sampan config …" in an empty directory with the given file.
func runConfig(t *testing.T, file string, args ...string) (string, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("HOME", "/home/x")
	t.Setenv("LC_ALL", "C")
	if err := os.WriteFile("sampan.yaml", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := newConfigCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestConfigCheckNamesTheFileItFound(t *testing.T) {
	if out, err := runConfig(t, "listen: :1\n", "check"); err != nil || out != "sampan.yaml: good\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestConfigCheckTellsEverythingThatIsWrong(t *testing.T) {
	out, err := runConfig(t, "lissten: :1\ndata: {max_size: x}\n", "check", "--upstream", "quay.io=quay.io")
	var usage *usageError
	if out != "" || !errors.As(err, &usage) || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestConfigShowHasFlagsAndMasksSecrets(t *testing.T) {
	out, err := runConfig(t, "upstreams: {quay.io: {token: s3cret, public: true}}\n", "show", "--upstream", "foo.example=http://127.0.0.1:5001")
	if err != nil || !strings.Contains(out, "url: http://127.0.0.1:5001") || strings.Contains(out, "s3cret") {
		t.Errorf("got %s, %v", out, err)
	}
}
