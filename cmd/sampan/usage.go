package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// flagError is a mistake with a flag in the language of the environment.
func flagError(err error) error {
	var (
		unknown *pflag.NotExistError
		bare    *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
		syntax  *pflag.InvalidSyntaxError
		chinese string
	)
	switch {
	case errors.As(err, &unknown):
		chinese = "没有选项 " + writtenFlag(unknown.GetSpecifiedName(), unknown.GetSpecifiedShortnames())
	case errors.As(err, &bare):
		chinese = "选项 " + writtenFlag(bare.GetSpecifiedName(), bare.GetSpecifiedShortnames()) + " 需要一个值"
	case errors.As(err, &invalid):
		chinese = fmt.Sprintf("选项 --%s 的值 %q 不正确：%v", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	case errors.As(err, &syntax):
		chinese = "选项的写法不正确：" + syntax.GetSpecifiedFlag()
	default:
		return err
	}
	return &told{text(err.Error(), chinese), err}
}

// writtenFlag is a flag as it was written: alone, or as a letter among others.
func writtenFlag(name, letters string) string {
	if letters == "" {
		return "--" + name
	}
	if letters == name {
		return "-" + name
	}
	return fmt.Sprintf("-%s（-%s）", name, letters)
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
	defaultsOf(root)
}

// defaultsOf writes the defaults of flags into what describes them: pflag adds them in
// English.
func defaultsOf(cmd *cobra.Command) {
	zero := map[string]string{"bool": "false", "duration": "0s", "int": "0"}
	describe := func(f *pflag.Flag) {
		if none := zero[f.Value.Type()]; f.DefValue != none && f.DefValue != "[]" {
			f.Usage += "（默认 " + f.DefValue + "）"
			f.DefValue = none
		}
	}
	cmd.Flags().VisitAll(describe)
	cmd.PersistentFlags().VisitAll(describe)
	for _, below := range cmd.Commands() {
		defaultsOf(below)
	}
}

// helpFlags describes --help of cmd and of all commands below it.
func helpFlags(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Usage = "显示说明"
	for _, below := range cmd.Commands() {
		helpFlags(below)
	}
}
