package main

import (
	"errors"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"sampan/internal/progress"
)

// A progressFlag is --progress. The zero flag was not given.
type progressFlag struct{ form progress.Form }

// addTo gives a command the flag.
func (p *progressFlag) addTo(cmd *cobra.Command) {
	cmd.Flags().Var(p, "progress", text(
		"`FORM` of progress: auto, bars, plain (a line for each blob), json (an event a line, to standard error) or none",
		"进度显示形式 `FORM`：auto、bars（进度条）、plain（每个数据块一行）、json（每行一个事件，写到标准错误）或 none"))
	var words []string
	for _, f := range progress.Forms() {
		words = append(words, string(f))
	}
	// It fails only where there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc("progress", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// String implements pflag.Value.
func (p *progressFlag) String() string { return string(p.form) }

// Type implements pflag.Value.
func (p *progressFlag) Type() string { return "FORM" }

// Set implements pflag.Value.
func (p *progressFlag) Set(s string) error {
	if !slices.Contains(progress.Forms(), progress.Form(s)) {
		return errors.New(text("it is auto, bars, plain, json or none", "应为 auto、bars、plain、json 或 none"))
	}
	p.form = progress.Form(s)
	return nil
}

// given tells whether somebody has said how progress is to be shown.
func (p progressFlag) given() bool { return p.form != "" }

// show shows progress on w: as the flag says or, where it was not given, unless quiet. It
// is closed by whoever opened it, before anything else is written to w.
func (p progressFlag) show(w io.Writer, quiet bool, states map[progress.State]string) *progress.Show {
	form := p.form
	if !p.given() && quiet {
		form = progress.Quiet
	}
	return progress.New(w, progress.Options{Form: form, Words: progressWords(states)})
}

// progressWords are in the language of who reads.
func progressWords(states map[progress.State]string) progress.Words {
	return progress.Words{
		Total: text("total", "合计"), Left: text("%s left", "剩余 %s"), More: text("%d more", "另有 %d 个"), States: states,
	}
}

// archiveStates are what becomes of blobs on their way into an archive and out of it, in
// words.
func archiveStates() map[progress.State]string {
	return map[progress.State]string{
		progress.Done: text("done", "完成"), progress.Present: text("already there", "已存在"), progress.Failed: text("failed", "失败"),
	}
}
