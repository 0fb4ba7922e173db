package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sampan/internal/config"
)

func newConfigCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "config",
		Short: text("Check and show the configuration", "检查和显示配置"),
	})
	cmd.AddCommand(newConfigCheckCommand(), newConfigShowCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "check",
		Short: text("Check the configuration", "检查配置"),
		Long: text(
			"Check the file, the environment and the flags as serve would, without starting anything.\nEverything that is wrong is told at once, with its place. The exit code is 0 or 2.",
			"像 serve 一样检查配置文件、环境变量和命令行参数，但不启动任何服务。\n所有错误连同位置一次列出。退出码为 0 或 2。"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(config.Source{Environ: os.Environ(), Flags: flags})
			if err != nil {
				return &usageError{err}
			}
			name := cmp.Or(c.File, text("no file, built-in defaults", "没有配置文件，使用内置默认值"))
			_, err = fmt.Fprintf(cmd.OutOrStdout(), text("%s: good\n", "%s：正确\n"), name)
			return err
		},
	}
	addConfigFlags(cmd, &flags)
	return cmd
}

func newConfigShowCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "show",
		Short: text("Show the effective configuration", "显示生效的配置"),
		Long: text(
			"Show the configuration that serve would use, as a file that it accepts. Secrets are masked.",
			"以可再次加载的 YAML 显示 serve 将使用的配置，密钥会被隐藏。"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(config.Source{Environ: os.Environ(), Flags: flags})
			if err != nil {
				return &usageError{err}
			}
			return c.Show(cmd.OutOrStdout())
		},
	}
	addConfigFlags(cmd, &flags)
	return cmd
}
