package config

// A taskMessage is one of the sentences about what is done at set times.
type taskMessage int

const (
	msgHalfTask taskMessage = iota
	msgBadTaskName
	msgBadCron
	msgNever
	msgBadTimezone
	msgOtherTask
	msgPurgesAll
	msgNoImages
	msgBadImage
	msgBadPlatform
	taskMessages // how many there are
)

// format implements [sentence].
func (m taskMessage) format(chinese bool) string {
	table := [taskMessages][2]string{
		msgHalfTask:    {"needs a name, cron and do", "必须有 name、cron 和 do"},
		msgBadTaskName: {"%q is not a name of its own: 1 to 63 of a-z, 0-9 and -", "%q 应为不重复的名称：1 到 63 个 a-z、0-9 或 - 字符"},
		msgBadCron:     {"%q is not five fields of cron (minute, hour, day, month, day of the week), such as 30 3 * * *", "%q 不是 cron 的五个字段（分、时、日、月、星期），例如 30 3 * * *"},
		msgNever:       {"%q is a day that never comes", "%q 所指的日期不存在"},
		msgBadTimezone: {"%q is not a time zone such as Europe/Berlin or UTC", "%q 不是时区，例如 Asia/Shanghai 或 UTC"},
		msgOtherTask:   {"goes with do: %s only", "仅用于 do: %s"},
		msgPurgesAll:   {"would purge everything: needs unused, registry or pattern", "会删除全部内容：必须有 unused、registry 或 pattern"},
		msgNoImages:    {"needs images", "必须有 images"},
		msgBadImage:    {"%q is not an image such as docker.io/library/alpine:3.20", "%q 不是镜像名，例如 docker.io/library/alpine:3.20"},
		msgBadPlatform: {"%q is not a platform such as linux/amd64 or linux/arm/v7", "%q 不是平台，例如 linux/amd64 或 linux/arm/v7"},
	}
	if chinese {
		return table[m][1]
	}
	return table[m][0]
}
