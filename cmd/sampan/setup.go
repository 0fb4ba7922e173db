package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/runtimes"
)

func newSetupCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "setup [TARGET]",
		Short: text("Have a container runtime of this machine use the mirror, and prove it", "让本机的容器运行时使用镜像站，并加以验证"),
		Long: text(
			"Change the settings of a runtime so that it pulls through the mirror, and have it pull an image that only\nmirrors have, to prove that it does. What is in the files stays, with comments and order; what was there is\nkept, and --undo puts it back, byte for byte. Without a target, tell what is on this machine.\n\nTargets: "+targetNames()+".\n\nNothing is restarted without --restart. The exit code is 0 when the runtime was seen to use the mirror,\n1 when not, and 2 for a mistake in the command.",
			"修改运行时的设置，使其经由镜像站拉取，并让它拉取一个只有镜像站才有的镜像来加以验证。文件中原有的内容、\n注释和顺序保持不变；原状会被保存，--undo 可逐字节恢复。不给出目标时，显示本机有哪些运行时。\n\n目标："+targetNames()+"。\n\n没有 --restart 时不会重启任何程序。退出码：0 表示已验证运行时使用镜像站，1 表示没有，2 表示命令有误。"),
		Example: "  sampan setup\n" +
			"  sampan setup docker --mirror mirror.example.com --restart\n" +
			"  sampan setup containerd --mirror https://10.0.0.5:8443 --ca ca.pem --no-fallback --dry-run\n" +
			"  sampan setup docker --undo --restart",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(text("%s takes one target, not %q", "%s 只接受一个目标，而不是 %q"), cmd.CommandPath(), args)
			}
			return nil
		},
		ValidArgs: targetList(),
		RunE:      func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	o.client.addFlags(f)
	o.client.addAccessFlags(f)
	f.BoolVar(&o.noFallback, "no-fallback", false, text("never ask the registries themselves, as far as the runtime can be told so", "在运行时允许的范围内，绝不访问原仓库"))
	f.DurationVar(&o.dialTimeout, "dial-timeout", runtimes.DefaultDialTimeout, text("`TIME` to wait for a connection to the mirror before the registry is asked", "连接镜像站的等待时间 `TIME`，超过后访问原仓库"))
	f.BoolVar(&o.replace, "replace", false, text("take other mirrors away, instead of keeping them behind this one", "移除其他镜像站，而不是保留在其后"))
	f.BoolVar(&o.restart, "restart", false, text("restart or reload the runtime where that is needed", "必要时重启或重新加载运行时"))
	f.BoolVar(&o.dryRun, "dry-run", false, text("show what would change, and change nothing", "只显示将要做的改动，不做修改"))
	f.BoolVar(&o.undo, "undo", false, text("put back what was there before", "恢复原状"))
	f.BoolVarP(&o.yes, "yes", "y", false, text("do not ask", "不询问"))
	f.BoolVar(&o.force, "force", false, text("set up what was not found here; undo although files changed since", "未找到运行时也进行设置；文件在设置后被改动时也恢复"))
	f.BoolVar(&o.noProve, "no-prove", false, text("do not pull anything", "不拉取任何镜像"))
	f.StringVar(&o.root, "root", "", text("`DIR` of another machine's files; nothing is run or proven", "另一台机器的文件所在目录 `DIR`；不运行也不验证"))
	return cmd
}

func targetList() []string {
	var names []string
	for _, t := range runtimes.Targets() {
		names = append(names, t.Name())
	}
	return names
}

func targetNames() string { return strings.Join(targetList(), ", ") }

// setupOptions are what the command line says.
type setupOptions struct {
	client                                                          clientOptions
	noFallback, replace, restart, dryRun, undo, yes, force, noProve bool
	dialTimeout                                                     time.Duration
	root                                                            string
}

