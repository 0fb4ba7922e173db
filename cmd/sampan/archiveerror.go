package main

import (
	"errors"
	"fmt"

	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
)

// archiveError is an error about archives, for people: in Chinese with what kind of
// error it is in front, and without the codes of the protocol.
func archiveError(err error) error {
	var lacks *transfer.Lacks
	if errors.As(err, &lacks) {
		return lacksError(lacks)
	}
	err = plainWithin(err)
	for _, known := range []struct {
		is      error
		chinese string
	}{
		{archive.ErrChecksum, "校验和不符"},
		{archive.ErrBomb, "解压后过大"},
		{archive.ErrArchive, "不是镜像归档，或已损坏"},
		{archive.ErrBusy, "另一个进程正在写入"},
		{archive.ErrNoFile, "不是可以替换的文件"},
		{archive.ErrVolumes, "分卷过多，请增大 --volume"},
		{archive.ErrBeside, "不是归档旁的文件"},
	} {
		if errors.Is(err, known.is) && text("", known.chinese) != "" {
			return fmt.Errorf("%s：%w", known.chinese, err)
		}
	}
	return err
}

// lacksError says of a bundle which blob is nowhere, and what a person can do.
func lacksError(e *transfer.Lacks) error {
	more := ""
	if n := len(e.Digests) - 1; n > 0 {
		more = fmt.Sprintf(text(" (and %d more)", "（另有 %d 个）"), n)
	}
	return fmt.Errorf(text(
		"the archive lacks a blob that the target does not have either: %s%s\nit is a bundle of what was new: load first what it was made to follow",
		"归档和目标都缺少某个 blob：%s%s\n这是只含新增内容的归档：请先载入它所依据的归档"), e.Digests[0], more)
}
