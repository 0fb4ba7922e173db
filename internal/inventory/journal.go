package inventory

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sampan/internal/oci"
)

// note writes down which digests a deletion is about, before the first name goes. A
// deletion goes on without, where the disk is full: that is what it may be for.
func (v *Inventory) note(leave map[oci.Digest]bool) {
	if v.o.Journal == "" || len(leave) == 0 {
		return
	}
	var b strings.Builder
	for d := range leave {
		b.WriteString(d.String() + "\n")
	}
	if err := writeSynced(v.o.Journal, b.String()); err != nil {
		v.o.Log.Warn("deletion not written down, a crash may leave files that nothing refers to", "err", err)
	}
}

// writeSynced replaces a file, so that it is there whole or as before.
func writeSynced(name, text string) error {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// noted: the deletion has come to its end.
func (v *Inventory) noted() {
	if v.o.Journal == "" {
		return
	}
	if err := os.Remove(v.o.Journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.o.Log.Warn("record of a deletion not removed", "err", err)
	}
}

// Resume ends a deletion that a crash has cut off: of what it was about, the bytes go
// that no repository is linked to. It is called at the start, and before each deletion.
func (v *Inventory) Resume(ctx context.Context) error {
	v.changing.Lock()
	defer v.changing.Unlock()
	return v.resume(ctx)
}

func (v *Inventory) resume(ctx context.Context) error {
	if v.o.Journal == "" {
		return nil
	}
	f, err := os.Open(v.o.Journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	defer f.Close()
	p := newPlan(v)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if d, err := oci.ParseDigest(lines.Text()); err == nil {
			p.leave[d] = false
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	if err := p.removeUnnamed(ctx, nil, false); err != nil {
		return err
	}
	v.o.Log.Info("deletion that was cut off has ended", "blobs", p.report.Blobs, "bytes", p.report.Bytes)
	v.noted()
	return nil
}
