package server

import (
	"strings"
	"unicode"

	"sampan/internal/oci"
)

// bilingual is the message of an error with a sentence in Chinese that says as
// much as its code does, unless it speaks Chinese already.
func bilingual(e *oci.Error) string {
	chinese := inChinese(e.Code)
	if chinese == "" || strings.ContainsFunc(e.Message, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
		return e.Message
	}
	if e.Message == "" {
		return chinese
	}
	return e.Message + " (" + chinese + ")"
}

func inChinese(code oci.Code) string {
	switch code {
	case oci.CodeBlobUnknown:
		return "没有这个 blob"
	case oci.CodeManifestUnknown:
		return "没有这个标签或镜像清单"
	case oci.CodeNameUnknown:
		return "没有这个镜像库"
	case oci.CodeDigestInvalid:
		return "摘要格式不正确"
	case oci.CodeNameInvalid:
		return "镜像名称不正确"
	case oci.CodeTagInvalid:
		return "标签不正确"
	case oci.CodeManifestInvalid:
		return "镜像清单无法识别"
	case oci.CodeSizeInvalid:
		return "数值不正确"
	case oci.CodeDenied, oci.CodeUnauthorized:
		return "无权访问"
	case oci.CodeUnsupported:
		return "不支持此请求"
	case oci.CodeTooManyRequests:
		return "上游仓库限流，请稍后再试"
	case oci.CodeRangeInvalid:
		return "请求的范围超出 blob"
	case oci.CodeUnavailable:
		return "暂时无法从上游仓库获取"
	case oci.CodeUnknown:
		return "镜像站内部出错，详见其日志"
	default:
		return ""
	}
}
