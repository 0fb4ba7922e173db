package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sampan/internal/client"
	"sampan/internal/transfer/archive"
)

// tell says what was written into the files of those names.
func (o saveOptions) tell(w io.Writer, p *archive.Plan, names []string) error {
	files, total, err := o.files(names)
	if err != nil {
		return err
	}
	if o.json {
		return writeEvents(w, append(append(imageEvents(p.Images()), files...), planSummary(p, ""))...)
	}
	for _, i := range p.Images() {
		if i.Named {
			fmt.Fprintf(w, "%s  %s\n", client.Familiar(i.Ref), i.Descriptor.Digest)
		}
	}
	n, _ := p.Blobs()
	fmt.Fprintf(w, text("%s: %s, %s", "%s：%s，%s"), strings.Join(names, " "), blobs(n), size(total))
	if left, _ := p.Without(); left > 0 {
		fmt.Fprintf(w, text("; %s left out, which the other side has", "；省去对方已有的 %s"), blobs(left))
	}
	_, err = fmt.Fprintln(w)
	return err
}

// blobs is a number of them.
func blobs(n int) string {
	if n == 1 {
		return text("1 blob", "1 个 blob")
	}
	return fmt.Sprintf(text("%d blobs", "%d 个 blob"), n)
}

// files are the names, sizes and checksums of what was written, and how many bytes it
// is in all.
func (o saveOptions) files(names []string) (files []cargoEvent, total int64, err error) {
	sums := map[string]string{}
	if o.json && !o.bare {
		if sums, err = archive.ReadChecksums(o.output); err != nil {
			return nil, 0, err
		}
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, 0, err
		}
		n := info.Size()
		total += n
		files = append(files, cargoEvent{Event: "file", File: name, Bytes: &n, SHA256: sums[filepath.Base(name)]})
	}
	return files, total, nil
}
