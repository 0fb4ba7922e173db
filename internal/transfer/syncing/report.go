package syncing

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sampan/internal/oci"
)

// A Result is what became of an image.
type Result string

// The results.
const (
	Copied    Result = "copied"
	Unchanged Result = "unchanged"
	Failed    Result = "failed"
	Pruned    Result = "pruned" // a tag that the list does not have any more
	// Kept is such a tag that has the same digest as an image that stays, or as a part of one: registries that
	// delete the manifest with a tag would take that one along.
	Kept Result = "kept"
	// Interrupted is what had not been seen to when the run was ended.
	Interrupted Result = "interrupted"
)

// results are all, in the order of reports.
func results() []Result { return []Result{Copied, Unchanged, Pruned, Kept, Failed, Interrupted} }

// An Outcome is one line of a report.
type Outcome struct {
	Source string `json:"source,omitempty"` // empty for what was pruned
	Target string `json:"target,omitempty"` // empty where it failed before that was known
	Digest string `json:"digest,omitempty"`
	Result Result `json:"result"`
	Error  string `json:"error,omitempty"`
}

// A Report is what a run did; of a dry run, what it would do.
type Report struct {
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	DryRun bool      `json:"dry_run,omitempty"`
	Images []Outcome `json:"images"`
	// Empty are repositories of which the list chooses no tag.
	Empty []string `json:"empty,omitempty"`
	// Withheld tells that nothing is pruned because something failed. Of a dry run, what is
	// Pruned would then go if nothing failed.
	Withheld bool  `json:"prune_withheld,omitempty"`
	Blobs    int   `json:"blobs"` // that crossed
	Bytes    int64 `json:"bytes"` // of those
	Complete bool  `json:"complete"`

	tell  func(error) string                               // Options.Tell
	kept  map[oci.Repository]map[oci.Digest]oci.Descriptor // what images are at their targets
	parts map[oci.Repository]map[oci.Digest]bool           // what their indexes name, where that was asked
}

// Count tells how many images have a result.
func (r *Report) Count(of Result) int {
	n := 0
	for _, o := range r.Images {
		if o.Result == of {
			n++
		}
	}
	return n
}

// WriteText writes what moved, what failed and why, and the sum. Text chooses the
// language, and size writes a number of bytes.
func (r *Report) WriteText(w io.Writer, text func(english, chinese string) string, size func(int64) string) error {
	word := map[Result]string{
		Copied: text("copied", "已复制"), Unchanged: text("unchanged", "未变"), Failed: text("failed", "失败"), Pruned: text("deleted", "已删除"),
		Kept: text("kept, being the same as a tag that stays, or a part of one", "保留，与另一保留的标签相同或为其一部分"), Interrupted: text("interrupted", "被中断"),
	}
	if r.DryRun {
		word[Copied], word[Pruned] = text("would be copied", "将复制"), text("would be deleted", "将删除")
	}
	if r.DryRun && r.Withheld {
		word[Pruned] = text("would be deleted if nothing failed", "若无失败则将删除")
	}
	var b strings.Builder
	colon := text(": ", "：")
	for _, o := range r.Images {
		if o.Result == Unchanged || o.Result == Interrupted {
			continue // the sum tells of them
		}
		name := o.Source // of what was pruned: the target's
		switch {
		case name == "":
			name = o.Target
		case o.Target != "":
			name += " → " + o.Target
		}
		b.WriteString(name + colon + word[o.Result])
		if o.Error != "" {
			b.WriteString(colon + o.Error)
		}
		b.WriteByte('\n')
	}
	for _, source := range r.Empty {
		b.WriteString(source + colon + text(ErrEmpty.Error(), "tags 未选中任何标签") + "\n")
	}
	switch {
	case r.Withheld && r.DryRun:
		b.WriteString(text("nothing would be deleted, because something fails\n", "因为有失败，不会删除任何标签\n"))
	case r.Withheld:
		b.WriteString(text("nothing was deleted, because something failed\n", "因为有失败，没有删除任何标签\n"))
	}
	var sum []string
	for _, of := range results() {
		if n := r.Count(of); n > 0 {
			sum = append(sum, fmt.Sprintf("%d %s", n, word[of]))
		}
	}
	if len(sum) == 0 {
		sum = append(sum, text("nothing to do", "无事可做"))
	}
	line := text("%s; %d blobs, %s in %s\n", "%s；%d 个 blob，%s，用时 %s\n")
	if r.Blobs == 1 {
		line = text("%s; %d blob, %s in %s\n", line)
	}
	fmt.Fprintf(&b, line, strings.Join(sum, text(", ", "，")), r.Blobs, size(r.Bytes), r.Ended.Sub(r.Began).Round(time.Millisecond))
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMetrics writes what the textfile collector of Prometheus' node exporter reads.
// Repositories and tags are no labels.
func (r *Report) WriteMetrics(w io.Writer) error {
	var b strings.Builder
	metric := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	metric("sampan_sync_images", "gauge", "Images of the last run by what became of them.")
	for _, of := range results() {
		fmt.Fprintf(&b, "sampan_sync_images{result=%q} %d\n", of, r.Count(of))
	}
	metric("sampan_sync_blobs", "gauge", "Blobs that the last run carried.")
	fmt.Fprintf(&b, "sampan_sync_blobs %d\n", r.Blobs)
	metric("sampan_sync_bytes", "gauge", "Bytes of blobs that the last run carried.")
	fmt.Fprintf(&b, "sampan_sync_bytes %d\n", r.Bytes)
	metric("sampan_sync_duration_seconds", "gauge", "How long the last run took.")
	fmt.Fprintf(&b, "sampan_sync_duration_seconds %g\n", r.Ended.Sub(r.Began).Seconds())
	metric("sampan_sync_end_timestamp_seconds", "gauge", "When the last run ended.")
	fmt.Fprintf(&b, "sampan_sync_end_timestamp_seconds %d\n", r.Ended.Unix())
	metric("sampan_sync_complete", "gauge", "Whether nothing of the last run failed.")
	complete := 0
	if r.Complete {
		complete = 1
	}
	fmt.Fprintf(&b, "sampan_sync_complete %d\n", complete)
	_, err := io.WriteString(w, b.String())
	return err
}
