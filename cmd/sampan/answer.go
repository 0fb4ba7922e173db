package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/remote"
	"sampan/internal/upstream/failure"
)

// sentence is the message of an error of the protocol in the language of the environment.
// In Chinese it says what kind of error it is; what only English tells comes behind.
func sentence(e *oci.Error) string {
	if f := failure.Of(e); f != nil {
		return text(e.Message, failureInChinese(f))
	}
	if strings.ContainsFunc(e.Message, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
		return e.Message // it says so itself, in both languages
	}
	kind := codeInChinese(e.Code)
	switch {
	case errors.Is(e, remote.ErrFull):
		kind = "目标空间不足"
	case errors.Is(e, remote.ErrRefused):
		kind = "目标不接受此类清单"
	case errors.Is(e, remote.ErrSparse):
		kind = "目标只接受完整的索引"
	}
	if kind == "" {
		return e.Message
	}
	return text(e.Message, kind+"："+e.Message)
}

// codeInChinese is the kind of an error of which nothing is known but its code; empty for
// none that helps.
func codeInChinese(code oci.Code) string {
	switch code {
	case oci.CodeNameInvalid:
		return "名字不正确"
	case oci.CodeTagInvalid:
		return "标签不正确"
	case oci.CodeDigestInvalid:
		return "摘要不正确"
	case oci.CodeManifestInvalid:
		return "清单不正确"
	case oci.CodeSizeInvalid:
		return "大小不正确"
	case oci.CodeRangeInvalid:
		return "范围不正确"
	case oci.CodeBlobUnknown:
		return "没有这个 blob"
	case oci.CodeManifestUnknown:
		return "没有这个标签或清单"
	case oci.CodeNameUnknown:
		return "没有这个镜像库"
	case oci.CodeUnauthorized:
		return "需要登录"
	case oci.CodeDenied:
		return "拒绝访问"
	case oci.CodeUnsupported:
		return "不支持"
	case oci.CodeTooManyRequests:
		return "请求过于频繁"
	case oci.CodeUnavailable:
		return "暂时无法获取"
	default:
		return ""
	}
}

// failureInChinese is what [failure.Facts.Sentence] says.
func failureInChinese(f *failure.Facts) string {
	name := f.Registry.String()
	switch f.Kind {
	case failure.LoginUnread:
		return "无法读取 " + name + " 的凭据"
	case failure.LeftAlone:
		last := "无法连接 " + name
		if f.Last != nil {
			last = failureInChinese(f.Last)
		}
		return fmt.Sprintf("%s；%s 后再次询问", last, f.Again)
	}
	if what := answerInChinese(f); what != "" {
		if f.Said != "" {
			what += "：" + f.Said
		}
		return name + " " + what
	}
	s := silenceInChinese(f)
	if f.Host != "" {
		s += "（" + f.Host + "）"
	}
	return s
}

// answerInChinese continues a sentence that begins with the registry's name, where somebody
// has answered; it is empty otherwise.
func answerInChinese(f *failure.Facts) string {
	repository := f.Repository
	if repository == "" {
		repository = "该镜像库"
	}
	switch f.Kind {
	case failure.Unusable:
		return "的应答无法使用：" + f.What
	case failure.PrivateAddress:
		return "指向内网地址 " + f.Host + "，已拒绝：除非为其配置的地址本身是内网地址，或 egress.redirects 允许"
	case failure.NoAddress:
		return "指向的不是有效地址"
	case failure.PlainAddress:
		return "从 https 指向明文 http，已拒绝"
	case failure.Circle:
		return "循环重定向"
	case failure.OldManifest:
		return "只有 Docker schema 1 格式的清单，sampan 不支持"
	case failure.NotThere:
		return "没有所请求的内容"
	case failure.Hidden:
		return "不向未登录者提供 " + repository + "：它不存在或是私有的"
	case failure.HiddenFromUser:
		return "不向所配置的账号提供 " + repository
	case failure.Forbidden:
		return "拒绝访问"
	case failure.ForbiddenUser:
		return "拒绝所配置的账号访问 " + repository
	case failure.LoginNeeded:
		return "要求登录，但没有为其配置凭据"
	case failure.LoginRefused:
		return "不接受为其配置的凭据"
	case failure.LoginUnknown:
		return "要求的认证方式不受 sampan 支持（" + f.What + "）"
	case failure.LoginElsewhere:
		return "要求向 " + f.Host + " 获取令牌；除非将该主机配置为 token realm，否则不向其发送凭据"
	case failure.Limited:
		return "限制请求频率"
	case failure.TokenLimited:
		return "限制获取令牌的频率"
	case failure.BadStatus:
		return fmt.Sprintf("返回状态码 %d", f.Status)
	case failure.TokenStatus:
		return fmt.Sprintf("的令牌服务返回状态码 %d", f.Status)
	case failure.Unsupported:
		return "不支持该请求"
	case failure.Rejected:
		return "拒绝该请求"
	case failure.NotTaken:
		return fmt.Sprintf("拒绝接收，状态码 %d", f.Status)
	case failure.ReadOnly:
		return "不允许此账号写入 " + repository
	case failure.ReadOnlyAnon:
		return "不允许未登录者写入 " + repository
	default:
		return ""
	}
}

// silenceInChinese is a sentence where nobody has answered.
func silenceInChinese(f *failure.Facts) string {
	name := f.Registry.String()
	why := ""
	switch f.Kind {
	case failure.StorageRefused:
		return name + " 重定向到的存储拒绝了请求"
	case failure.Silent:
		why = "未在时限内应答"
	case failure.BrokenOff:
		why = "中断了连接"
	case failure.NoSuchName:
		why = "DNS 中没有这个名字"
	case failure.NameUnresolved:
		why = "名字无法解析"
	case failure.DNSSilent:
		why = "所配置的 DNS 服务器均无应答"
	case failure.CertUntrusted:
		why = "其 TLS 证书不受信任"
	case failure.NoTLS:
		why = "对方不使用 TLS；http:// 地址表示明文 HTTP"
	case failure.ConnectionRefused:
		why = "连接被拒绝"
	case failure.ProxyLogin:
		why = "途经的代理要求其他凭据"
	case failure.ProxyStatus:
		why = fmt.Sprintf("途经的代理拒绝连接，状态码 %d", f.Status)
	case failure.ProxySOCKS:
		why = "途经的 SOCKS 代理未能建立连接"
	}
	unreachable := "无法连接 " + name
	switch {
	case f.Proxy && why == "":
		return unreachable + "：途经的代理没有应答"
	case f.Proxy:
		return unreachable + "：途经的代理没有应答：" + why
	case why == "":
		return unreachable
	case f.Kind == failure.Silent || f.Kind == failure.BrokenOff:
		return name + " " + why
	default:
		return unreachable + "：" + why
	}
}

// worded is an error with what a registry answered, or did not, in the language of the
// environment, and without the causes and codes that are for logs. What was attempted
// stays before it, and what else went wrong behind it.
func worded(err error) string {
	var (
		one *transfer.Failed
		e   *oci.Error
		f   *failure.Facts
	)
	switch {
	case errors.As(err, &one):
		return fmt.Sprintf(text("copy %s: %s", "复制 %s：%s"), one.Source, worded(one.Err))
	case errors.As(err, &e) && e.Message != "":
		return strings.Replace(err.Error(), e.Error(), sentence(e), 1)
	case e == nil && errors.As(err, &f):
		return strings.Replace(err.Error(), f.Error(), text(f.Error(), failureInChinese(f)+"："+f.Error()), 1)
	default:
		return err.Error()
	}
}
