package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
)

// A cargoEvent is what is told as JSON of images that were carried, one event a line.
type cargoEvent struct {
	Event     string `json:"event"` // image, file, summary
	Source    string `json:"source,omitempty"`
	Target    string `json:"target,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Unchanged bool   `json:"unchanged,omitempty"`
	Error     string `json:"error,omitempty"`

	File   string `json:"file,omitempty"`
	Bytes  *int64 `json:"bytes,omitempty"` // of the file
	SHA256 string `json:"sha256,omitempty"`

	Engine  string          `json:"engine,omitempty"` // that it was loaded into
	Sent    *transfer.Count `json:"sent,omitempty"`
	Present *transfer.Count `json:"present,omitempty"`
	Missing *transfer.Count `json:"missing,omitempty"` // in an archive
	DryRun  bool            `json:"dry_run,omitempty"`
	Failed  *int            `json:"failed,omitempty"`
}

// writeEvents writes events as JSON, one a line.
func writeEvents(out io.Writer, events ...cargoEvent) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, event := range events {
		if err := e.Encode(event); err != nil {
			return err
		}
	}
	return nil
}

// A telling is how it is told what became of images on their way to a registry.
type telling struct {
	json, quiet, dryRun bool
	// problem says an error for people; nil means [hinted].
	problem func(error) error
}

// tell writes what became of the images.
func (t telling) tell(cmd *cobra.Command, report transfer.Report) error {
	out := cmd.OutOrStdout()
	if t.json {
		return t.tellJSON(out, report)
	}
	good := 0
	for _, r := range report.Images {
		if r.Err != nil || r.Descriptor.Digest.IsZero() {
			continue
		}
		good++
		name := copyName(r)
		var err error
		switch {
		case t.quiet:
			_, err = fmt.Fprintf(out, "%s  %s\n", name, r.Descriptor.Digest)
		case !t.dryRun:
			_, err = io.WriteString(out, commands(r.Job.Source, name))
		default:
			_, err = fmt.Fprintf(out, "%s → %s  %s\n", r.Job.Source, name, dryState(r))
		}
		if err != nil {
			return err
		}
	}
	if t.quiet || good == 0 {
		return nil
	}
	return t.conclude(cmd.ErrOrStderr(), report)
}

// conclude is the last line: what was sent, or that nothing had to be.
func (t telling) conclude(out io.Writer, report transfer.Report) error {
	for _, r := range report.Images {
		if !r.Unchanged {
			return t.summary(out, report)
		}
	}
	_, err := fmt.Fprintln(out, text("everything was there already", "全部内容已存在"))
	return err
}

func dryState(r transfer.Result) string {
	if r.Unchanged {
		return text("already there", "已存在")
	}
	return text("to be copied", "待复制")
}

// summary is one line for all images.
func (t telling) summary(out io.Writer, report transfer.Report) error {
	format := text("%s copied (%s), %d already there (%s)\n", "已复制 %s（%s），%d 个已存在（%s）\n")
	if t.dryRun {
		format = text("%s would be copied (%s), %d already there (%s); nothing was sent\n", "将复制 %s（%s），%d 个已存在（%s）；未传输任何内容\n")
	}
	_, err := fmt.Fprintf(out, format, blobs(report.Sent.Blobs), progress.Bytes(report.Sent.Bytes), report.Present.Blobs, progress.Bytes(report.Present.Bytes))
	return err
}

// copyName is what a copy is called.
func copyName(r transfer.Result) string {
	ref := oci.Reference{Repository: r.Job.Target}
	if len(r.Job.Tags) > 0 {
		ref.Tag = r.Job.Tags[0]
	} else {
		ref.Digest = r.Descriptor.Digest
	}
	return ref.String()
}

// commands are what a person types to pull a copy, and to give it the source's name;
// nothing for what is attached to an image, which nobody pulls.
func commands(source oci.Reference, name string) string {
	if isAttachedTag(source.Tag) {
		return ""
	}
	pull := "docker pull " + name + "\n"
	if source.Tag.IsZero() {
		return pull // nothing can be tagged with a digest
	}
	source.Digest = oci.Digest{}
	return pull + "docker tag " + name + " " + client.Familiar(source) + "\n"
}

// isAttachedTag tells tags under which signatures and the like are kept for a digest:
// sha256-<hex>.sig.
func isAttachedTag(tag oci.Tag) bool {
	algorithm, rest, ok := strings.Cut(tag.String(), "-")
	hex, _, _ := strings.Cut(rest, ".")
	if !ok {
		return false
	}
	_, err := oci.ParseDigest(algorithm + ":" + hex)
	return err == nil
}

func (t telling) tellJSON(out io.Writer, report transfer.Report) error {
	problem := t.problem
	if problem == nil {
		problem = hinted
	}
	var events []cargoEvent
	failed := 0
	for _, r := range report.Images {
		e := cargoEvent{Event: "image", Source: r.Job.Source.String(), Target: copyName(r), Digest: r.Descriptor.Digest.String(), Unchanged: r.Unchanged}
		if r.Err != nil {
			failed++
			e.Error = problem(r.Err).Error()
		}
		events = append(events, e)
	}
	events = append(events, cargoEvent{Event: "summary", Sent: &report.Sent, Present: &report.Present, DryRun: t.dryRun, Failed: &failed})
	return writeEvents(out, events...)
}