func (o setupOptions) run(cmd *cobra.Command, args []string) error {
	m, err := o.machine()
	if err != nil {
		return err
	}
	switch {
	case o.undo && o.dryRun:
		return usagef("%s", text("--undo and --dry-run do not go together", "--undo 与 --dry-run 不能同时使用"))
	case o.dialTimeout <= 0:
		return usagef("%s", text("--dial-timeout is more than nothing, such as 5s", "--dial-timeout 应大于 0，例如 5s"))
	case len(args) == 0 && (o.undo || o.dryRun || o.restart):
		return usagef(text("name a target: %s", "请给出目标：%s"), targetNames())
	case len(args) == 0:
		return listTargets(cmd.Context(), cmd.OutOrStdout(), m)
	}
	for _, t := range runtimes.Targets() {
		if t.Name() != args[0] {
			continue
		}
		s := &setup{setupOptions: o, target: t, machine: m, store: runtimes.NewStore(m), in: cmd.InOrStdin(), out: cmd.OutOrStdout()}
		if o.undo {
			return s.takeBack(cmd.Context())
		}
		return s.do(cmd.Context())
	}
	return usagef(text("%q is no target; there are %s", "%q 不是目标；可用的目标：%s"), args[0], targetNames())
}

// machine is this one, or the files of another.
func (o setupOptions) machine() (*runtimes.Machine, error) {
	m := thisMachine()
	if o.root == "" {
		return m, nil
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(root); err != nil {
		return nil, &usageError{err}
	} else if !info.IsDir() {
		return nil, usagef(text("%s is no directory", "%s 不是目录"), o.root)
	}
	return &runtimes.Machine{Root: root, Home: "/root", Command: func(_ context.Context, name string, _ ...string) ([]byte, error) {
		return nil, fmt.Errorf("%s: %w", name, exec.ErrNotFound)
	}}, nil
}

// A setup is one run of the command for one target.
type setup struct {
	setupOptions
	target  runtimes.Target
	machine *runtimes.Machine
	store   *runtimes.Store
	in      io.Reader
	out     io.Writer
}

// here tells whether programs of the machine can be run.
func (s *setup) here() bool { return s.root == "" }

func (s *setup) do(ctx context.Context) error {
	mirror, err := s.client.open()
	if err != nil {
		return err
	}
	proving := s.here() && !s.dryRun && !s.noProve
	if mirror.Assumed && !proving { // else it is asked whether it is there
		return usagef("%s", text("name the mirror: --mirror mirror.example.com", "请给出镜像站：--mirror mirror.example.com"))
	}
	if proving {
		if err := askForProof(ctx, mirror); err != nil {
			return fmt.Errorf(text("%w\nNothing was changed. With --no-prove the runtime is set up all the same.", "%w\n没有做任何改动。使用 --no-prove 可以照常设置运行时。"), err)
		}
	}
	plan, err := s.plan(ctx, mirror)
	if err != nil {
		return err
	}
	s.tellFiles(plan)
	if s.dryRun {
		s.tellDiff(plan, mirror)
		s.tellSteps(plan.Needed())
		s.tellNotes(plan)
		return nil
	}
	steps := plan.Needed()
	if plan.Changes() {
		if err := s.change(plan, mirror); err != nil {
			return err
		}
	} else {
		s.say(text("Nothing has to change.", "无需改动。"))
	}
	s.tellNotes(plan)
	waiting, err := s.takeSteps(ctx, steps)
	if err != nil || !proving {
		return err
	}
	if plan.Proof == nil {
		s.say(text("What uses these settings is not on this machine, or is made later: it cannot be proven from here.", "使用这些设置的程序不在本机，或稍后才创建：无法在这里验证。"))
		return nil
	}
	if waiting {
		return errors.New(text("not proven: the settings are not in effect yet", "未验证：设置尚未生效"))
	}
	return s.prove(ctx, plan, len(steps) > 0)
}

// plan finds the runtime and says what to do.
func (s *setup) plan(ctx context.Context, mirror *client.Mirror) (*runtimes.Plan, error) {
	found, err := s.target.Detect(ctx, s.machine)
	if err != nil {
		return nil, refusal(err)
	}
	if !found.Present && !s.force && s.here() {
		return nil, fmt.Errorf(text("%s was not found on this machine; --force writes its files all the same", "本机没有找到 %s；使用 --force 仍会写入其文件"), s.target.Name())
	}
	told := runtimes.Mirror{
		URL: mirror.URL(), Host: mirror.Host(), PlainHTTP: mirror.PlainHTTP, CA: mirror.CA, Code: mirror.Code,
		Username: mirror.Username, Password: mirror.Password,
		NoFallback: s.noFallback, Replace: s.replace, DialTimeout: s.dialTimeout,
	}
	for _, r := range mirror.Registries() {
		if !strings.Contains(r.String(), "*") { // no runtime knows patterns
			told.Registries = append(told.Registries, r)
		}
	}
	told.Every = everyRegistry(mirror)
	plan, err := s.target.Plan(ctx, s.machine, found, told)
	return plan, refusal(err)
}

// everyRegistry tells whether the mirror is known to serve registries that nobody named.
func everyRegistry(m *client.Mirror) bool {
	ref, err := oci.ParseReference("nobody.invalid/named/it:1")
	if err != nil {
		return false
	}
	_, err = m.Name(ref)
	return err == nil
}

// refusal is an error of a runtime in the person's language.
func refusal(err error) error {
	var r *runtimes.Refusal
	if errors.As(err, &r) {
		return errors.New(text(r.Text.English, r.Text.Chinese))
	}
	return permission(err)
}

// permission says what to do about files that are not the person's.
func permission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf(text("%w; run this as root, with sudo", "%w；请用 sudo 以 root 身份运行"), err)
	}
	return err
}

