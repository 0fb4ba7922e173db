package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sampan/internal/app"
)

func newExplainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain IMAGE",
		Short: text("Tell what the mirror knows of an image, and what its next pull would meet", "说明镜像站对某个镜像的了解，以及下一次拉取的结果"),
		Long: text(
			"Ask the running mirror what an image name means there, what of the image is cached, and whether the next\npull would be a hit, a miss, stale or refused, and why. No upstream registry is asked and nothing is fetched.\nIMAGE is the image's own name, or one with the mirror's address in front.\n\nThe exit code is 0 when the next pull can be served, 3 when it would fail, 1 when the mirror cannot be asked,\nand 2 for a mistake in the command or the name.",
			"向正在运行的镜像站查询：某个镜像名对应哪个仓库、缓存了哪些内容、下一次拉取会是命中、未命中、旧结果\n还是被拒绝，以及原因。不访问任何上游仓库，也不下载任何内容。IMAGE 可以是镜像本来的名字，也可以带\n镜像站地址前缀。\n\n退出码：0 表示下一次拉取可以成功，3 表示会失败，1 表示无法查询镜像站，2 表示命令或镜像名有误。"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usagef(text("explain takes one image name, not %d", "explain 需要一个镜像名，而不是 %d 个"), len(args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.image = args[0]
			return o.run(cmd)
		},
	}
	f := cmd.Flags()
	o.mirror.addFlags(f)
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text or json", "输出格式 `FORMAT`：text 或 json"))
	return cmd
}

// explainOptions are what the command line says.
type explainOptions struct {
	image, output string
	mirror        mirrorOptions
}

func (o explainOptions) run(cmd *cobra.Command) error {
	if o.output != "text" && o.output != "json" {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	}
	m, err := o.mirror.open()
	if err != nil {
		return err
	}
	body, err := m.ask(cmd.Context(), http.MethodGet, "/api/v1/explain?image="+url.QueryEscape(o.image), nil)
	if err != nil {
		return err
	}
	var e app.Explanation
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf(text("%s does not answer as a mirror does: %w", "%s 的应答不是镜像站的格式：%w"), m.base, err)
	}
	if o.output == "json" {
		_, err = cmd.OutOrStdout().Write(body)
	} else {
		_, err = io.WriteString(cmd.OutOrStdout(), explanation(e))
	}
	if err != nil {
		return err
	}
	switch e.Next.Result {
	case "hit", "miss", "stale":
		return nil
	default:
		return &failedPull{string(e.Next.Result)}
	}
}

// failedPull: the mirror was asked, and the next pull would fail.
type failedPull struct{ result string }

func (e *failedPull) Error() string {
	return text("the next pull would fail: ", "下一次拉取会失败：") + e.result
}
