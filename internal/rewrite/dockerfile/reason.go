package dockerfile

import "fmt"

// A Reason is why an image name was not taken for one.
type Reason int

// The reasons.
const (
	NoDefault  Reason = iota // only who builds gives the name: an argument without a default
	Composed                 // arguments decide the registry, or stand where more than one reading is possible
	SeenInside               // the argument is declared again in a stage, where its value may be used for more
	Modified                 // ${NAME%%pattern} and its kind: what comes out is not what is written
	Split                    // the name is written over lines, or with quotes or escapes in it
	Forbidden                // a variable where BuildKit allows none
	OnBuild                  // the name may be a stage of the Dockerfile that is built upon this
	NoName                   // it is not the form of an image name
	Unplaced                 // the instruction is not found again in the file
)

// String is the reason in English.
func (r Reason) String() string { return r.Text(func(english, _ string) string { return english }) }

// Text is the reason in the language that text chooses.
func (r Reason) Text(text func(english, chinese string) string) string {
	switch r {
	case NoDefault:
		return text("a build argument without a default gives the name", "名字由没有默认值的构建参数给出")
	case Composed:
		return text("the name is put together from build arguments", "名字由多个构建参数拼成")
	case SeenInside:
		return text("the build argument is used inside of a stage too", "该构建参数在构建阶段内也会用到")
	case Modified:
		return text("the substitution changes what is written", "变量替换会改变所写的内容")
	case Split:
		return text("it is written over several lines, or with quotes or escapes", "写成了多行，或含有引号或转义")
	case Forbidden:
		return text("build arguments are not allowed here: name a stage instead", "此处不允许使用构建参数：请改用构建阶段名")
	case OnBuild:
		return text("it may be a stage of the Dockerfile that builds upon this image", "它可能是基于此镜像的 Dockerfile 中的构建阶段")
	case NoName:
		return text("it is not the form of an image name", "不是镜像名的形式")
	case Unplaced:
		return text("the instruction is written in a way that is not understood", "该指令的写法无法识别")
	}
	return fmt.Sprintf("reason %d", int(r))
}
