package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer/remote"
	"sampan/internal/transfer/running"
)

// advice is what a person can do about what a registry or a running mirror has refused;
// empty for nothing.
func advice(err error) string {
	var refusal *running.Refusal
	switch code := oci.CodeOf(err); {
	case errors.As(err, &refusal):
		return mirrorAdvice(refusal)
	case errors.As(err, new(*running.Silence)):
		return text("Is the mirror running, and is this its admin listener?", "镜像站是否在运行？这是它的管理地址吗？")
	case errors.Is(err, remote.ErrFull):
		return text("Make room there, or ask who runs the registry for more; run the command again then: what has arrived is not sent again.", "请在目标腾出空间，或向仓库管理员申请更多配额，然后再次运行该命令：已到达的内容不会重新传输。")
	case errors.Is(err, remote.ErrRefused):
		return text("The registry is too old for this, or does not take such content: use another one, or a newer version of it.", "该仓库版本过旧，或不接受此类内容：请改用其他仓库或其新版本。")
	case errors.Is(err, remote.ErrSparse):
		return text("Copy all platforms, or one alone: that goes without the index around it.", "请复制所有平台，或只复制一个平台：单个平台不带外层索引。")
	case code == oci.CodeTooManyRequests:
		return later(err)
	case code == oci.CodeUnauthorized || code == oci.CodeDenied:
		return text("Log in with docker login, or ask whoever runs the registry for permission, or for more room.", "请用 docker login 登录，或向仓库管理员申请权限或空间配额。")
	}
	return ""
}

// mirrorAdvice is advice about a running mirror.
func mirrorAdvice(e *running.Refusal) string {
	switch e.Code {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return text("Is this the admin listener of a mirror? It is not where clients pull.", "这是镜像站的管理地址吗？它不是客户端拉取镜像的地址。")
	case http.StatusUnauthorized:
		if e.Token {
			return text("The token that was given is another than that in the mirror's admin.token_file.", "所给令牌与镜像站 admin.token_file 中的不同。")
		}
		return text("Give the token with --admin-token-file.", "请用 --admin-token-file 提供令牌。")
	case http.StatusInsufficientStorage:
		return text(
			"The mirror has no room: raise data.max_size, delete or unpin images, or load fewer of them. What has arrived is kept for the next run.",
			"镜像站空间不足：请增大 data.max_size，删除或取消固定一些镜像，或减少载入的镜像。已到达的内容会保留到下次运行。")
	}
	return ""
}

// later is advice for who has met the limit of a rate, which is longer than a command
// waits, or does not end.
func later(err error) string {
	var e *oci.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return fmt.Sprintf(text("Run the command again in %s: what has arrived is not sent again.", "请在 %s 后再次运行该命令：已到达的内容不会重新传输。"), e.RetryAfter.Round(time.Second))
	}
	return text("Run the command again later: what has arrived is not sent again.", "请稍后再次运行该命令：已到达的内容不会重新传输。")
}

// interruption is the error of a command that a person has ended in the middle, in place
// of what everything that was on its way says of that.
func interruption(err error) error {
	return &told{text("interrupted: run the command again to go on; what has arrived is not sent again", "已中断：再次运行该命令即可继续，已到达的内容不会重新传输"), err}
}
