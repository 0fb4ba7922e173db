package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/app"
	"sampan/internal/config"
)

func newCacheCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "cache",
		Short: text("Look after what is here", "管理缓存的内容"),
	})
	cmd.AddCommand(newListCommand(), newUsageCommand(), newRemoveCommand(), newPurgeCommand(),
		newPinCommand("pin", true), newPinCommand("unpin", false), newPrefetchCommand(), newVerifyCommand(), newTopCommand(), newTasksCommand(), newRepairCommand())
	return cmd
}

func newRepairCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "repair",
		Short: text("Make a damaged index anew from what can be read of it", "用仍可读取的内容重建损坏的索引"),
		Long: text(
			"Make a new index of names from what can still be read of a damaged one.\nThe mirror must not be running. The damaged file is kept beside the new one, and no blob is touched.",
			"从损坏的名称索引中读取仍然完好的记录，重建一个新索引。\n执行时镜像站不能在运行。损坏的文件会保留在新文件旁边，不会改动任何 blob。"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return repair(cmd, flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.Config, "config", "", text("configuration `FILE`", "配置文件 `FILE`"))
	f.StringVar(&flags.DataDir, "data", "", dataUsage())
	return cmd
}

func repair(cmd *cobra.Command, flags config.Flags) error {
	c, err := config.Load(config.Source{Environ: os.Environ(), Flags: flags, Bystander: true})
	if err != nil {
		return &usageError{err}
	}
	r, err := app.Repair(c.Data.Dir, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w\n%s", err, text(
			"Name the directory that the mirror uses with --data.",
			"请用 --data 指定镜像站使用的数据目录。"))
	}
	if err != nil {
		return explain(err, c.Data.Dir)
	}
	fmt.Fprintf(cmd.OutOrStdout(), text(
		"%d records kept, %d lost; the former file is now %s\n",
		"保留 %d 条记录，丢失 %d 条；原来的文件现为 %s\n"), r.Kept, r.Lost, r.Old)
	for _, bucket := range r.Unread {
		fmt.Fprintf(cmd.OutOrStdout(), text("%s could not be read to the end\n", "%s 未能完整读取\n"), bucket)
	}
	return nil
}
