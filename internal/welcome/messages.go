package welcome

import "sampan/internal/web"

// messages are the texts of the page.
func messages() []web.Message {
	list := []web.Message{
		{"site", "Image mirror", "镜像站"},
		{"home.title", "Pull any container image through this mirror", "通过本镜像站拉取任意容器镜像"},
		{"home.lead", "Paste the name of an image. You get its name here, and what Docker, containerd, Podman, Kubernetes and others need.", "粘贴镜像名称，即可得到它在本站的名称，以及 Docker、containerd、Podman、Kubernetes 等客户端所需的命令与配置。"},
		{"home.label", "Image name or command", "镜像名称或命令"},
		{"home.hint", "Any form will do: with a registry, tag or digest, a whole docker pull line, an address of Docker Hub, or a name at this mirror.", "任何写法均可：带仓库、标签或摘要的名称，整条 docker pull 命令，Docker Hub 网址，或本站的镜像名称。"},
		{"home.go", "Show how", "查看用法"},
		{"home.try", "For example:", "例如："},
		{"home.copy", "Copy", "复制"},
		{"home.copied", "Copied", "已复制"},
		{"home.notcopied", "Press Ctrl+C to copy", "请按 Ctrl+C 复制"},
		{"home.into", "File", "文件"},
		{"home.setup", "Set up once, keep your names", "一次配置，镜像名称不变"},
		{"home.setup.lead", "With these settings a client asks this mirror behind the scenes, and image names stay as they are.", "配置之后，客户端会自动使用本镜像站，镜像名称无需改动。"},
		{"home.how", "Commands and files", "命令与配置"},
		{"home.back", "Another image", "换一个镜像"},

		{"image.here", "%s at this mirror", "%s 在本站的名称"},
		{"image.path", "Name at this mirror", "本站名称"},
		{"image.host", "Or, by host name", "或使用子域名"},
		{"image.origin", "Original name", "原名称"},
		{"image.reversed", "What you pasted is a name at this mirror.", "您粘贴的是本站的镜像名称。"},
		{"image.alias", "%s is another name of %s.", "%s 是 %s 的别名。"},
		{"image.slow", "%s is slow at the moment, or some of its servers fail. What is cached here comes at once.", "%s 目前较慢或部分服务器异常。本站已缓存的内容不受影响。"},
		{"image.failing", "%s gives no answer at the moment. What is cached here can be pulled all the same.", "%s 目前无响应。本站已缓存的内容仍可拉取。"},
		{"image.offline", "This mirror is offline: it has what is cached, and nothing else.", "本站处于离线状态，只能拉取已缓存的内容。"},

		{"state.title", "Registries", "上游仓库"},
		{"state.registry", "Registry", "仓库"},
		{"state.path", "Names here begin with", "本站名称前缀"},
		{"state.host", "Or with", "或子域名前缀"},
		{"state.state", "State", "状态"},
		{"state.good", "no trouble", "未见异常"},
		{"state.slow", "slow", "较慢"},
		{"state.failing", "no answer", "无响应"},
		{"state.offline", "offline", "离线"},

		{"bad.name", "“%s” is not the name of an image. A name looks like nginx, quay.io/prometheus/node-exporter:v1.9.0, or name@sha256:….", "“%s”不是镜像名称。正确的写法如 nginx、quay.io/prometheus/node-exporter:v1.9.0 或 名称@sha256:…。"},
		{"bad.case", "“%s” is not the name of an image: names are in lower case.", "“%s”不是镜像名称：名称只能用小写字母。"},
		{"bad.tag", "The tag of “%s” is not valid: letters, digits, dots, hyphens and underscores, at most 128.", "“%s”的标签不正确：只能包含字母、数字、点、连字符和下划线，最多 128 个字符。"},
		{"bad.digest", "The digest of “%s” is not valid: it is sha256: and 64 hexadecimal digits.", "“%s”的摘要不正确：应为 sha256: 加 64 位十六进制数字。"},
		{"bad.long", "That is too long for the name of an image.", "内容过长，不是镜像名称。"},
		{"bad.registry", "The registry %s is not served by this mirror.", "本站不提供仓库 %s。"},
		{"bad.host", "The host name %s is not one of this mirror.", "%s 不是本站的主机名。"},
		{"bad.unnameable", "Images of %s have no name at this address; its operator can give the registry a host label or an alias.", "%s 的镜像在此地址下无法表示；管理员可为该仓库设置主机名标签或别名。"},
		{"bad.meant", "Did you mean", "您是否想输入"},
		{"bad.operator", "The operator of this mirror can allow it:", "管理员可用以下配置放行："},
	}
	return append(list, recipes()...)
}

// recipes are the texts of the sections.
func recipes() []web.Message {
	return []web.Message{
		{"docker.title", "Docker", "Docker"},
		{"docker.pull", "Pull by the name at this mirror, and give the image its own name:", "用本站名称拉取，再改回原名称："},
		{"docker.insecure", "This mirror speaks plain HTTP. Docker has to be told so once; then reload it.", "本站使用明文 HTTP，需先告知 Docker 并重新加载（只需一次）。"},
		{"docker.mirrors", "Let Docker ask this mirror for everything on Docker Hub:", "让 Docker 通过本站拉取 Docker Hub 的所有镜像："},
		{"docker.reload", "Then:", "然后："},
		{"docker.store", "Docker with the containerd image store reads a file for each registry, without a restart:", "使用 containerd 镜像存储的 Docker 会读取各仓库的配置文件，无需重启："},
		{"kubernetes.title", "Kubernetes manifest", "Kubernetes 清单"},
		{"kubernetes.pod", "The name at this mirror as the image of a container:", "将本站名称用作容器镜像："},
		{"dockerfile.title", "Dockerfile", "Dockerfile"},
		{"dockerfile.from", "The name at this mirror as the base:", "将本站名称用作基础镜像："},
		{"helm.title", "Helm", "Helm"},
		{"helm.values", "Values, as most charts call them:", "多数 chart 通用的 values："},
		{"helm.chart", "If it is a chart in a registry:", "如果它是仓库中的 chart："},
		{"containerd.title", "containerd and Kubernetes nodes", "containerd 与 Kubernetes 节点"},
		{"containerd.one", "Say once where the files are, and restart containerd. Version 1.x:", "先指定配置目录并重启 containerd。1.x 版本："},
		{"containerd.two", "Version 2.x:", "2.x 版本："},
		{"containerd.all", "One file for all registries; no restart is needed:", "一个文件适用于所有仓库，无需重启："},
		{"containerd.hosts", "The file of %s; no restart is needed:", "%s 的配置文件，无需重启："},
		{"containerd.pull", "Then pull by the usual name:", "然后用原名称拉取："},
		{"podman.title", "Podman, Buildah, Skopeo, CRI-O", "Podman、Buildah、Skopeo、CRI-O"},
		{"podman.file", "All of them read this file. Restart CRI-O afterwards.", "这些工具都会读取此文件。CRI-O 需要重启。"},
		{"podman.pull", "Then pull by the usual name:", "然后用原名称拉取："},
		{"k3s.title", "k3s and RKE2", "k3s 与 RKE2"},
		{"k3s.file", "Then restart the service. RKE2 reads /etc/rancher/rke2/registries.yaml.", "然后重启服务。RKE2 读取 /etc/rancher/rke2/registries.yaml。"},
		{"buildkit.title", "BuildKit", "BuildKit"},
		{"buildkit.file", "The file of buildkitd, or the one given to docker buildx create --config:", "buildkitd 的配置文件，或传给 docker buildx create --config 的文件："},
	}
}
