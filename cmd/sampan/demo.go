package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sampan/internal/demo"
)

func newDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: text("Show a cold pull, a warm pull and a stampede, offline", "离线演示：冷拉取、热拉取与并发拉取"),
		Long: text(
			"Start a mirror and a simulated registry on free ports of this machine, pull through them, and show what\nthe registry was asked. No network is used and nothing is left behind. The exit code is 0 if everything\nwas as it should be.",
			"在本机空闲端口启动镜像站和一个模拟的上游仓库，通过镜像站拉取镜像，并列出上游收到的请求。\n不使用网络，结束后不留下任何文件。一切符合预期时退出码为 0。"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A terminal that closes, or a pipe that nobody reads, must not
			// keep it from tidying up.
			signal.Ignore(syscall.SIGPIPE)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			return demo.Run(ctx, demo.Options{Executable: executable, Out: cmd.OutOrStdout(), Text: text})
		},
	}
}
