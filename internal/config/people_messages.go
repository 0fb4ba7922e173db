package config

// A peopleMessage is one of the sentences about who may have what.
type peopleMessage int

const (
	msgUserOrFile peopleMessage = iota
	msgBadUserName
	msgSameUser
	msgWeakHash
	msgBadHtpasswd
	msgHalfCode
	msgBadCode
	msgSameCode
	msgBadDay
	msgNoAction
	msgBadSelector
	msgNoRepositories
	msgNoSuchUser
	msgNoSuchGroup
	msgNoSuchCode
	msgIsAlias
	msgHalfIssuer
	msgBadIssuer
	msgBadIssuerName
	msgShortKey
	msgBadSample
	msgBadAudit
	msgBadRate
	peopleMessages // how many there are
)

// format implements [sentence].
func (m peopleMessage) format(chinese bool) string {
	table := [peopleMessages][2]string{
		msgUserOrFile:     {"is either a name with password or password_file, or a file made with htpasswd -B", "应为 name 加 password 或 password_file，或者由 htpasswd -B 生成的 file"},
		msgBadUserName:    {"%q is not a name: 1 to 255 bytes without spaces, colons and control characters", "%q 不是有效的名称：1 到 255 字节，不含空格、冒号和控制字符"},
		msgSameUser:       {"the user %q is there twice", "用户 %q 重复出现"},
		msgWeakHash:       {"%s, line %d: the hash is no longer safe; make it anew with htpasswd -B (bcrypt) or argon2 -id -e", "%s 第 %d 行：该哈希已不安全，请用 htpasswd -B（bcrypt）或 argon2 -id -e 重新生成"},
		msgBadHtpasswd:    {"%s, line %d: %v", "%s 第 %d 行：%v"},
		msgHalfCode:       {"needs a name, and a code or a code_file", "必须有 name，以及 code 或 code_file"},
		msgBadCode:        {"the code of %q is not %d to 63 characters of a-z, 0-9 and -; make one with: head -c 15 /dev/urandom | base32 | tr A-Z a-z", "%q 的访问码应为 %d 到 63 个 a-z、0-9 或 - 字符；可这样生成：head -c 15 /dev/urandom | base32 | tr A-Z a-z"},
		msgSameCode:       {"%q has the name or the code of another", "%q 的名称或访问码与另一个相同"},
		msgBadDay:         {"%q is not a day such as 2027-06-30", "%q 不是日期，例如 2027-06-30"},
		msgNoAction:       {"needs an action: allow or deny", "必须有 action：allow 或 deny"},
		msgBadSelector:    {"%q does not say which repositories, such as docker.io/library/*, quay.io/**, docker.io/library/alpine:3.*, or ** for all", "%q 不是仓库模式，例如 docker.io/library/*、quay.io/**、docker.io/library/alpine:3.*，或表示全部的 **"},
		msgNoRepositories: {"needs repositories", "必须有 repositories"},
		msgNoSuchUser:     {"there is no user %q", "没有用户 %q"},
		msgNoSuchGroup:    {"there is no group %q", "没有用户组 %q"},
		msgNoSuchCode:     {"there is no code of the name %q", "没有名为 %q 的访问码"},
		msgIsAlias:        {"%s is an alias; write %s, which is what is asked for", "%s 是别名；请写 %s，这才是实际请求的仓库"},
		msgHalfIssuer:     {"needs a name, a url and an audience", "必须有 name、url 和 audience"},
		msgBadIssuer:      {"%q is not an https URL such as https://login.example.com", "%q 不是 https URL，例如 https://login.example.com"},
		msgBadIssuerName:  {"%q is not a name of its own of a-z, 0-9 and -", "%q 应为不重复的名称，由 a-z、0-9 和 - 组成"},
		msgBadRate:        {"%q is not a number from 0, such as 20 or 0.5", "%q 不是非负数，例如 20 或 0.5"},
		msgBadAudit:       {"%q is not off, stderr or the absolute path of a file", "%q 应为 off、stderr 或文件的绝对路径"},
		msgBadSample:      {"%q is not a number from 0 to 1", "%q 应为 0 到 1 之间的数"},
		msgShortKey:       {"%s needs at least %d bytes; make it with: head -c 48 /dev/urandom > FILE", "%s 至少需要 %d 字节；可这样生成：head -c 48 /dev/urandom > 文件"},
	}
	if chinese {
		return table[m][1]
	}
	return table[m][0]
}
