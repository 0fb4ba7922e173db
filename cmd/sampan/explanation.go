package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"sampan/internal/app"
)

// explanation is the text that an operator pastes into a ticket: lines of a label
// and what it is about, in the order of a pull.
func explanation(e app.Explanation) string {
	var r report
	r.line(text("image", "镜像"), e.Image)
	if e.Refused != "" {
		r.line(text("next pull", "下次拉取"), outcome(e))
		r.line(text("because", "原因"), e.Refused)
		return r.String()
	}
	r.line(text("means", "对应"), e.Reference+text(" (registry chosen by ", "（仓库由")+way(e.Named.By)+text(")", "决定）"))
	if e.Named.Alias != "" {
		r.line(text("alias", "别名"), e.Named.Alias)
	}
	r.line(text("next pull", "下次拉取"), outcome(e))
	r.cached(e)
	r.upstream(e)
	for i, s := range e.Settings {
		label := ""
		if i == 0 {
			label = text("settings", "设置")
		}
		r.line(label, fmt.Sprintf("%s: %s (%s)", s.Key, s.Value, s.From))
	}
	if e.Cache != nil {
		r.line(text("asked at", "查询时间"), stamp(e.Cache.At))
	}
	return r.String()
}

// A report is text in two columns.
type report struct{ strings.Builder }

// labelWidth is that of the first column, in cells of a terminal.
const labelWidth = 12

// line writes a label, which may be empty, and what it is about.
func (r *report) line(label, about string) {
	fmt.Fprintf(r, "%s%s\n", (&runewidth.Condition{StrictEmojiNeutral: true}).FillRight(label, labelWidth), about)
}

// cached tells what is here.
func (r *report) cached(e app.Explanation) {
	c := e.Cache
	if c == nil {
		return
	}
	if c.Offline {
		r.line(text("offline", "离线"), text("no registry is asked", "不访问任何上游仓库"))
	}
	r.tag(e)
	if f := c.Refusal; f != nil {
		r.line(text("refused", "上游拒绝"), fmt.Sprintf(text("%s: %s (given again until %s)", "%s：%s（在 %s 之前沿用）"), f.Code, f.Message, stamp(f.Until)))
	}
	if m := c.Manifest; m != nil {
		state := text("not here", "本地没有")
		if m.Here {
			state = text("here", "本地已有")
		}
		if !m.Linked {
			state += text(", never seen in this repository", "，该镜像库中从未见过")
		}
		r.line(text("manifest", "清单"), strings.Join(nonEmpty(m.Digest.String(), m.MediaType, size(m.Size)), " ")+text(": ", "：")+state)
	}
	r.platforms(e)
	r.blobs(e)
}

func (r *report) tag(e app.Explanation) {
	t := e.Cache.Tag
	if t == nil {
		return
	}
	label := text("tag", "标签")
	if !t.Known {
		r.line(label, t.Tag+text(": nobody has asked for it, or the upstream does not have it", "：从未被请求过，或上游没有"))
		return
	}
	r.line(label, t.Tag+" → "+t.Digest.String())
	r.line("", text("confirmed ", "确认于 ")+when(t.Checked, e.Cache.At))
	switch {
	case t.Immutable:
		r.line("", text("never moves (tags.immutable)", "永不变动（tags.immutable）"))
	case t.FreshUntil.After(e.Cache.At):
		r.line("", text("fresh until ", "有效期至 ")+when(t.FreshUntil, e.Cache.At))
	default:
		r.line("", text("no longer fresh since ", "已过期，自 ")+when(t.FreshUntil, e.Cache.At))
	}
	if !t.StaleUntil.IsZero() {
		r.line("", text("may be served without an answer until ", "上游无应答时可沿用至 ")+when(t.StaleUntil, e.Cache.At))
	}
}

func (r *report) platforms(e app.Explanation) {
	for i, p := range e.Cache.Platforms {
		label := ""
		if i == 0 {
			label = text("platforms", "平台")
		}
		state := text("manifest not here", "清单不在本地")
		switch {
		case p.Here && p.Missing == 0:
			state = fmt.Sprintf(text("whole, %d blobs", "完整，%d 个 blob"), p.Blobs)
		case p.Here:
			state = fmt.Sprintf(text("%d of %d blobs missing, %s", "缺少 %d 个（共 %d 个）blob，%s"), p.Missing, p.Blobs, size(p.Bytes))
		}
		r.line(label, strings.Join(nonEmpty(p.Platform, p.Digest.String()), " ")+text(": ", "：")+state)
	}
}

func (r *report) blobs(e app.Explanation) {
	var here, missing int64
	for i, b := range e.Cache.Blobs {
		label, state := "", text("missing", "缺少")
		if i == 0 {
			label = "blobs"
		}
		if b.Here {
			state = text("here", "本地已有")
			here += max(b.Size, 0)
		} else {
			missing += max(b.Size, 0)
		}
		r.line(label, strings.Join(nonEmpty(b.Digest.String(), size(b.Size)), " ")+text(": ", "：")+state)
	}
	if len(e.Cache.Blobs) > 0 {
		r.line("", fmt.Sprintf(text("together %s here, %s missing", "合计：本地已有 %s，缺少 %s"), size(here), size(missing)))
	}
}

