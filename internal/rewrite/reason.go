package rewrite

import "fmt"

// A Reason is why something was left as it is.
type Reason int

// The reasons.
const (
	NotRenamed Reason = iota // Rename said no: see Finding.Err
	Variable                 // the name is put together from variables
	Escaped                  // it is written over lines or with escapes
	NoRule                   // it looks like an image, and nothing says that this field is one
	Matcher                  // Kustomize looks for this name, and nothing says what to put there
	Template                 // the document is a template, and no YAML yet
	Unreadable               // the document is no YAML, or no Dockerfile: see Finding.Err
	NotText                  // the file is no text in UTF-8
	Argument                 // of a Dockerfile: see Finding.Why
)

// String is the reason in English.
func (r Reason) String() string { return r.Text(func(english, _ string) string { return english }) }

// Text is the reason in the language that text chooses.
func (r Reason) Text(text func(english, chinese string) string) string {
	switch r {
	case NotRenamed:
		return text("it has no name at the mirror", "在镜像站上没有对应的名字")
	case Variable:
		return text("the name is put together from variables", "名字由变量拼成")
	case Escaped:
		return text("it is written over several lines, or with escapes", "写成了多行，或含有转义")
	case NoRule:
		return text("it looks like an image, but the field is not known to be one; --path can say so", "看起来是镜像，但不确定该字段是否为镜像；可用 --path 指明")
	case Matcher:
		return text("Kustomize looks for this name and keeps it: add a newName, or rewrite what `kustomize build` prints", "Kustomize 以此名匹配并保留它：请添加 newName，或改写 `kustomize build` 的输出")
	case Template:
		return text("the document is a template: render it first", "该文档是模板：请先渲染")
	case Unreadable:
		return text("it cannot be read", "无法解析")
	case Argument:
		return text("it cannot be told what is built from", "无法确定构建所用的镜像")
	case NotText:
		return text("the file is no text in UTF-8", "该文件不是 UTF-8 文本")
	}
	return fmt.Sprintf("reason %d", int(r))
}

// Why is the reason, in the language that text chooses, without the error.
func (f Finding) Why(text func(english, chinese string) string) string {
	if f.Reason == Argument {
		return f.build.Text(text)
	}
	return f.Reason.Text(text)
}
