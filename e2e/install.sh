#!/bin/bash
# Installs on a bare Debian 12, as root, every client and server that the
# end-to-end tests drive. Safe to run again: what is there at the pinned version
# is left alone.
#
#   e2e/install.sh           everything
#   e2e/install.sh debian    only the Debian packages
#   e2e/install.sh go        only the clients built from Go modules, into e2e/.bin
set -euo pipefail
cd "$(dirname "$0")"

# Debian's release pins the versions of these.
debian=(
	buildah ca-certificates conmon containerd curl docker-registry docker.io
	podman runc skopeo busybox-static e2fsprogs mount systemd util-linux
	dnsmasq-base microsocks tinyproxy-bin
	chromium fonts-wqy-microhei
	shellcheck
)

# The one place where versions of Go-built clients (and of olareg, a registry
# with a referrers API) are pinned:
# name, module, version, package below the module.
go_clients() {
	cat <<-'TABLE'
	crane github.com/google/go-containerregistry v0.22.1 cmd/crane
	regctl github.com/regclient/regclient v0.11.7 cmd/regctl
	olareg github.com/olareg/olareg v0.2.2 cmd/olareg
	distribution3 github.com/distribution/distribution/v3 v3.0.0 cmd/registry
	oras oras.land/oras v1.2.3 cmd/oras
	containerd2 github.com/containerd/containerd/v2 v2.1.4 cmd/containerd
	ctr2 github.com/containerd/containerd/v2 v2.1.4 cmd/ctr
	dockerd29 github.com/moby/moby/v2 v2.0.0-beta.24 cmd/dockerd
	buildkitd github.com/moby/buildkit v0.25.1 cmd/buildkitd
	buildctl github.com/moby/buildkit v0.25.1 cmd/buildctl
	helm helm.sh/helm/v3 v3.22.0 cmd/helm
	pebble github.com/letsencrypt/pebble/v2 v2.10.1 cmd/pebble
	challtestsrv github.com/letsencrypt/pebble/v2 v2.10.1 cmd/pebble-challtestsrv
	actionlint github.com/rhysd/actionlint v1.7.12 cmd/actionlint
	TABLE
}

install_debian() {
	local missing=() package
	for package in "${debian[@]}"; do
		dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
	done
	if [ ${#missing[@]} -eq 0 ]; then
		echo "debian: all ${#debian[@]} packages are there"
		return
	fi
	echo "debian: installing ${missing[*]}"
	apt-get update -qq
	# The daemons are started by the tests alone: refuse the packages' own start.
	local policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A client is built in a module of its own, because some of their modules hold
# replace lines, which "go install" refuses.
build_client() {
	local name=$1 module=$2 version=$3 package=$4 work
	if [ -x ".bin/$name" ] && [ "$(cat ".bin/$name.version" 2>/dev/null)" = "$module $version" ]; then
		echo "go: $name $version is there"
		return
	fi
	echo "go: building $name $version"
	work=$(mktemp -d)
	(
		cd "$work"
		go mod init build.invalid/client
		go get "$module@$version"
		CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags='-s -w' -o client "$module/$package"
	) >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		rm -rf "$work"
		return 1
	}
	rm -f ".bin/$name.version"
	mv "$work/client" ".bin/$name"
	echo "$module $version" >".bin/$name.version"
	rm -rf "$work"
}

# parsers is a program of this repository, with the types of others: it is built again
# when a file of its module changes.
build_parsers() {
	local sum
	sum=$(cat parsers/go.mod parsers/go.sum parsers/*.go | sha256sum)
	if [ -x .bin/parsers ] && [ "$(cat .bin/parsers.version 2>/dev/null)" = "$sum" ]; then
		echo "go: parsers is there"
		return
	fi
	echo "go: building parsers"
	rm -f .bin/parsers.version
	(cd parsers && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o ../.bin/parsers .)
	echo "$sum" >.bin/parsers.version
}

install_go_clients() {
	local name module version package
	mkdir -p .bin
	# A second run in the same folder waits for the first.
	exec 9>.bin/lock
	flock 9
	while read -r name module version package; do
		build_client "$name" "$module" "$version" "$package" </dev/null
	done < <(go_clients)
	build_parsers
}

case ${1:-all} in
all)
	install_debian
	install_go_clients
	;;
debian) install_debian ;;
go) install_go_clients ;;
*)
	echo "usage: e2e/install.sh [all|debian|go]" >&2
	exit 2
	;;
esac
