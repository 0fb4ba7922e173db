package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func newTasksCommand() *cobra.Command {
	c := &chore{}
	name := ""
	cmd := c.command("tasks", "Tell what is done at set times, and what came of it", "查看定时任务及其结果", argumentCount(0, 0),
		func(ctx context.Context, m *runningMirror, out io.Writer, _ []string) error {
			if name != "" {
				if _, err := m.ask(ctx, http.MethodPost, "/api/v1/tasks/run?name="+url.QueryEscape(name), nil); err != nil {
					return err
				}
			}
			body, err := m.ask(ctx, http.MethodGet, "/api/v1/tasks", nil)
			if err != nil {
				return err
			}
			var v struct{ Tasks []toldTask }
			return c.say(out, body, &v, func(w io.Writer) {
				fmt.Fprintln(w, text("TASK\tDOES\tCRON\tNEXT\tLAST\tTOOK\tOUTCOME", "任务\t内容\tCRON\t下次\t上次\t用时\t结果"))
				for _, t := range v.Tasks {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Name, t.Do, t.Cron, moment(t.Next), t.Last.words())
				}
			})
		})
	cmd.Flags().StringVar(&name, "run", "", text("begin the task of this `NAME` now", "立即开始名为 `NAME` 的任务"))
	return cmd
}

// A toldTask is what the mirror tells of one.
type toldTask struct {
	Name, Do, Cron string
	Next           time.Time
	Last           *toldRun
}

// A toldRun is its last run; nil is none.
type toldRun struct {
	Started, Ended time.Time
	Outcome, Error string
}

// words are when it was, how long it took, and what came of it.
func (r *toldRun) words() string {
	switch {
	case r == nil:
		return "-\t-\t-"
	case r.Ended.IsZero():
		return moment(r.Started) + "\t-\t" + text("running", "正在运行")
	}
	outcome := cmp.Or(r.Outcome, "-")
	if r.Error != "" {
		outcome = text("FAILED: ", "失败：") + r.Error
		if r.Outcome != "" {
			outcome += " (" + r.Outcome + ")"
		}
	}
	return fmt.Sprintf("%s\t%s\t%s", moment(r.Started), r.Ended.Sub(r.Started).Round(time.Millisecond), outcome)
}
