package config

// An egressMessage is one of the sentences about how requests leave.
type egressMessage int

const (
	msgBadProxy egressMessage = iota
	msgProxyLogin
	msgHalfProxyLogin
	msgTwoProxyLogins
	msgBadDNS
	msgBadHost
	msgBadIP
	msgBadHostPattern
	msgNoCertificate
	msgHalfCertificate
	msgBadPair
	msgSamePattern
	egressMessages // how many there are
)

// format implements [sentence].
func (m egressMessage) format(chinese bool) string {
	table := [egressMessages][2]string{
		msgBadProxy: {
			"%q is not direct or a proxy such as http://proxy.corp:3128 or socks5h://127.0.0.1:1080; a user and password with special characters go into proxy_username and proxy_password",
			"%q 不是 direct，也不是代理地址，例如 http://proxy.corp:3128 或 socks5h://127.0.0.1:1080；含特殊字符的账号和密码请写在 proxy_username 和 proxy_password 中",
		},
		msgProxyLogin:      {"belongs to a proxy, which has to be written beside it", "必须与 proxy 写在一起"},
		msgHalfProxyLogin:  {"proxy_username and proxy_password belong together", "proxy_username 与 proxy_password 必须同时设置"},
		msgTwoProxyLogins:  {"the URL of the proxy has a user already", "proxy 的 URL 中已有账号"},
		msgBadDNS:          {"%q is not a DNS server such as udp://1.1.1.1:53, tcp://8.8.8.8:53 or https://dns.google/dns-query", "%q 不是 DNS 服务器，例如 udp://1.1.1.1:53、tcp://8.8.8.8:53 或 https://dns.google/dns-query"},
		msgBadHost:         {"%q is not a host name without port", "%q 不是主机名（不带端口）"},
		msgBadIP:           {"%q is not an IP address", "%q 不是 IP 地址"},
		msgBadHostPattern:  {"%q is not a host without port, *.example.com for all names below, or *", "%q 不是主机（不带端口）、*.example.com（其下所有域名）或 *"},
		msgNoCertificate:   {"%s holds no certificate in PEM", "%s 中没有 PEM 格式的证书"},
		msgHalfCertificate: {"client_cert and client_key belong together", "client_cert 与 client_key 必须同时设置"},
		msgBadPair:         {"%s and client_key are no certificate with its key, in PEM: %v", "%s 与 client_key 不是一对 PEM 格式的证书和私钥：%v"},
		msgSamePattern:     {"%s is the same as another pattern here", "%s 与另一个模式相同"},
	}
	if chinese {
		return table[m][1]
	}
	return table[m][0]
}
