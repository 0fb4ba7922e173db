package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/mirror"
	"sampan/internal/oci"
)

func newNameCommand() *cobra.Command {
	var o nameOptions
	cmd := &cobra.Command{
		Use:   "name IMAGE...",
		Short: text("Tell what an image is called at the mirror", "说明镜像在镜像站上的名字"),
		Long: text(
			"Print the name at the mirror of each image, in the order given; with --reverse, the own name of each\nname at the mirror. Without images, or for \"-\", names are read from standard input, one a line; what follows\na # is no name. No server is asked. With --reverse and no mirror named, mirror.example.com/docker.io/… is a\nname at mirror.example.com.\n\nThe exit code is 0 when every name could be told, 1 when some could not, and 2 for a mistake in the command.",
			"按给出的顺序打印每个镜像在镜像站上的名字；使用 --reverse 时，打印镜像站名字对应的原名。不给出镜像或\n给出 \"-\" 时，从标准输入读取名字，每行一个，# 之后为注释。不访问任何服务器。使用 --reverse 且未指定\n镜像站时，mirror.example.com/docker.io/… 视为 mirror.example.com 上的名字。\n\n退出码：0 表示全部得出，1 表示有些名字无法得出，2 表示命令有误。"),
		Example: "  sampan name --mirror mirror.example.com nginx:alpine\n" +
			"  sampan name --reverse --mirror mirror.example.com mirror.example.com/docker.io/library/nginx:alpine\n" +
			"  kubeadm config images list | sampan name",
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	o.client.addFlags(f)
	f.StringVar(&o.client.set.CodeFile, "code-file", "", text("`FILE` with your access code, to be part of the names", "访问码文件 `FILE`，访问码将包含在名字中"))
	f.BoolVarP(&o.reverse, "reverse", "r", false, text("from names at the mirror to the images' own", "由镜像站上的名字得出原名"))
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text or json", "输出格式 `FORMAT`：text 或 json"))
	return cmd
}

// nameOptions are what the command line says.
type nameOptions struct {
	client  clientOptions
	reverse bool
	output  string
}

// An imageName is one answer.
type imageName struct {
	Input    string `json:"input"`
	Name     string `json:"name,omitempty"`     // in the direction asked for
	Path     string `json:"path,omitempty"`     // at the mirror in path style
	Host     string `json:"host,omitempty"`     // at the mirror in host style
	Original string `json:"original,omitempty"` // registry, repository, tag and digest
	Familiar string `json:"familiar,omitempty"` // the same as people write it
	Error    string `json:"error,omitempty"`
}

func (o nameOptions) run(cmd *cobra.Command, args []string) error {
	if o.output != "text" && o.output != "json" {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	}
	m, err := o.client.open()
	if err != nil {
		return err
	}
	images, err := imageArguments(cmd.InOrStdin(), args)
	if err != nil {
		return err
	}
	var failed []error
	out := bufio.NewWriter(cmd.OutOrStdout())
	list := make([]imageName, 0, len(images))
	for _, image := range images {
		n, err := o.name(m, image)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", image, err))
			n = imageName{Input: image, Error: err.Error()}
		}
		if o.output == "json" {
			list = append(list, n)
		} else if err == nil {
			fmt.Fprintln(out, n.Name)
		}
	}
	if o.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(list); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return errors.Join(failed...)
}

func (o nameOptions) name(m *client.Mirror, image string) (imageName, error) {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return imageName{}, plain(err)
	}
	untagged := ref.Untagged()
	if untagged {
		ref.Tag = oci.Tag{} // what was not written is not added
	}
	n := imageName{Input: image}
	if o.reverse {
		m = o.itself(m, ref)
		if ref, err = m.Original(image); err != nil {
			return imageName{}, plain(err)
		}
		if untagged {
			ref.Tag = oci.Tag{}
		}
		n.Name = ref.String()
	} else {
		if n.Name, err = m.Name(ref); err != nil {
			return imageName{}, unservedName(ref, err)
		}
		if m.Has(ref) { // it is at the mirror already
			if ref, err = m.Original(image); err != nil {
				return imageName{}, plain(err)
			}
		}
	}
	n.Original, n.Familiar = ref.String(), client.Familiar(ref)
	n.Path, _ = m.NameIn(ref, mirror.PathStyle) // empty where there is none of that style
	n.Host, _ = m.NameIn(ref, mirror.HostStyle)
	return n, nil
}

// itself is the mirror of a name that says where it is, as HOST/docker.io/library/nginx
// does, where the person named none.
func (o nameOptions) itself(m *client.Mirror, ref oci.Reference) *client.Mirror {
	first, _, more := strings.Cut(ref.Repository.Path(), "/")
	known := func(r oci.Registry) bool { return r.String() == first }
	if !m.Assumed || m.Has(ref) || !more || !slices.ContainsFunc(m.Registries(), known) {
		return m
	}
	o.client.set.Mirror = ref.Repository.Registry().String()
	if other, err := o.client.open(); err == nil {
		return other
	}
	return m
}

// unservedName says what a person can do where the mirror is not known to serve a
// registry.
func unservedName(ref oci.Reference, err error) error {
	if !errors.Is(err, oci.ErrDenied) {
		return plain(err)
	}
	registry := ref.Repository.Registry().String()
	return fmt.Errorf(text(
		"%s is not among the registries that the mirror is known to serve; where it does, say --registry %s, or registries: [%s] in client.yaml",
		"%s 不在已知由镜像站提供的仓库之中；若镜像站提供它，请使用 --registry %s，或在 client.yaml 中写 registries: [%s]"),
		registry, registry, registry)
}

// plain is an error of the protocol without its code and in the language of the
// environment, for people.
func plain(err error) error {
	var e *oci.Error
	if errors.As(err, &e) && e.Message != "" {
		return errors.New(sentence(e))
	}
	return err
}

const (
	maxLine  = 4 << 10 // of a list of images, in bytes
	maxNames = 100_000 // of a list
)

// imageArguments are the images of a command line. None, or "-", stands for the lines
// of standard input.
func imageArguments(in io.Reader, args []string) ([]string, error) {
	if len(args) == 0 {
		args = []string{"-"}
	}
	var images []string
	for _, arg := range args {
		if arg != "-" {
			images = append(images, arg)
			continue
		}
		lines, err := imageList(in)
		if err != nil {
			return nil, fmt.Errorf(text("standard input: %w", "标准输入：%w"), err)
		}
		images = append(images, lines...)
	}
	if len(images) == 0 {
		return nil, usagef("%s", text("no image was named", "没有给出镜像"))
	}
	return images, nil
}

// imageList reads one name a line; what follows a # is none.
func imageList(in io.Reader) ([]string, error) {
	var images []string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		name, _, _ := strings.Cut(lines.Text(), "#")
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if name == "" {
			continue
		}
		if len(images) == maxNames {
			return nil, fmt.Errorf(text("more than %d names", "名字超过 %d 个"), maxNames)
		}
		images = append(images, name)
	}
	return images, lines.Err()
}