// change writes the files, once the person agrees.
func (s *setup) change(plan *runtimes.Plan, mirror *client.Mirror) error {
	if !s.yes {
		ok, err := s.agree(plan, mirror)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New(text("nothing was changed", "没有做任何改动"))
		}
	}
	if err := runtimes.Apply(s.machine, s.store, s.target.Name(), plan); err != nil {
		return permission(err)
	}
	s.sayf(text("What was there is kept in %s; sampan setup %s --undo puts it back.", "原状保存在 %s；sampan setup %s --undo 可以恢复。"), s.store.Dir(), s.target.Name())
	return nil
}

// takeSteps has the runtime read its files, where that was allowed, and tells whether it
// still waits for that.
func (s *setup) takeSteps(ctx context.Context, steps []runtimes.Step) (waiting bool, err error) {
	if len(steps) == 0 {
		return false, nil
	}
	if !s.restart || !s.here() {
		s.tellSteps(steps)
		return true, nil
	}
	for _, step := range steps {
		if len(step.Command) == 0 {
			s.tellSteps([]runtimes.Step{step})
			waiting = true
			continue
		}
		s.sayf(text("Running %s: %s", "运行 %s：%s"), strings.Join(step.Command, " "), text(step.Why.English, step.Why.Chinese))
		if err := step.Take(ctx, s.machine); err != nil {
			return true, err
		}
	}
	return waiting, nil
}

// takeBack undoes the newest setup.
func (s *setup) takeBack(ctx context.Context) error {
	if s.restart && s.here() {
		if changed, err := runtimes.Conflicts(s.machine, s.store, s.target.Name()); err == nil && len(changed) == 0 {
			if err := runtimes.Leave(ctx, s.machine, s.store, s.target); err != nil {
				s.sayf(text("The runtime may keep the mirror until it is restarted: %v", "运行时可能在重启前仍使用镜像站：%v"), permission(err))
			}
		}
	}
	done, steps, left, err := runtimes.Undo(s.machine, s.store, s.target.Name(), s.force)
	if conflict := (*runtimes.Conflict)(nil); errors.As(err, &conflict) {
		return fmt.Errorf(text(
			"changed since the setup, so that nothing was undone: %s\nTake the mirror out of there yourself, or say --force: what was there before the setup comes back, and later changes are lost.",
			"设置之后又有改动，因此没有恢复：%s\n请自行在其中移除镜像站，或使用 --force：将恢复设置之前的内容，之后的改动会丢失。"), strings.Join(conflict.Paths, ", "))
	}
	if errors.Is(err, runtimes.ErrNothing) {
		return fmt.Errorf(text("there is no setup of %s to undo", "没有可以恢复的 %s 设置"), s.target.Name())
	}
	for _, u := range done {
		what := text("restored", "已恢复")
		if u.Removed {
			what = text("removed", "已删除")
		}
		s.sayf("%-9s %s", what, u.Path)
	}
	if err != nil {
		return permission(err)
	}
	if left > 0 {
		s.sayf(text("An earlier setup of %s is still there: undo once more to go back before it.", "还有更早的 %s 设置：再次恢复可回到其之前的状态。"), s.target.Name())
	}
	if _, leaves := s.target.(runtimes.Leaver); leaves && !s.restart && len(steps) > 0 {
		s.say(text("The runtime keeps the mirror until it is restarted.", "在重启之前，运行时仍会使用镜像站。"))
		return nil
	}
	_, err = s.takeSteps(ctx, steps)
	return err
}
