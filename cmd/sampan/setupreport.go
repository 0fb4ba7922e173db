package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"sampan/internal/client"
	"sampan/internal/runtimes"
)

// detectTimeout bounds the look for one runtime: a daemon that hangs is told as one.
const detectTimeout = 10 * time.Second

// listTargets tells which runtimes are here, and what is known of each.
func listTargets(ctx context.Context, out io.Writer, m *runtimes.Machine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, text("TARGET\tHERE\tVERSION\tSET UP\tMIRRORS", "目标\t本机\t版本\t已设置\t镜像站"))
	store := runtimes.NewStore(m)
	for _, t := range runtimes.Targets() {
		ctx, cancel := context.WithTimeout(ctx, detectTimeout)
		found, err := t.Detect(ctx, m)
		cancel()
		mirrors := summary(found.Mirrors)
		if err != nil {
			mirrors = refusal(err).Error()
		}
		kind := found.Version
		if found.Kind != "" {
			kind += " (" + found.Kind + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Name(), yesNo(found.Present), dash(kind), yesNo(store.Has(t.Name())), dash(mirrors))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return ctx.Err()
}

// summary is a list on one line.
func summary(list []string) string {
	const most = 2
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(text(" and %d more", " 以及另外 %d 项"), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func yesNo(yes bool) string {
	if yes {
		return text("yes", "是")
	}
	return text("no", "否")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (s *setup) say(line string) { fmt.Fprintln(s.out, line) }

func (s *setup) sayf(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// tellFiles tells what becomes of each file.
func (s *setup) tellFiles(plan *runtimes.Plan) {
	for _, f := range plan.Files {
		what := text("same", "不变")
		switch {
		case f.Before == nil:
			what = text("new", "新建")
		case f.Changes():
			what = text("changed", "修改")
		}
		s.sayf("%-8s %s", what, f.Path)
	}
}

// tellDiff tells what changes in the files. Secrets are not shown, and files with others'
// secrets not at all.
func (s *setup) tellDiff(plan *runtimes.Plan, mirror *client.Mirror) {
	for _, f := range plan.Files {
		switch {
		case !f.Changes():
		case f.Secret && f.Before != nil:
			s.sayf(text("\n%s holds secrets: what changes is not shown.", "\n%s 含有机密：不显示改动。"), f.Path)
		default:
			before := f.Path
			if f.Before == nil {
				before = "/dev/null"
			}
			changes := diff.Diff(before, f.Before, f.Path, f.After)
			_, changes, _ = cutLine(changes) // "diff a b"
			s.say("\n" + strings.TrimSuffix(hider(mirror).Replace(string(changes)), "\n"))
		}
	}
}

// cutLine cuts the first line off.
func cutLine(text []byte) (line, rest []byte, found bool) {
	for i, c := range text {
		if c == '\n' {
			return text[:i], text[i+1:], true
		}
	}
	return text, nil, false
}

// hider puts a mark in the place of a person's secrets.
func hider(m *client.Mirror) *strings.Replacer {
	var pairs []string
	if m.Password != "" {
		pairs = append(pairs, base64.StdEncoding.EncodeToString([]byte(m.Username+":"+m.Password)), "***", m.Password, "***")
	}
	if m.Code != "" {
		pairs = append(pairs, m.Code, "***")
	}
	return strings.NewReplacer(pairs...)
}

// tellSteps tells what remains to be run.
func (s *setup) tellSteps(steps []runtimes.Step) {
	for _, step := range steps {
		if len(step.Command) == 0 {
			s.sayf(text("To be done by hand: %s.", "需手动操作：%s。"), text(step.Why.English, step.Why.Chinese))
			continue
		}
		s.sayf(text("To be run, or say --restart: %s\n  %s", "还需运行（或使用 --restart）：%s\n  %s"), strings.Join(step.Command, " "), text(step.Why.English, step.Why.Chinese))
	}
}

func (s *setup) tellNotes(plan *runtimes.Plan) {
	for _, n := range plan.Notes {
		s.sayf(text("Note: %s.", "注意：%s。"), text(n.Text.English, n.Text.Chinese))
		for line := range strings.Lines(n.Paste) {
			s.say("    " + strings.TrimSuffix(line, "\n"))
		}
	}
}

// agree shows what changes and asks. Where nobody can be asked, that has to be said
// before.
func (s *setup) agree(plan *runtimes.Plan, mirror *client.Mirror) (bool, error) {
	if !isTerminal(s.in) {
		return false, usagef("%s", text("nobody can be asked here: say --yes, or --dry-run to see what would change", "无法询问：请使用 --yes，或用 --dry-run 查看将要做的改动"))
	}
	s.tellDiff(plan, mirror)
	fmt.Fprint(s.out, "\n"+text("Write these files? [y/N] ", "写入这些文件？[y/N] "))
	answer, err := bufio.NewReader(io.LimitReader(s.in, 1<<10)).ReadString('\n')
	if errors.Is(err, context.Canceled) {
		return false, err
	}
	if err != nil && answer == "" {
		return false, nil
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes" || answer == "是", nil
}