// upstream tells how the registry is, as far as that is known.
func (r *report) upstream(e app.Explanation) {
	if e.Cache != nil && e.Cache.Outage != nil {
		o := e.Cache.Outage
		r.line(text("outage", "上游故障"), fmt.Sprintf(text("no answer %d times in a row (%s), left alone until %s", "连续 %d 次无应答（%s），在 %s 之前不再询问"),
			o.Failures, o.Reason, when(o.Until, e.Cache.At)))
	}
	if e.Upstream == nil {
		return
	}
	for i, p := range e.Upstream.Endpoints {
		label := ""
		if i == 0 {
			label = text("upstream", "上游地址")
		}
		state := endpointState(p.State)
		if p.Failures > 0 {
			state += fmt.Sprintf(text(", %d failures in a row", "，连续失败 %d 次"), p.Failures)
		}
		if p.Error != "" {
			state += text(", last: ", "，最近一次：") + p.Error
		}
		if !p.Until.IsZero() {
			state += text(", not asked until ", "，暂停至 ") + stamp(p.Until)
		}
		r.line(label, strings.Join(nonEmpty(p.URL, servesText(p.Serves)), " ")+text(": ", "：")+state)
	}
	for i, b := range e.Upstream.Budgets {
		label := ""
		if i == 0 {
			label = text("budget", "限额")
		}
		account := b.Account
		if account == "" {
			account = text("anonymous", "匿名")
		}
		left := fmt.Sprint(b.Remaining)
		if b.Limit >= 0 {
			left += fmt.Sprintf(text(" of %d", "（共 %d）"), b.Limit)
		}
		about := fmt.Sprintf(text("%s: %s requests left at %s", "%s：剩余 %s 次请求，截至 %s"), account, left, stamp(b.At))
		if b.Window > 0 {
			about += fmt.Sprintf(text(", each %s", "，每 %s"), b.Window)
		}
		if b.Scarce {
			about += text(": scarce", "：所剩不多")
		}
		r.line(label, about)
	}
}

// endpointState is how an endpoint is.
func endpointState(state string) string {
	switch state {
	case "up":
		return text(state, "正常")
	case "down":
		return text(state, "暂停询问")
	case "probing":
		return text(state, "正在试探")
	default:
		return state
	}
}

// servesText marks an endpoint that is asked for blobs alone.
func servesText(serves string) string {
	if serves == "blobs" {
		return text("(blobs only)", "（仅 blob）")
	}
	return ""
}

// way says how a name chose its registry.
func way(by string) string {
	switch by {
	case "host":
		return text("the mirror's host name", "镜像站的主机名")
	case "path":
		return text("the path", "路径")
	case "default":
		return text("default", "默认值")
	default:
		return text("its own name", "镜像名本身")
	}
}

// outcome says what the next pull would be, and why.
func outcome(e app.Explanation) string {
	result := string(e.Next.Result)
	switch e.Next.Result {
	case "hit":
		result = text("hit", "命中")
	case "miss":
		result = text("miss", "未命中")
	case "stale":
		result = text("stale", "旧结果")
	case "denied":
		result = text("denied", "拒绝")
	case "unknown":
		result = text("not found", "不存在")
	case "unavailable":
		result = text("unavailable", "暂不可用")
	}
	return result + text(": ", "：") + cause(string(e.Next.Reason))
}

// cause is the reason in a sentence.
func cause(reason string) string {
	switch reason {
	case "digest":
		return text("a digest does not change, and all of it is here", "摘要不会变化，内容均在本地")
	case "fresh":
		return text("the tag was confirmed of late, and all of it is here", "标签刚确认过，内容均在本地")
	case "immutable":
		return text("the tag never moves, and all of it is here", "标签永不变动，内容均在本地")
	case "expired":
		return text("the tag is asked for with one HEAD; unless it has moved, all of it is here", "先用一次 HEAD 询问标签；若未变动，内容均在本地")
	case "never_asked":
		return text("nobody has pulled it through this mirror, so that it is fetched", "尚无人通过本镜像站拉取，将从上游下载")
	case "manifest_gone":
		return text("its manifest is no longer here and is fetched", "清单已不在本地，将从上游下载")
	case "blobs_missing":
		return text("some of its blobs are not here and are fetched", "部分 blob 不在本地，将从上游下载")
	case "offline":
		return text("the mirror is offline and answers from what is here", "镜像站离线，只用本地内容应答")
	case "outage":
		return text("the upstream gave no answer a moment ago, and what is here is served", "上游刚才没有应答，使用本地内容")
	case "budget":
		return text("the upstream limits how often it may be asked, and what is here is served", "上游限制请求次数，使用本地内容")
	case "too_old":
		return text("the upstream gave no answer, and what is here is older than tags.stale_if_error", "上游没有应答，且本地内容已超过 tags.stale_if_error")
	case "refused":
		return text("the upstream has just said so", "上游刚刚如此答复")
	case "name":
		return text("the name is not served by this mirror", "本镜像站不提供该名称")
	default:
		return reason
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// when is a time with its distance from now.
func when(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	switch {
	case d > 0:
		return fmt.Sprintf(text("%s (in %s)", "%s（%s 之后）"), stamp(t), d)
	case d < 0:
		return fmt.Sprintf(text("%s (%s ago)", "%s（%s 之前）"), stamp(t), -d)
	default:
		return stamp(t) + text(" (now)", "（此刻）")
	}
}

// size is a number of bytes for people; empty when it is not known.
func size(n int64) string {
	switch {
	case n < 0:
		return ""
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
}

func nonEmpty(list ...string) []string {
	var kept []string
	for _, s := range list {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}
