package web

// messages are those of the layout and of the helpers.
func messages() []Message {
	return []Message{
		{"web.skip", "Skip to the content", "跳到正文"},
		{"web.nav", "Pages", "页面导航"},
		{"web.language", "Language", "语言"},
		{"web.theme", "Colours", "配色"},
		{"web.theme.auto", "Auto", "自动"},
		{"web.theme.light", "Light", "浅色"},
		{"web.theme.dark", "Dark", "深色"},
		{"web.never", "never", "从未"},
		{"web.now", "just now", "刚刚"},
		{"web.ago", "%s ago", "%s前"},
		{"web.in", "in %s", "%s后"},
		{"web.second", "1 second", "1 秒"},
		{"web.seconds", "%d seconds", "%d 秒"},
		{"web.minute", "1 minute", "1 分钟"},
		{"web.minutes", "%d minutes", "%d 分钟"},
		{"web.hour", "1 hour", "1 小时"},
		{"web.hours", "%d hours", "%d 小时"},
		{"web.day", "1 day", "1 天"},
		{"web.days", "%d days", "%d 天"},
	}
}
