package main

import (
	"context"
	"errors"
	"fmt"

	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/running"
)

// archiveError is an error about archives, and about a running mirror that they are loaded
// into, for people: in Chinese with what kind of
// error it is in front, and without the codes of the protocol.
func archiveError(err error) error {
	if errors.Is(err, context.Canceled) {
		return &told{text("interrupted", "已中断"), err}
	}
	what := advice(err)
	err = plainWithin(err)
	if what != "" {
		err = fmt.Errorf("%w\n%s", err, what)
	}
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
		{running.ErrNoAnswer, "镜像站没有应答"},
		{running.ErrForeign, "应答不是镜像站的格式"},
	} {
		if errors.Is(err, known.is) && text("", known.chinese) != "" {
			return fmt.Errorf("%s：%w", known.chinese, err)
		}
	}
	return err
}
