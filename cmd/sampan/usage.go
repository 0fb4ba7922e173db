package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// group makes cmd one that only has commands below it: alone it shows its help,
// and a command that it does not have is a mistake, with the likely one named.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		message := fmt.Sprintf(text("%q is not a command of %s", "%q 不是 %s 的命令"), args[0], cmd.CommandPath())
		if likely := cmd.SuggestionsFor(args[0]); len(likely) > 0 {
			message += fmt.Sprintf(text("; did you mean %s?", "；是否想用 %s？"), strings.Join(likely, text(" or ", " 或 ")))
		}
		return usagef("%s", message)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef(text("%s takes flags only, not %q", "%s 只接受选项，不接受 %q"), cmd.CommandPath(), args[0])
}

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// localize puts what cobra says by itself into the language of the environment.
func localize(root *cobra.Command) {
	if text("en", "zh") == "en" {
		return
	}
	root.SetUsageTemplate(strings.NewReplacer(
		`Use "{{.CommandPath}} [command] --help" for more information about a command.`,
		`用 "{{.CommandPath}} [命令] --help" 查看某个命令的说明。`,
		"Usage:", "用法：",
		"Examples:", "示例：",
		"Available Commands:", "命令：",
		"Global Flags:", "全局选项：",
		"Flags:", "选项：",
		"[command]", "[命令]",
	).Replace(root.UsageTemplate()))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	root.Flags().Lookup("version").Usage = "显示版本"
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Short = "显示命令的说明"
		case "completion":
			localizeCompletion(cmd)
		}
	}
	helpFlags(root)
}

// helpFlags describes --help of cmd and of all commands below it.
func helpFlags(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Usage = "显示说明"
	for _, below := range cmd.Commands() {
		helpFlags(below)
	}
}
