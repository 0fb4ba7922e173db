package main

import (
	"errors"
	"io/fs"
	"strings"

	"sampan/internal/rewrite"
	"sampan/internal/runtimes"
	"sampan/internal/transfer/syncing"
)

// spoken is the error of a command as it is printed: in Chinese with what kind of error it
// is before what only English tells.
func spoken(err error) string {
	said := err.Error()
	if text("", "zh") == "" {
		return said
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return strings.Replace(said, e.Error(), fileOperation(e.Op)+" "+e.Path+"："+e.Err.Error(), 1)
	}
	for _, known := range []struct {
		is      error
		chinese string
	}{
		{rewrite.ErrPath, "字段路径不正确"},
		{runtimes.ErrNoFile, "不是普通文件"},
		{runtimes.ErrNowhere, "符号链接没有指向任何文件"},
		{runtimes.ErrOutside, "符号链接指向目录之外"},
		{runtimes.ErrTooLarge, "文件过大，不像是配置文件"},
		{syncing.ErrConstants, "不是镜像列表"},
		{syncing.ErrRelease, "不是 Kubernetes 版本号"},
	} {
		if errors.Is(err, known.is) {
			return known.chinese + "：" + said
		}
	}
	return said
}

// fileOperation is what could not be done with a file, in Chinese.
func fileOperation(op string) string {
	switch op {
	case "open":
		return "无法打开"
	case "read":
		return "无法读取"
	case "write":
		return "无法写入"
	case "mkdir":
		return "无法创建目录"
	case "remove", "unlinkat":
		return "无法删除"
	default:
		return "无法访问"
	}
}
