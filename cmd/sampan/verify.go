package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/app"
)

func newVerifyCommand() *cobra.Command {
	c := &chore{}
	cmd := c.command("verify", "Read all that is stored, and remove what has rotted", "读取并校验全部缓存内容，删除已损坏的内容", argumentCount(0, 0),
		func(ctx context.Context, m *runningMirror, out io.Writer, _ []string) error {
			return c.verify(ctx, m, out)
		})
	cmd.Long = text(
		"Have the running mirror read all that it stores at once, compare it with its digests, and remove what does\nnot match: it is fetched again when somebody wants it. What cannot be read is counted and left. Pulls go on.\nLeaving the command ends it.\n\nThe exit code is 0 when all is good, 3 when something was rotten or could not be read, 1 when it did not come\nto its end, and 2 for a mistake in the command.",
		"让正在运行的镜像站立即读取全部缓存内容并与摘要比对，删除不符的内容（有人需要时会重新下载）。\n无法读取的内容只计数，不删除。期间拉取不受影响，退出命令即停止。\n\n退出码：0 表示全部完好，3 表示有内容损坏或无法读取，1 表示未能完成，2 表示命令有误。")
	return cmd
}

// verify follows a verification to its end.
func (c *chore) verify(ctx context.Context, m *runningMirror, out io.Writer) error {
	body, err := m.open(ctx, http.MethodPost, "/api/v1/verify")
	if err != nil {
		return err
	}
	defer body.Close()
	show := &progressBar{out: out, screen: screenOf(out)}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	var v app.Verification
	for lines.Scan() {
		v = app.Verification{}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return fmt.Errorf(text("the answer is not that of a mirror: %w", "应答不是镜像站的格式：%w"), err)
		}
		if c.output == "json" {
			fmt.Fprintf(out, "%s\n", bytes.TrimSpace(lines.Bytes()))
			continue
		}
		show.tell(v)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case v.State != "done":
		reason := cmp.Or(v.Error, text("the mirror has ended it", "镜像站中止了校验"))
		return fmt.Errorf(text("not all was read: %s", "未能全部读取：%s"), reason)
	case v.Rotten+v.Unreadable > 0:
		return &rotten{v.Rotten, v.Unreadable}
	}
	return nil
}

// rotten: not all that is stored is good.
type rotten struct{ rotten, unreadable int64 }

func (e *rotten) Error() string {
	return fmt.Sprintf(text("%d were rotten and removed, %d could not be read", "%d 个已损坏并删除，%d 个无法读取"), e.rotten, e.unreadable)
}

// A progressBar shows how far a verification is: in one line of a terminal, or in a line
// for each ten seconds.
type progressBar struct {
	out    io.Writer
	screen *screen // nil without a terminal
	told   time.Time
}

func (b *progressBar) tell(v app.Verification) {
	ended := v.State != "running"
	if b.screen == nil && !ended && time.Since(b.told) < 10*time.Second {
		return
	}
	b.told = time.Now()
	share := 100.0
	if v.TotalBytes > 0 {
		share = min(100, 100*float64(v.Bytes)/float64(v.TotalBytes))
	}
	line := fmt.Sprintf(text("%3.0f%%  %s of %s, %d of %d blobs, %d rotten, %d unreadable", "%3.0f%%  %s / %s，%d / %d 个 blob，损坏 %d，无法读取 %d"),
		share, size(v.Bytes), size(v.TotalBytes), v.Blobs, v.TotalBlobs, v.Rotten, v.Unreadable)
	if b.screen != nil {
		width, _ := b.screen.size()
		const bar = 20
		if full := int(share / 100 * bar); width > len(line)+bar+4 {
			line = "[" + strings.Repeat("#", full) + strings.Repeat(" ", bar-full) + "] " + line
		}
		fmt.Fprint(b.out, "\r\x1b[K"+fit(line, width-1))
	} else {
		fmt.Fprint(b.out, line)
	}
	if b.screen == nil || ended {
		fmt.Fprintln(b.out)
	}
	for _, d := range v.Digests {
		fmt.Fprintln(b.out, d)
	}
}

// open asks the mirror for an answer that comes bit by bit. The caller closes it.
func (m *runningMirror) open(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.base+path, nil)
	if err != nil {
		return nil, err
	}
	if m.token != "" {
		req.Header.Set("Authorization", "Bearer "+m.token)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, unreachable(req.URL.Host, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 300))
	return nil, errors.Join(err, fmt.Errorf("%s: %s: %s", req.URL.Host, resp.Status, strings.TrimSpace(string(answer))))
}
