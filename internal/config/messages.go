package config

import "fmt"

// A message is one of the sentences below.
type message int

const (
	msgUnknownKey message = iota
	msgMeant
	msgDuplicateKey
	msgSyntax
	msgUnreadable
	msgFileTooLarge
	msgTooComplex
	msgNotText
	msgManyDocuments
	msgWantMapping
	msgWantList
	msgWantScalar
	msgBadAnchor
	msgUnset
	msgBadVariable
	msgBadDuration
	msgBadLongDuration
	msgBadLines
	msgShortStall
	msgBadSize
	msgSmallSize
	msgBadBound
	msgShortScrub
	msgShareOfNothing
	msgMinAboveMax
	msgBadBool
	msgBadAddress
	msgUnprintableAddress
	msgSameAddress
	msgNeedsCertificates
	msgBadDirectory
	msgBadHook
	msgNoACMEDomain
	msgWildcardNeedsDNS
	msgDNSNeedsHook
	msgHookNeedsDNS
	msgHalfPair
	msgBadNetwork
	msgBadOrigin
	msgBadCount
	msgBadDomain
	msgBadRegistry
	msgBadChoice
	msgBadURL
	msgBadEndpoint
	msgNoEndpoint
	msgOnlyBlobs
	msgOnlyBlobsBehind
	msgBadLocal
	msgNoLayout
	msgNotArchive
	msgNoArchive
	msgOnlyForURL
	msgOnlyForLocal
	msgBadRepository
	msgNobodyToAsk
	msgShortHedge
	msgBadPattern
	msgBadTagPattern
	msgBadLabel
	msgTakenLabel
	msgSameUpstream
	msgStarTakesNothing
	msgBadAlias
	msgAliasIsUpstream
	msgAliasTarget
	msgAliasChain
	msgNotUpstream
	msgTwoSecrets
	msgHalfLogin
	msgTokenAndLogin
	msgNobodyTold
	msgOneAccount
	msgBadDockerConfig
	msgBadHelper
	msgNotPublic
	msgEmptySecret
	msgBadUpstreamFlag
	msgUnknownVariable
	msgNoDataDir
	msgEmpty
	messages // how many there are
)

// A sentence is a format in English or Chinese; both take the same operands in
// the same order.
type sentence interface{ format(chinese bool) string }

// A complaint is a sentence with what it is about.
type complaint struct {
	message sentence
	args    []any
	meant   string // a suggestion, or empty
	onDisk  bool   // it is about what a file holds, or that there is none
}

func complainf(m sentence, args ...any) *complaint { return &complaint{message: m, args: args} }

func (c *complaint) text(chinese bool) string {
	s := fmt.Sprintf(c.message.format(chinese), c.args...)
	if c.meant != "" {
		s += fmt.Sprintf(msgMeant.format(chinese), c.meant)
	}
	return s
}

