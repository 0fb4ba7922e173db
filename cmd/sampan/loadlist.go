package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// list tells names and digests.
func list(w io.Writer, images []layout.Image) error {
	for _, i := range images {
		name := client.Familiar(i.Ref)
		if isUnnamed(i) || i.Ref.Repository.IsZero() {
			name = text("(no name)", "（无名）")
			if !i.Ref.Tag.IsZero() {
				name += ":" + i.Ref.Tag.String()
			}
		}
		if _, err := fmt.Fprintf(w, "%s  %s\n", name, i.Descriptor.Digest); err != nil {
			return err
		}
	}
	return nil
}

// imageEvents are names and digests as JSON.
func imageEvents(images []layout.Image) []cargoEvent {
	var events []cargoEvent
	for _, i := range images {
		e := cargoEvent{Event: "image", Digest: i.Descriptor.Digest.String()}
		if !i.Ref.Repository.IsZero() && !isUnnamed(i) {
			e.Source = i.Ref.String()
		}
		events = append(events, e)
	}
	return events
}

// planSummary counts the blobs of an archive, and those that it leaves out.
func planSummary(p *archive.Plan, engine string) cargoEvent {
	var sent, present transfer.Count
	sent.Blobs, sent.Bytes = p.Blobs()
	present.Blobs, present.Bytes = p.Without()
	return cargoEvent{Event: "summary", Engine: engine, Sent: &sent, Present: &present, Failed: new(int)}
}

// listText tells names and digests, and at last how much the archive has.
func (o loadOptions) listText(cmd *cobra.Command, a *archive.Archive, images []layout.Image) error {
	if err := list(cmd.OutOrStdout(), images); err != nil || o.quiet {
		return err
	}
	has, lacks, err := inventory(cmd.Context(), a, images)
	if oci.CodeOf(err) == oci.CodeManifestUnknown { // a part of an image, as engines save it
		return nil
	}
	if err != nil {
		return err
	}
	said := fmt.Sprintf(text("%s, %s", "%s，%s"), blobs(has.Blobs), size(has.Bytes))
	if lacks.Blobs > 0 {
		said += fmt.Sprintf(text("; %s (%s) left out, which the other side has to have", "；省去 %s（%s），须由对方已有"), blobs(lacks.Blobs), size(lacks.Bytes))
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), said)
	return err
}

// listJSON tells names and digests, and which blobs the archive has.
func listJSON(ctx context.Context, out io.Writer, a *archive.Archive, images []layout.Image) error {
	has, lacks, err := inventory(ctx, a, images)
	if err != nil {
		return err
	}
	return writeEvents(out, append(imageEvents(images), cargoEvent{Event: "summary", Present: &has, Missing: &lacks})...)
}

// inventory counts the blobs of images that the archive has, and those that it leaves out.
func inventory(ctx context.Context, a *archive.Archive, images []layout.Image) (has, lacks transfer.Count, err error) {
	present, missing := map[oci.Digest]int64{}, map[oci.Digest]int64{}
	asked := map[oci.Repository]bool{}
	for _, i := range images {
		repo := i.Ref.Repository
		if asked[repo] {
			continue
		}
		asked[repo] = true
		here, err := a.Present(ctx, repo)
		if err != nil {
			return has, lacks, archiveError(err)
		}
		gone, err := a.Missing(ctx, repo)
		if err != nil {
			return has, lacks, archiveError(err)
		}
		for _, d := range here {
			present[d.Digest] = d.Size
		}
		for _, d := range gone {
			missing[d.Digest] = d.Size
		}
	}
	return countOf(present), countOf(missing), nil
}

func countOf(blobs map[oci.Digest]int64) transfer.Count {
	c := transfer.Count{Blobs: len(blobs)}
	for _, size := range blobs {
		c.Bytes += max(size, 0)
	}
	return c
}
