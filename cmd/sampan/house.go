package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/oci"
)

// A chore is a command over the running mirror's content.
type chore struct {
	mirror mirrorOptions
	output string
}

// command makes the command that run is; help has its words in both languages.
func (c *chore) command(use, english, chinese string, args cobra.PositionalArgs, run func(ctx context.Context, m *runningMirror, out io.Writer, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: text(english, chinese), Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.output != "text" && c.output != "json" {
				return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), c.output)
			}
			m, err := c.mirror.open()
			if err != nil {
				return err
			}
			return run(cmd.Context(), m, cmd.OutOrStdout(), args)
		},
	}
	c.mirror.addFlags(cmd.Flags())
	cmd.Flags().StringVarP(&c.output, "output", "o", "text", text("`FORMAT`: text or json", "输出格式 `FORMAT`：text 或 json"))
	return cmd
}

// say writes an answer as it came, or as words.
func (c *chore) say(out io.Writer, body []byte, v any, words func(w io.Writer)) error {
	if c.output == "json" {
		_, err := out.Write(body)
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf(text("the answer is not that of a mirror: %w", "应答不是镜像站的格式：%w"), err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	words(w)
	return w.Flush()
}

// argumentCount wants so many arguments.
func argumentCount(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef(text("%s does not take %d arguments", "%s 不接受 %d 个参数"), cmd.Name(), len(args))
		}
		return nil
	}
}

// named splits an image into repository and reference, as the API wants it; a
// repository alone has no reference where whole is true.
func named(image string, whole bool) (url.Values, error) {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return nil, &usageError{err}
	}
	q := url.Values{"repository": {ref.Repository.String()}}
	switch last := image[strings.LastIndexByte(image, '/')+1:]; {
	case !ref.Digest.IsZero():
		q.Set("reference", ref.Digest.String())
	case strings.Contains(last, ":") || !whole:
		q.Set("reference", ref.Tag.String())
	}
	return q, nil
}

