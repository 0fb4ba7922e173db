package main

import "github.com/spf13/cobra"

// completions tell the shell what can follow: the values of flags that have a few, and
// no files where images or nothing is expected. Commands that know better say so
// themselves.
func completions(root *cobra.Command) {
	words := map[string][]string{
		"style":  {"path", "host"},
		"output": {"text", "json"},
	}
	switch root.Name() {
	case "rewrite":
		words["format"] = []string{"auto", "yaml", "dockerfile"}
	case "save":
		words["format"] = []string{"oci", "docker"}
	}
	for flag, list := range words {
		if root.Flags().Lookup(flag) == nil {
			continue
		}
		if _, said := root.GetFlagCompletionFunc(flag); !said {
			// It fails only where there is no such flag or it is done twice.
			_ = root.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	switch root.Name() {
	case "name", "pull", "explain", "pin", "unpin", "prefetch", "serve", "doctor", "demo":
		if root.ValidArgsFunction == nil {
			root.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	for _, below := range root.Commands() {
		completions(below)
	}
}

// localizeCompletion puts what cobra says of the scripts into Chinese.
func localizeCompletion(completion *cobra.Command) {
	completion.Short = "生成 shell 的自动补全脚本"
	completion.Long = "为指定的 shell 生成 sampan 的自动补全脚本。各命令的说明中有使用方法。"
	load := map[string]string{
		"bash":       "当前会话：\n\n\tsource <(sampan completion bash)\n\n所有会话（需要 bash-completion 软件包）：\n\n\tsampan completion bash > /etc/bash_completion.d/sampan",
		"zsh":        "当前会话：\n\n\tsource <(sampan completion zsh)\n\n所有会话：\n\n\tsampan completion zsh > \"${fpath[1]}/_sampan\"",
		"fish":       "当前会话：\n\n\tsampan completion fish | source\n\n所有会话：\n\n\tsampan completion fish > ~/.config/fish/completions/sampan.fish",
		"powershell": "当前会话：\n\n\tsampan completion powershell | Out-String | Invoke-Expression\n\n所有会话：将该命令的输出加入 PowerShell 配置文件。",
	}
	for _, shell := range completion.Commands() {
		shell.Short = "生成 " + shell.Name() + " 的自动补全脚本"
		shell.Long = shell.Short + "。\n\n" + load[shell.Name()]
		if f := shell.Flags().Lookup("no-descriptions"); f != nil {
			f.Usage = "不包含说明"
		}
	}
}
