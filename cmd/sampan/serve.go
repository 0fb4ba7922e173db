package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"sampan/internal/app"
	"sampan/internal/config"
)

func newServeCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: text("Serve the mirror", "启动镜像站"),
		Long: text(
			"Serve a mirror of every configured registry until the process is told to stop.\nNothing has to be configured.",
			"启动镜像站，服务所有已配置的镜像仓库，直到进程被要求停止。\n无需任何配置。"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd, flags) },
	}
	addConfigFlags(cmd, &flags)
	return cmd
}

// addConfigFlags adds the flags that override the configuration.
func addConfigFlags(cmd *cobra.Command, flags *config.Flags) {
	f := cmd.Flags()
	f.StringVar(&flags.Config, "config", "", text("configuration `FILE`", "配置文件 `FILE`"))
	f.StringVar(&flags.Listen, "listen", "", text("`ADDR` where clients come (default 127.0.0.1:5000)", "客户端使用的监听地址 `ADDR`（默认 127.0.0.1:5000）"))
	f.StringVar(&flags.AdminListen, "admin-listen", "", text("`ADDR` of health and metrics, or off (default 127.0.0.1:5001)", "健康检查与指标的监听地址 `ADDR`，或 off（默认 127.0.0.1:5001）"))
	f.StringVar(&flags.DataDir, "data", "", dataUsage())
	f.BoolFunc("offline", text("answer from the cache alone and ask no registry", "只用缓存应答，不访问任何上游仓库"), func(s string) error {
		flags.Offline = s // --offline=false wins over the file
		return nil
	})
	f.StringArrayVar(&flags.Upstreams, "upstream", nil, text(
		"`NAME=URL` of an upstream registry, repeatable; http:// means plain HTTP, oci:DIR and archive:FILE are images on this disk",
		"上游仓库 `NAME=URL`，可重复；http:// 表示明文 HTTP，oci:DIR 和 archive:FILE 表示本机磁盘上的镜像"))
}

// dataUsage tells the default, which differs with the user.
func dataUsage() string {
	return text("`DIR` of the data (default /var/lib/sampan for root, else ~/.local/share/sampan)",
		"数据目录 `DIR`（root 默认 /var/lib/sampan，其他用户默认 ~/.local/share/sampan）")
}

func serve(cmd *cobra.Command, flags config.Flags) error {
	load := func() (*config.Config, error) { return config.Load(config.Source{Environ: os.Environ(), Flags: flags}) }
	c, err := load()
	if err != nil {
		return &usageError{err}
	}
	if c.File != "" {
		flags.Config = c.File // the same one again, and no other when it is gone
	}
	logs := app.NewLogs(c.Log, cmd.ErrOrStderr(), cmd.OutOrStdout())
	log := logs.Process()
	a, err := app.New(app.Options{Config: c, Load: load, Log: log, Access: logs.Access(), SetLog: logs.Set, Stderr: cmd.ErrOrStderr(), Version: version()})
	if err != nil {
		return explain(err, c.Data.Dir)
	}
	log.Info("serving", "listen", a.Addr(), "admin", a.AdminAddr(), "data", c.Data.Dir, "registries", len(c.Upstreams), "offline", c.Offline)
	// Who says it twice does not want to wait for running responses.
	defer context.AfterFunc(cmd.Context(), func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })()
	stop := onHangup(a)
	err = a.Run(cmd.Context())
	stop()
	log.Info("stopped")
	return err
}

// onHangup reloads the configuration at each SIGHUP until stop is called.
func onHangup(a *app.App) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var running sync.WaitGroup
	running.Go(func() {
		for range hangups {
			_ = a.Reload() // it has told the log
		}
	})
	return func() {
		signal.Stop(hangups)
		close(hangups)
		running.Wait()
	}
}

// explain adds what to do to the errors of starting that have an answer.
func explain(err error, dir string) error {
	switch {
	case errors.Is(err, app.ErrDamaged):
		return fmt.Errorf("%w\n%s", err, text(
			"Repair it with: sampan cache repair --data "+dir+"\nNo blob is lost; names that cannot be read are asked for again.",
			"修复命令：sampan cache repair --data "+dir+"\n不会丢失任何 blob；无法读取的名称会重新向上游查询。"))
	case errors.Is(err, app.ErrLocked):
		return fmt.Errorf("%w\n%s", err, text(
			"One process uses a data directory at a time: stop the other one, or choose another directory with --data.",
			"一个数据目录同时只能由一个进程使用：请先停止另一个进程，或用 --data 指定其他目录。"))
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w\n%s", err, text(
			"Another process listens there: stop it, or choose another address with --listen and --admin-listen.",
			"该地址已被其他进程占用：请停止那个进程，或用 --listen 和 --admin-listen 指定其他地址。"))
	case errors.Is(err, app.ErrUnwritable):
		return fmt.Errorf("%w\n%s", err, text(
			"The data directory must be writable at the start: make room, mend its permissions, or choose another one with --data.",
			"启动时数据目录必须可写：请释放空间、修正权限，或用 --data 指定其他目录。"))
	}
	return err
}
