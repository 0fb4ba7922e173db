package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: text("Write the manual pages", "生成手册页"),
		Long: text(
			"Write a manual page of section 1 for each command into the directory DIR, which is created if need be. They\nare the same texts as --help, in the language of the environment.",
			"为每个命令生成一页第 1 节的手册页，写入目录 DIR（不存在时会创建）。内容与 --help 相同，使用当前环境的\n语言。"),
		Example: "  sampan man /usr/local/share/man/man1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usagef(text("man takes one directory, not %d", "man 需要一个目录，而不是 %d 个"), len(args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			n, err := writeManual(cmd.Root(), args[0])
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), text("%d pages in %s\n", "%d 页，位于 %s\n"), n, args[0])
			}
			return err
		},
	}
}

// buildTime is that of the revision which this program was built from; nil where it
// is not known, which stands for today, or for SOURCE_DATE_EPOCH.
func buildTime() *time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return &t
			}
		}
	}
	return nil
}

// writeManual writes the page of cmd and of those below it, and tells how many.
func writeManual(cmd *cobra.Command, dir string) (pages int, err error) {
	if cmd.Hidden || cmd.Name() == "help" {
		return 0, nil
	}
	for _, below := range cmd.Commands() {
		n, err := writeManual(below, dir)
		if pages += n; err != nil {
			return pages, err
		}
	}
	cmd.DisableAutoGenTag = true // the same program writes the same pages
	var page bytes.Buffer
	header := &doc.GenManHeader{Section: "1", Source: "sampan " + version(), Manual: text("sampan manual", "sampan 手册"), Date: buildTime()}
	if err := doc.GenMan(cmd, header, &page); err != nil {
		return pages, err
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	return pages + 1, os.WriteFile(filepath.Join(dir, name), page.Bytes(), 0o644)
}
