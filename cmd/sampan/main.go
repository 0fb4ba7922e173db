// Command sampan is a pull-through cache for every container registry.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// run returns the exit code: 0 for success, 1 for a failure, 2 for a command
// line or a configuration that cannot be used, 3 for a pull that explain says
// would fail, for what verify found rotten, and for what doctor found wrong.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetIn(newInput(ctx, os.Stdin))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sampan:", spoken(err))
	var usage *usageError
	if errors.As(err, &usage) {
		return 2
	}
	if failed := (*failedPull)(nil); errors.As(err, &failed) {
		return 3
	}
	if ill := (*unwell)(nil); errors.As(err, &ill) {
		return 3
	}
	if found := (*rotten)(nil); errors.As(err, &found) {
		return 3
	}
	return 1
}

// A usageError is a mistake of whoever typed the command or the configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func newRoot() *cobra.Command {
	root := group(&cobra.Command{
		Use:           "sampan",
		Short:         text("A mirror of every container registry", "所有容器镜像仓库的镜像站"),
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagError(err)} })
	root.AddCommand(
		newServeCommand(),
		newConfigCommand(),
		newCacheCommand(),
		newExplainCommand(),
		newNameCommand(),
		newCopyCommand(),
		newSyncCommand(),
		newDemoCommand(),
		newManCommand(),
		newDoctorCommand(),
		newSetupCommand(),
		newRewriteCommand(),
		newPullCommand(),
		newSaveCommand(),
		newLoadCommand(),
	)
	examples(root)
	localize(root)
	completions(root)
	return root
}

// version is that of the module, or of the revision it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
