package main

import (
	"io"

	"sampan/internal/progress"
)

// showBlobs shows blobs on their way into an archive and out of it. It is closed by
// whoever opened it, before anything else is written to w.
func showBlobs(w io.Writer, quiet bool) *progress.Show {
	o := progress.Options{Total: text("total", "合计"), States: map[progress.State]string{
		progress.Done: text("done", "完成"), progress.Present: text("already there", "已存在"), progress.Failed: text("failed", "失败"),
	}}
	if quiet {
		o.Form = progress.Quiet
	}
	return progress.New(w, o)
}
