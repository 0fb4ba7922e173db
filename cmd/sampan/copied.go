package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
)

// A copyEvent is what is told of a copy as JSON, behind the events of its progress.
type copyEvent struct {
	Event     string          `json:"event"` // image, summary
	Source    string          `json:"source,omitempty"`
	Target    string          `json:"target,omitempty"`
	Digest    string          `json:"digest,omitempty"`
	Unchanged bool            `json:"unchanged,omitempty"`
	Error     string          `json:"error,omitempty"`
	Sent      *transfer.Count `json:"sent,omitempty"`
	Present   *transfer.Count `json:"present,omitempty"`
	DryRun    bool            `json:"dry_run,omitempty"`
	Failed    *int            `json:"failed,omitempty"`
}

// told writes what became of the images.
func (o copyOptions) told(cmd *cobra.Command, report transfer.Report) error {
	out := cmd.OutOrStdout()
	if o.output == "json" {
		return o.toldJSON(out, report)
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
		case o.quiet:
			_, err = fmt.Fprintf(out, "%s  %s\n", name, r.Descriptor.Digest)
		case !o.dryRun:
			_, err = io.WriteString(out, commands(r.Job.Source, name))
		default:
			_, err = fmt.Fprintf(out, "%s → %s  %s\n", r.Job.Source, name, dryState(r))
		}
		if err != nil {
			return err
		}
	}
	if o.quiet || good == 0 {
		return nil
	}
	return o.summary(cmd.ErrOrStderr(), report)
}

func dryState(r transfer.Result) string {
	if r.Unchanged {
		return text("already there", "已存在")
	}
	return text("to be copied", "待复制")
}

// summary is one line for all images.
func (o copyOptions) summary(out io.Writer, report transfer.Report) error {
	format := text("%d blobs copied (%s), %d were there (%s)\n", "已复制 %d 个数据块（%s），%d 个已存在（%s）\n")
	if o.dryRun {
		format = text("%d blobs would be copied (%s), %d are there (%s); nothing was sent\n", "将复制 %d 个数据块（%s），%d 个已存在（%s）；未传输任何内容\n")
	}
	_, err := fmt.Fprintf(out, format, report.Sent.Blobs, progress.Bytes(report.Sent.Bytes), report.Present.Blobs, progress.Bytes(report.Present.Bytes))
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

// commands are what a person types to pull a copy, and to give it the source's name.
func commands(source oci.Reference, name string) string {
	pull := "docker pull " + name + "\n"
	if source.Tag.IsZero() {
		return pull // nothing can be tagged with a digest
	}
	source.Digest = oci.Digest{}
	return pull + "docker tag " + name + " " + client.Familiar(source) + "\n"
}

func (o copyOptions) toldJSON(out io.Writer, report transfer.Report) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	failed := 0
	for _, r := range report.Images {
		line := copyEvent{Event: "image", Source: r.Job.Source.String(), Target: copyName(r), Digest: r.Descriptor.Digest.String(), Unchanged: r.Unchanged}
		if r.Err != nil {
			failed++
			line.Error = hinted(r.Err).Error()
		}
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	return e.Encode(copyEvent{Event: "summary", Sent: &report.Sent, Present: &report.Present, DryRun: o.dryRun, Failed: &failed})
}