// format implements [sentence].
func (m message) format(chinese bool) string {
	table := [messages][2]string{
		msgUnknownKey:         {"unknown key %q", "未知的键 %q"},
		msgMeant:              {"; did you mean %s?", "；是否想写 %s？"},
		msgDuplicateKey:       {"%q is written twice", "%q 重复出现"},
		msgSyntax:             {"not valid YAML: %s", "YAML 语法错误：%s"},
		msgUnreadable:         {"cannot be read: %v", "无法读取：%v"},
		msgFileTooLarge:       {"larger than %d MiB", "超过 %d MiB"},
		msgTooComplex:         {"has too many entries", "内容过于复杂"},
		msgNotText:            {"not UTF-8 text", "不是 UTF-8 文本"},
		msgManyDocuments:      {"holds more than one YAML document", "包含多个 YAML 文档"},
		msgWantMapping:        {"must be a mapping of keys to values", "应为键值映射"},
		msgWantList:           {"must be a list", "应为列表"},
		msgWantScalar:         {"must be a single value", "应为单个值"},
		msgBadAnchor:          {"refers to an anchor that does not exist or contains itself", "引用了不存在或自我包含的锚点"},
		msgUnset:              {"the variable %s is not set; give it a default with ${%[1]s:-value}", "变量 %s 未设置；可用 ${%[1]s:-值} 指定默认值"},
		msgBadVariable:        {"a variable is written ${NAME} or ${NAME:-default}; a literal ${ is written $${", "变量应写作 ${NAME} 或 ${NAME:-默认值}；字面的 ${ 写作 $${"},
		msgBadDuration:        {"%q is not a duration such as 30s, 5m, 12h or 7d", "%q 不是时长，例如 30s、5m、12h、7d"},
		msgBadLongDuration:    {"%q is not a duration such as 12h or 7d, 0, or forever", "%q 不是时长，例如 12h、7d、0 或 forever"},
		msgBadLines:           {"%q is not a whole number from 1 to %d", "%q 不是 1 到 %d 之间的整数"},
		msgShortStall:         {"%s is too short; at least %s is needed", "%s 过短，至少需要 %s"},
		msgBadSize:            {"%q is not a size such as 20GiB, 500MB or a number of bytes", "%q 不是大小，例如 20GiB、500MB 或字节数"},
		msgBadBound:           {"%q is not a size such as 20GiB, or a share such as 80%%", "%q 不是大小（例如 20GiB）或比例（例如 80%%）"},
		msgShortScrub:         {"%s is too short; at least %s is needed, 0 turns it off", "%s 过短，至少需要 %s；0 表示关闭"},
		msgShareOfNothing:     {"%s is a share of data.max_size, which is not set", "%s 是 data.max_size 的比例，但没有设置 data.max_size"},
		msgMinAboveMax:        {"%s is more than max_size, %s", "%s 大于 max_size（%s）"},
		msgSmallSize:          {"%s is too small; at least %s is needed, 0 means no limit", "%s 过小，至少需要 %s；0 表示不限"},
		msgBadBool:            {"%q is not true or false", "%q 应为 true 或 false"},
		msgBadAddress:         {"%q is not an address such as 127.0.0.1:5000 or :5000", "%q 不是监听地址，例如 127.0.0.1:5000 或 :5000"},
		msgUnprintableAddress: {"%q has a comma or a character that cannot be seen; write each address as an entry of a list", "%q 含有逗号或不可见字符；请把每个地址写成列表中的一项"},
		msgSameAddress:        {"%s is the address of listen already", "%s 已被 listen 使用"},
		msgNeedsCertificates:  {"leads to https, and there are neither tls.certificates nor tls.acme", "会跳转到 https，但没有设置 tls.certificates 或 tls.acme"},
		msgBadDirectory:       {"%q is not an https URL such as https://acme-v02.api.letsencrypt.org/directory", "%q 不是 https URL，例如 https://acme-v02.api.letsencrypt.org/directory"},
		msgBadHook:            {"%q is not the absolute path of a program", "%q 不是程序的绝对路径"},
		msgNoACMEDomain:       {"needs at least one name in domains", "domains 中至少需要一个域名"},
		msgWildcardNeedsDNS:   {"a wildcard needs challenge: dns", "泛域名需要 challenge: dns"},
		msgDNSNeedsHook:       {"needs a hook, the program that sets the record", "需要 hook，即设置 DNS 记录的程序"},
		msgHookNeedsDNS:       {"is used with challenge: dns only", "仅在 challenge: dns 时使用"},
		msgHalfPair:           {"needs both cert and key", "必须同时设置 cert 和 key"},
		msgBadNetwork:         {"%q is not an address or network such as 10.0.0.0/8", "%q 不是地址或网段，例如 10.0.0.0/8"},
		msgBadOrigin:          {"%q is not an origin such as https://ui.example.com, without path", "%q 不是来源（origin），例如 https://ui.example.com（不带路径）"},
		msgBadCount:           {"%q is not a whole number from 0", "%q 不是非负整数"},
		msgBadDomain:          {"%q is not a host name without scheme and port, such as mirror.example.com", "%q 不是主机名（不带协议和端口），例如 mirror.example.com"},
		msgBadRegistry:        {"%q is not the name of a registry, such as quay.io or registry.corp:5000", "%q 不是仓库名，例如 quay.io 或 registry.corp:5000"},
		msgBadChoice:          {"%q is not one of %s", "%q 不在可选值 %s 之中"},
		msgBadURL:             {"%q is not a URL such as https://registry.example.com, without user, query and fragment", "%q 不是有效的 URL，例如 https://registry.example.com（不含用户、查询和片段）"},
		msgBadEndpoint:        {"%q is not a URL such as https://registry.example.com, without user, query and fragment, nor archive:FILE or oci:DIR", "%q 不是有效的 URL，例如 https://registry.example.com（不含用户、查询和片段），也不是 archive:文件 或 oci:目录"},
		msgNoEndpoint:         {"needs at least one entry with a url", "至少需要一个带 url 的条目"},
		msgOnlyBlobs:          {"needs at least one endpoint that serves all: nobody could be asked for tags and manifests", "至少需要一个 serves 为 all 的端点，否则无处获取标签和清单"},
		msgOnlyBlobsBehind:    {"needs at least one address that serves all beside the archives and layouts, or no address", "除归档和 layout 之外，至少需要一个 serves 为 all 的地址，或者不写任何地址"},
		msgBadLocal:           {"%q is not oci:DIR or archive:FILE", "%q 不是 oci:目录 或 archive:文件"},
		msgNoLayout:           {"%s is not the directory of an OCI layout, with oci-layout and index.json", "%s 不是 OCI layout 目录（应含有 oci-layout 和 index.json）"},
		msgNotArchive:         {"%s is a directory; that of an OCI layout is written oci:DIR", "%s 是目录；OCI layout 目录应写作 oci:目录"},
		msgNoArchive:          {"%s is no tar archive, nor one that gzip or zstd compressed", "%s 不是 tar 归档，也不是 gzip 或 zstd 压缩的归档"},
		msgOnlyForURL:         {"is for addresses only: nothing is sent to an archive or a layout", "仅用于地址：不会向归档或 layout 发送任何内容"},
		msgOnlyForLocal:       {"is for oci:DIR and archive:FILE only", "仅用于 oci:目录 和 archive:文件"},
		msgBadRepository:      {"%q is not the path of a repository, such as library/nginx", "%q 不是镜像库路径，例如 library/nginx"},
		msgNobodyToAsk:        {"accounts and pass_through need an address of the registry: archives and layouts know no accounts", "账号和 pass_through 需要仓库的地址：归档和 layout 没有账号"},
		msgShortHedge:         {"%s is too short; at least %s is needed, 0 turns it off", "%s 过短，至少需要 %s；0 表示关闭"},
		msgBadPattern:         {"%q is not a pattern of repositories such as library/* or team/**", "%q 不是仓库路径模式，例如 library/* 或 team/**"},
		msgBadTagPattern:      {"%q is not a pattern of tags such as v1.* or [0-9]*", "%q 不是 tag 模式，例如 v1.* 或 [0-9]*"},
		msgBadLabel:           {"%q is not one label of a host name: letters, digits and hyphens", "%q 不是主机名标签（字母、数字、连字符）"},
		msgTakenLabel:         {"the label %q belongs to %s already", "标签 %q 已属于 %s"},
		msgSameUpstream:       {"%s is the same registry as another key here", "%s 与另一个键是同一仓库"},
		msgStarTakesNothing:   {"takes no settings: it only allows registries that are not listed", "不接受任何设置，仅表示允许未列出的仓库"},
		msgBadAlias:           {"%q is not a registry or registry/path in lower case", "%q 不是 registry 或 registry/path"},
		msgAliasIsUpstream:    {"%s is an upstream, so that this alias would never be used", "%s 是上游仓库，此别名永远不会生效"},
		msgAliasTarget:        {"leads to %s, which is not an upstream", "指向的 %s 不是上游仓库"},
		msgAliasChain:         {"leads to %s, which is an alias itself; aliases are applied once", "指向的 %s 本身也是别名；别名只应用一次"},
		msgNotUpstream:        {"%s is not an upstream", "%s 不是上游仓库"},
		msgTwoSecrets:         {"%s and %s cannot be used together", "%s 与 %s 不能同时使用"},
		msgHalfLogin:          {"username and password belong together", "username 与 password 必须同时设置"},
		msgTokenAndLogin:      {"a token and a username cannot be used together", "token 与 username 不能同时使用"},
		msgNotPublic:          {"these credentials would serve everybody who reaches this mirror; add public: true if that is wanted, or pass_through: true for those of the client", "凡能访问本镜像站的人都将使用这些凭据；如确需如此，请加上 public: true；如应使用客户端自己的凭据，请加上 pass_through: true"},
		msgNobodyTold:         {"credentials must be sent to at least one endpoint that serves all", "至少要有一个 serves: all 的端点接收凭据"},
		msgOneAccount:         {"an account is exactly one of username with password, token, docker_config and helper", "一个账号只能是以下之一：username 与 password、token、docker_config、helper"},
		msgBadDockerConfig:    {"%s is not a config.json of Docker", "%s 不是 Docker 的 config.json"},
		msgBadHelper:          {"%q is not a program by its absolute path or on the PATH", "%q 不是可执行程序：应为绝对路径，或可在 PATH 中找到"},
		msgEmptySecret:        {"%s is empty", "%s 为空"},
		msgBadUpstreamFlag:    {"%q is not NAME=URL, such as quay.io=https://quay.io", "%q 不是 NAME=URL，例如 quay.io=https://quay.io"},
		msgUnknownVariable:    {"no such setting", "没有这个设置"},
		msgNoDataDir:          {"must be set, because neither HOME nor XDG_DATA_HOME is", "必须设置，因为 HOME 和 XDG_DATA_HOME 均未设置"},
		msgEmpty:              {"must not be empty", "不能为空"},
	}
	if chinese {
		return table[m][1]
	}
	return table[m][0]
}
