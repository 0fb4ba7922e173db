package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// runRoot runs a command line in a language and returns what it prints.
func runRoot(t *testing.T, language string, args ...string) (string, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("LC_ALL", language)
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestMistypedCommandsAreUsageErrorsThatNameTheLikelyOne(t *testing.T) {
	for _, tc := range []struct{ line, says string }{
		{"serv", `"serv" is not a command of sampan; did you mean serve?`},
		{"nothing", `"nothing" is not a command of sampan`},
		{"config chek", `"chek" is not a command of sampan config; did you mean check?`},
		{"cache repairs", `"repairs" is not a command of sampan cache; did you mean repair?`},
		{"serve extra", `sampan serve takes flags only, not "extra"`},
		{"serve --lisen x", "unknown flag: --lisen"},
	} {
		out, err := runRoot(t, "C", strings.Fields(tc.line)...)
		var usage *usageError
		if !errors.As(err, &usage) || err.Error() != tc.says || out != "" {
			t.Errorf("%s: %v, printed %q", tc.line, err, out)
		}
	}
}

// A mistake with a flag is one in both languages.
func TestMistakesWithFlagsAreToldInTheUsersLanguage(t *testing.T) {
	for line, want := range map[string][2]string{
		"name --no-such":     {"unknown flag: --no-such", "没有选项 --no-such"},
		"name -z":            {"unknown shorthand flag: 'z' in -z", "没有选项 -z"},
		"name -rz":           {"unknown shorthand flag: 'z' in -z", "没有选项 -z"},
		"name -zr":           {"unknown shorthand flag: 'z' in -zr", "没有选项 -z（-zr）"},
		"pull --jobs":        {"flag needs an argument: --jobs", "选项 --jobs 需要一个值"},
		"pull -j":            {"flag needs an argument: 'j' in -j", "选项 -j 需要一个值"},
		"doctor --timeout 5": {`invalid argument "5" for "--timeout" flag: time: missing unit in duration "5"`, `选项 --timeout 的值 "5" 不正确：time: missing unit in duration "5"`},
		"name --=x":          {"bad flag syntax: --=x", "选项的写法不正确：--=x"},
		"rewrite --check --list -- x": {
			"if any flags in the group [in-place check diff list] are set none of the others can be; [check list] were all set",
			"--in-place、--check、--diff 和 --list 只能使用其中一个",
		},
	} {
		for i, language := range []string{"C", "zh_CN.UTF-8"} {
			_, err := runRoot(t, language, strings.Fields(line)...)
			var usage *usageError
			if !errors.As(err, &usage) || err.Error() != want[i] {
				t.Errorf("%s: got %v, want %s", line, err, want[i])
			}
		}
	}
}

func TestGroupsOfCommandsShowTheirHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"config"}, {"cache"}} {
		out, err := runRoot(t, "C", args...)
		if err != nil || !strings.Contains(out, "Available Commands:") {
			t.Errorf("%v: %v, printed %q", args, err, out)
		}
	}
}

// Every line of every help is in the language of the environment.
func TestHelpIsInChinese(t *testing.T) {
	t.Setenv("LC_ALL", "zh_CN.UTF-8")
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		out, err := runRoot(t, "zh_CN.UTF-8", append(slices.Clone(path), "--help")...)
		if err != nil {
			t.Errorf("%v: %v", path, err)
		}
		for _, english := range []string{"Usage", "Examples", "Flags", "Available", "help for", "version for", "more information", "Generate", "(default "} {
			if strings.Contains(out, english) {
				t.Errorf("%v: %q in\n%s", path, english, out)
			}
		}
		for _, below := range cmd.Commands() {
			if below.Name() != "completion" && below.Name() != "help" {
				walk(below, append(slices.Clone(path), below.Name()))
			}
		}
	}
	walk(newRoot(), nil)
}

// Every command that does something shows how it is typed, and what it shows can be
// typed: the flags exist.
func TestEveryCommandHasAnExample(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, below := range cmd.Commands() {
			if below.Name() != "completion" && below.Name() != "help" {
				walk(below)
			}
		}
		if cmd.HasSubCommands() {
			return
		}
		found := false
		for line := range strings.Lines(cmd.Example) {
			_, typed, ok := strings.Cut(line, cmd.CommandPath())
			if !ok {
				continue
			}
			found = true
			typed, _, _ = strings.Cut(typed, "|")
			typed, _, _ = strings.Cut(typed, ">")
			for word := range strings.FieldsSeq(typed) {
				name, isFlag := strings.CutPrefix(word, "--")
				name, _, _ = strings.Cut(name, "=")
				if isFlag && name != "" && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: the example has --%s, which the command does not", cmd.CommandPath(), name)
				}
			}
		}
		if !found {
			t.Errorf("%s has no example: %q", cmd.CommandPath(), cmd.Example)
		}
	}
	walk(newRoot())
}

func TestRepairOfADirectoryWithoutIndexSaysWhatToName(t *testing.T) {
	_, err := runRoot(t, "C", "cache", "repair", "--data", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "with --data") {
		t.Errorf("got %v", err)
	}
}
