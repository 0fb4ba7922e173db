package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/app"
)

func newTopCommand() *cobra.Command {
	c := &chore{}
	cmd := c.command("top", "Show what is being fetched and pulled, as it goes on", "实时查看正在进行的下载和拉取", argumentCount(0, 0),
		func(ctx context.Context, m *runningMirror, out io.Writer, _ []string) error {
			return c.top(ctx, m, out)
		})
	cmd.Long = text(
		"Show the fetches from upstreams and the blobs that are being sent to clients, every second, until q or Ctrl-C.\nWithout a terminal it is shown once. With -o json each event of the mirror is a line, until Ctrl-C.\n\nThe exit code is 0, 1 when the mirror cannot be asked or has stopped, and 2 for a mistake in the command.",
		"每秒显示正在从上游下载的内容和正在发给客户端的 blob，按 q 或 Ctrl-C 退出。输出不是终端时只显示一次。\n使用 -o json 时，镜像站的每个事件输出为一行，按 Ctrl-C 退出。\n\n退出码：0 表示正常，1 表示无法查询镜像站或镜像站已停止，2 表示命令有误。")
	return cmd
}

// top follows the events of the mirror.
func (c *chore) top(ctx context.Context, m *runningMirror, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := m.open(ctx, http.MethodGet, "/api/v1/events")
	if err != nil {
		return err
	}
	defer body.Close()
	page := screenOf(out)
	if page != nil && c.output != "json" {
		defer keys("qQ\x03", cancel)()
		fmt.Fprint(out, "\x1b[?1049h\x1b[?25l") // another page, without a cursor
		defer fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
	}
	err = events(body, func(name string, data []byte) (more bool, err error) {
		if c.output == "json" {
			_, err := fmt.Fprintf(out, "{\"event\":%q,\"data\":%s}\n", name, data)
			return true, err
		}
		if name != "progress" {
			return true, nil
		}
		var now app.Moment
		if err := json.Unmarshal(data, &now); err != nil {
			return false, fmt.Errorf(text("the answer is not that of a mirror: %w", "应答不是镜像站的格式：%w"), err)
		}
		if page == nil {
			_, err := fmt.Fprintln(out, strings.Join(moments(now), "\n"))
			return false, err
		}
		page.show(moments(now))
		return true, nil
	})
	if ctx.Err() != nil {
		return nil // whoever looked has seen enough
	}
	return err
}

// events reads Server-Sent Events until f wants no more. Their end is an error.
func events(r io.Reader, f func(name string, data []byte) (more bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxAnswer)
	name := ""
	for lines.Scan() {
		if rest, ok := bytes.CutPrefix(lines.Bytes(), []byte("event: ")); ok {
			name = string(rest)
			continue
		}
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if more, err := f(name, data); !more || err != nil {
			return err
		}
	}
	return errors.Join(lines.Err(), errors.New(text("the mirror tells no more", "镜像站已停止发送")))
}

// moments is what is going on as lines.
func moments(m app.Moment) []string {
	var b strings.Builder
	fmt.Fprintf(&b, text("%s   %d fetches, %d pulls\n\n", "%s   下载 %d，拉取 %d\n\n"), m.Time.Local().Format(time.TimeOnly), m.FillsTotal, m.PullsTotal)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, text("FETCHED\tOF\t/S\tLINES\tREADERS\tDIGEST\tREPOSITORY", "已下载\t共\t每秒\t连接\t读者\t摘要\t镜像库"))
	for _, f := range m.Fills {
		repository := ""
		if len(f.Repositories) > 0 {
			repository = f.Repositories[0]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.19s\t%s\n", size(f.Bytes), sizeOr(f.Size), size(f.BytesPerSecond), f.Lines, f.Readers, f.Digest, repository)
	}
	_ = w.Flush() // into memory
	b.WriteByte('\n')
	fmt.Fprintln(w, text("SENT\tOF\t/S\tCLIENT\tUSER\tDIGEST\tREPOSITORY", "已发送\t共\t每秒\t客户端\t用户\t摘要\t镜像库"))
	for _, p := range m.Pulls {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.19s\t%s\n", size(p.Bytes), sizeOr(p.Size), size(p.BytesPerSecond), p.Client, p.User, p.Digest, p.Repository)
	}
	_ = w.Flush() // into memory
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// sizeOr is a size that may not be known.
func sizeOr(n int64) string {
	if n < 0 {
		return "?"
	}
	return size(n)
}