func newListCommand() *cobra.Command {
	c := &chore{}
	return c.command("ls [REPOSITORY]", "List what is here: repositories, or the tags of one", "列出缓存的内容：镜像库，或某个镜像库的标签", argumentCount(0, 1),
		func(ctx context.Context, m *runningMirror, out io.Writer, args []string) error {
			if len(args) == 0 {
				return c.repositories(ctx, m, out)
			}
			q, err := named(args[0], true)
			if err != nil {
				return err
			}
			q.Set("n", "1000")
			body, err := m.ask(ctx, http.MethodGet, "/api/v1/tags?"+q.Encode(), nil)
			if err != nil {
				return err
			}
			var v struct {
				Tags []struct {
					Name     string
					Manifest struct{ Digest string }
					Used     time.Time
					Here     bool
					Pinned   bool
				}
			}
			return c.say(out, body, &v, func(w io.Writer) {
				fmt.Fprintln(w, text("TAG\tDIGEST\tLAST USED\tSTATE", "标签\t摘要\t最近使用\t状态"))
				for _, t := range v.Tags {
					state := text("here", "在本地")
					if !t.Here {
						state = text("not here", "不在本地")
					}
					if t.Pinned {
						state += text(", pinned", "，已固定")
					}
					fmt.Fprintf(w, "%s\t%.19s\t%s\t%s\n", t.Name, t.Manifest.Digest, moment(t.Used), state)
				}
			})
		})
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// repositories lists all pages.
func (c *chore) repositories(ctx context.Context, m *runningMirror, out io.Writer) error {
	var all []string
	after := ""
	for {
		body, err := m.ask(ctx, http.MethodGet, "/api/v1/repositories?n=1000&after="+url.QueryEscape(after), nil)
		if err != nil {
			return err
		}
		var v struct{ Repositories []string }
		if err := json.Unmarshal(body, &v); err != nil {
			return fmt.Errorf(text("the answer is not that of a mirror: %w", "应答不是镜像站的格式：%w"), err)
		}
		all = append(all, v.Repositories...)
		if len(v.Repositories) < 1000 {
			break
		}
		after = v.Repositories[999]
	}
	if c.output == "json" {
		return json.NewEncoder(out).Encode(map[string]any{"repositories": all})
	}
	for _, name := range all {
		fmt.Fprintln(out, name)
	}
	return nil
}

func newUsageCommand() *cobra.Command {
	c := &chore{}
	return c.command("du", "Tell how full the disk is, and for which registries", "查看磁盘占用，以及各上游的占用", argumentCount(0, 0),
		func(ctx context.Context, m *runningMirror, out io.Writer, _ []string) error {
			body, err := m.ask(ctx, http.MethodGet, "/api/v1/usage", nil)
			if err != nil {
				return err
			}
			var v struct {
				Complete, Partial, Reserved, Index, Pinned, Limit, Free int64
				Blobs                                                   int
				Owners                                                  map[string]struct {
					Bytes int64
					Blobs int
				}
			}
			return c.say(out, body, &v, func(w io.Writer) {
				limit := text("no limit", "不限")
				if v.Limit > 0 {
					limit = size(v.Limit)
				}
				fmt.Fprintf(w, text("used\t%s of %s\n", "已用\t%s，上限 %s\n"), size(v.Complete+v.Partial+v.Reserved+v.Index), limit)
				fmt.Fprintf(w, text("blobs\t%d\npinned\t%s\nfree\t%s\n", "blob 数\t%d\n已固定\t%s\n剩余\t%s\n"), v.Blobs, size(v.Pinned), size(max(0, v.Free)))
				for _, name := range slices.Sorted(maps.Keys(v.Owners)) {
					o := v.Owners[name]
					if o.Blobs > 0 && name != "" {
						fmt.Fprintf(w, "%s\t%s\t%d\n", name, size(o.Bytes), o.Blobs)
					}
				}
			})
		})
}

// A deletion is what the mirror reports of one.
type deletion struct {
	Tags, Manifests, Blobs int
	Bytes                  int64
	Kept, Names            []string
}

func (c *chore) report(out io.Writer, body []byte, dry bool) error {
	var v deletion
	return c.say(out, body, &v, func(w io.Writer) {
		for _, name := range v.Names {
			fmt.Fprintln(w, name)
		}
		for _, name := range v.Kept {
			fmt.Fprintf(w, text("%s is pinned and stays\n", "%s 已固定，予以保留\n"), name)
		}
		sentence := text("%d tags, %d manifests and %d blobs deleted, %s\n", "已删除 %d 个标签、%d 个清单、%d 个 blob，共 %s\n")
		if dry {
			sentence = text("%d tags, %d manifests and %d blobs would be deleted, %s\n", "将删除 %d 个标签、%d 个清单、%d 个 blob，共 %s\n")
		}
		fmt.Fprintf(w, sentence, v.Tags, v.Manifests, v.Blobs, size(v.Bytes))
	})
}

func newRemoveCommand() *cobra.Command {
	c := &chore{}
	dry := false
	cmd := c.command("rm IMAGE|REPOSITORY", "Delete an image, or a repository, with all that nothing else refers to", "删除镜像或镜像库，连同再无他处引用的内容", argumentCount(1, 1),
		func(ctx context.Context, m *runningMirror, out io.Writer, args []string) error {
			q, err := named(args[0], true)
			if err != nil {
				return err
			}
			q.Set("dry_run", fmt.Sprint(dry))
			path := "/api/v1/repository?"
			if q.Get("reference") != "" {
				path = "/api/v1/image?"
			}
			body, err := m.ask(ctx, http.MethodDelete, path+q.Encode(), nil)
			if err != nil {
				return err
			}
			return c.report(out, body, dry)
		})
	cmd.Flags().BoolVar(&dry, "dry-run", false, text("only say what would be deleted", "只说明将删除什么"))
	return cmd
}

func newPurgeCommand() *cobra.Command {
	c := &chore{}
	asked := struct {
		Registry string `json:"registry,omitempty"`
		Pattern  string `json:"pattern,omitempty"`
		Unused   string `json:"unused,omitempty"`
		All      bool   `json:"all,omitempty"`
		DryRun   bool   `json:"dry_run"`
	}{}
	cmd := c.command("purge", "Delete what was not used for a time, or is of a registry or pattern", "按未使用时间、上游或模式删除", argumentCount(0, 0),
		func(ctx context.Context, m *runningMirror, out io.Writer, _ []string) error {
			if asked.Registry == "" && asked.Pattern == "" && asked.Unused == "" && !asked.All {
				return usagef("%s", text("say what to purge: --older-than, --registry, --pattern, or --all for everything", "请说明要删除什么：--older-than、--registry、--pattern，或用 --all 表示全部"))
			}
			body, err := m.ask(ctx, http.MethodPost, "/api/v1/purge", asked)
			if err != nil {
				return err
			}
			return c.report(out, body, asked.DryRun)
		})
	f := cmd.Flags()
	f.StringVar(&asked.Unused, "older-than", "", text("not used for this `TIME`, such as 720h", "超过这段时间 `TIME` 未使用，例如 720h"))
	f.StringVar(&asked.Registry, "registry", "", text("of this `REGISTRY`", "该上游 `REGISTRY`"))
	f.StringVar(&asked.Pattern, "pattern", "", text("repositories whose path matches this `PATTERN`, such as library/*", "路径匹配 `PATTERN` 的镜像库，例如 library/*"))
	f.BoolVar(&asked.All, "all", false, text("everything", "全部"))
	f.BoolVar(&asked.DryRun, "dry-run", false, text("only say what would be deleted", "只说明将删除什么"))
	return cmd
}

func newPinCommand(use string, pinned bool) *cobra.Command {
	c := &chore{}
	english, chinese, method := "Have an image stay, whatever else has to go", "固定镜像，使其始终保留", http.MethodPut
	if !pinned {
		english, chinese, method = "Let an image go again", "取消固定镜像", http.MethodDelete
	}
	return c.command(use+" IMAGE...", english, chinese, argumentCount(1, -1),
		func(ctx context.Context, m *runningMirror, _ io.Writer, args []string) error {
			for _, image := range args {
				q, err := named(image, false)
				if err == nil {
					_, err = m.ask(ctx, method, "/api/v1/pins?"+q.Encode(), nil)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
}

func newPrefetchCommand() *cobra.Command {
	c := &chore{}
	var platforms []string
	cmd := c.command("prefetch IMAGE...", "Fetch images before anybody asks for them, and wait until they are here", "在有人请求之前下载镜像，并等待完成", argumentCount(1, -1),
		func(ctx context.Context, m *runningMirror, out io.Writer, args []string) error {
			var ids []int
			for _, image := range args {
				body, err := m.ask(ctx, http.MethodPost, "/api/v1/prefetches", map[string]any{"image": image, "platforms": platforms})
				if err != nil {
					return err
				}
				var j struct{ ID int }
				if err := json.Unmarshal(body, &j); err != nil {
					return err
				}
				ids = append(ids, j.ID)
			}
			return c.await(ctx, m, out, ids)
		})
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, text("only this `PLATFORM`, such as linux/amd64, repeatable", "只下载该平台 `PLATFORM`，例如 linux/amd64，可重复"))
	return cmd
}

// await waits for prefetches and tells how each ended.
func (c *chore) await(ctx context.Context, m *runningMirror, out io.Writer, ids []int) error {
	failed := 0
	for _, id := range ids {
		var j struct {
			Image, State, Error string
			Blobs               int
			Bytes               int64
		}
		var body []byte
		for j.State == "" || j.State == "waiting" || j.State == "running" {
			if j.State != "" {
				select {
				case <-time.After(500 * time.Millisecond):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			var err error
			if body, err = m.ask(ctx, http.MethodGet, fmt.Sprintf("/api/v1/prefetches/%d", id), nil); err != nil {
				return err
			}
			if err := json.Unmarshal(body, &j); err != nil {
				return err
			}
		}
		if j.State != "done" {
			failed++
		}
		err := c.say(out, body, &j, func(w io.Writer) {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", j.Image, j.State, j.Blobs, size(j.Bytes), j.Error)
		})
		if err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf(text("%d of %d images are not here", "%d 个镜像（共 %d 个）未能下载"), failed, len(ids))
	}
	return nil
}
