#!/bin/bash
# Carries out one request for copies, by "sampan copy", and writes the answer, Markdown,
# to $GITHUB_OUTPUT (as "answer") and to $GITHUB_STEP_SUMMARY. The exit code is 0 when
# every image was copied.
#
# What the repository's owners say:
#
#   SAMPAN          the program
#   COPY_TARGET     where copies go, a place that ends in "/": registry.example.com/team/
#   COPY_SOURCES    registries that images may come from, separated by spaces; "*" is any;
#                   empty: those below
#   COPY_LANG       language of the answer: zh_CN, else English
#   COPY_USERNAME   for the registry of COPY_TARGET; empty: without a login
#   COPY_PASSWORD
#
# What is requested, of which nothing is trusted. The text of an issue, or fields:
#
#   REQUEST_BODY
#   REQUEST_IMAGES REQUEST_PLATFORMS REQUEST_NAMES
#
# A request with one wrong line is refused as a whole, before anything is asked of a
# registry, and the answer repeats nothing of it. What fits is names by the grammar of
# references, which have no character that means something to a shell, to Markdown's
# fences or to the runner; sampan gets them behind "--".
set -euo pipefail
umask 077

language=${COPY_LANG:-C}
export LC_ALL=C # so that a-z in a pattern is these 26 letters, and lengths are bytes

max_request=65536 # bytes
max_images=30
max_name=450 # bytes: a repository, a tag and a digest
builtin_sources="docker.io gcr.io registry.k8s.io k8s.gcr.io quay.io ghcr.io mcr.microsoft.com public.ecr.aws nvcr.io registry.gitlab.com docker.elastic.co"

part='[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*'
label='[a-z0-9]([a-z0-9-]*[a-z0-9])?'
host="$label(\\.$label)*(:[0-9]{1,5})?"
image_pattern="^($host/)?$part(/$part)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?\$"
target_pattern="^$host/($part/)*\$"
platform_pattern='^[a-z0-9]{1,20}/[a-z0-9]{1,20}(/v[0-9]{1,2})?$'

images=() platforms=() naming=()

# text ENGLISH CHINESE
text() {
	case $language in
	zh*) printf '%s' "$2" ;;
	*) printf '%s' "$1" ;;
	esac
}

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# publish ANSWER
publish() {
	local end
	end=$(random)
	printf 'answer<<%s\n%s\n%s\n' "$end" "$1" "$end" >>"${GITHUB_OUTPUT:-/dev/stdout}"
	printf '%s\n' "$1" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
}

# refuse ENGLISH CHINESE ends the request. Neither holds anything of it.
refuse() {
	local again
	again=$(text "Nothing was copied. Edit the request, close it and open it again." "没有复制任何内容。请修改请求，关闭后重新打开。")
	publish "$(text "$1" "$2")"$'\n\n'"$again"
	echo "request: $1" >&2
	exit 1
}

# registry_of NAME, as sampan and Docker read it.
registry_of() {
	local first=${1%%/*}
	if [[ $1 != */* || ($first != *[.:]* && $first != localhost) ]]; then
		first=docker.io
	fi
	if [[ $first == index.docker.io ]]; then
		first=docker.io
	fi
	printf '%s' "$first"
}

check_settings() {
	if [[ ! ${COPY_TARGET:-} =~ $target_pattern ]]; then
		refuse "The variable COPY_TARGET of this repository has to name a place, such as \`registry.example.com/team/\`." \
			"本仓库的变量 COPY_TARGET 应为一个位置，例如 \`registry.example.com/team/\`。"
	fi
}

# add_image LINE NUMBER
add_image() {
	local name=$1 from
	name=${name#"${name%%[! 	]*}"}
	name=${name%"${name##*[! 	]}"}
	if [[ -z $name ]]; then
		return
	fi
	if ((${#name} > max_name)) || [[ ! $name =~ $image_pattern ]]; then
		refuse "Line $2 of the images is not the name of an image." "镜像的第 $2 行不是镜像名。"
	fi
	if [[ " ${images[*]} " == *" $name "* ]]; then
		return
	fi
	if ((${#images[@]} == max_images)); then
		refuse "There are more than $max_images images." "镜像超过 $max_images 个。"
	fi
	from=$(registry_of "$name")
	# A source there would be read with the password, which may open private images.
	if [[ $from == "$(registry_of "$COPY_TARGET")" ]]; then
		refuse "Line $2 of the images is at the registry that copies go to: pull it from there." "镜像的第 $2 行已在目标仓库所在的域名上，请直接拉取。"
	fi
	if [[ ${COPY_SOURCES:-} != '*' && " ${COPY_SOURCES:-$builtin_sources} " != *" $from "* ]]; then
		refuse "Line $2 of the images is at a registry that COPY_SOURCES does not list." "镜像的第 $2 行所在的仓库不在 COPY_SOURCES 之中。"
	fi
	images+=("$name")
}

# read_images LINES
read_images() {
	local line number=0
	while IFS= read -r line; do
		number=$((number + 1))
		add_image "${line%$'\r'}" "$number"
	done <<<"$1"
	if ((${#images[@]} == 0)); then
		refuse "There is no image in the request." "请求中没有镜像。"
	fi
}

# read_platforms LIST, separated by commas
read_platforms() {
	local one list=${1// /}
	local -a all=()
	IFS=, read -r -a all <<<"$list"
	for one in "${all[@]}"; do
		if ((${#platforms[@]} == 10)) || [[ ! $one =~ $platform_pattern ]]; then
			refuse "The platforms are not a list such as \`linux/amd64, linux/arm64\`." "平台应写成 \`linux/amd64, linux/arm64\` 这样的列表。"
		fi
		platforms+=("--platform=$one")
	done
}

# read_names CHOICE
read_names() {
	case $1 in
	'' | flat | flat:*) naming=(--flatten) ;;
	flat-registry | flat-registry:*) naming=(--flatten --with-registry) ;;
	path | path:*) naming=() ;;
	path-registry | path-registry:*) naming=(--with-registry) ;;
	*) refuse "There is no such rule of names." "没有这样的命名规则。" ;;
	esac
}

# read_form TEXT takes apart what GitHub makes of the form: a heading for each field, with
# what was entered below it.
read_form() {
	local line field=none seen=' '
	local -A entered=([images]='')
	while IFS= read -r line; do
		line=${line%$'\r'}
		case $line in
		'### Images / 镜像') field=images ;;
		'### Platforms / 平台') field=platforms ;;
		'### Names / 名字') field=names ;;
		'### '*) field=none ;;
		'```text' | '```' | '_No response_') continue ;;
		*)
			entered[$field]+=$line
			if [[ $field == images ]]; then
				entered[$field]+=$'\n'
			fi
			continue
			;;
		esac
		if [[ $field != none && $seen == *" $field "* ]]; then
			refuse "A heading of the form is there twice." "表单的某个标题出现了两次。"
		fi
		seen+="$field "
	done <<<"$1"
	# Behind the heading is an empty line, which nobody wrote.
	read_fields "${entered[images]#$'\n'}" "${entered[platforms]:-}" "${entered[names]:-}"
}

# read_fields IMAGES PLATFORMS NAMES
read_fields() {
	read_images "$1"
	read_platforms "$2"
	read_names "$3"
}

read_request() {
	local words
	if ((${#REQUEST_BODY} + ${#REQUEST_IMAGES} + ${#REQUEST_PLATFORMS} + ${#REQUEST_NAMES} > max_request)); then
		refuse "The request is longer than $max_request bytes." "请求超过 $max_request 字节。"
	fi
	if [[ -n $REQUEST_BODY ]]; then
		read_form "$REQUEST_BODY"
		return
	fi
	words=${REQUEST_IMAGES//[ ,]/$'\n'}
	read_fields "$words" "$REQUEST_PLATFORMS" "$REQUEST_NAMES"
}

# log_in writes Docker's configuration, which sampan reads, for the target alone.
log_in() {
	local auth
	export DOCKER_CONFIG=$work/docker
	mkdir "$DOCKER_CONFIG"
	if [[ -n ${COPY_USERNAME:-} ]]; then
		auth=$(printf '%s:%s' "$COPY_USERNAME" "${COPY_PASSWORD:-}" | base64 -w 0)
		printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$(registry_of "$COPY_TARGET")" "$auth" >"$DOCKER_CONFIG/config.json"
	fi
	unset COPY_PASSWORD
}

# run_copy writes the commands to $work/commands and what went wrong to $work/log. The log of
# the run shows the latter; nothing there is a command to the runner.
run_copy() {
	local resume status=0
	resume=$(random)
	echo "::stop-commands::$resume"
	LC_ALL=$language "$SAMPAN" copy --keep-going "${naming[@]}" "${platforms[@]}" -- "${images[@]}" "$COPY_TARGET" \
		2>&1 >"$work/commands" | tee "$work/log" || status=$?
	echo
	echo "::$resume::"
	return $status
}

# fenced prints a block of Markdown with the standard input in it, which cannot end the
# block: it has no backticks, no control characters and none that turn the direction of
# writing or are not seen, at most 60 lines of 800 bytes.
fenced() {
	printf '```%s\n' "$1"
	head -n 60 | cut -b 1-800 | { iconv -c -f UTF-8 -t UTF-8 || true; } |
		tr -d '\000-\010\013-\037\177' | tr '`' "'" |
		sed -E 's/\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xf3\xa0[\x80-\xbf][\x80-\xbf]//g'
	printf '```\n'
}

# answer STATUS
answer() {
	if [[ -s $work/commands ]]; then
		text "Copied. To pull, and to give the images their own names:" "已复制。拉取镜像并恢复原名的命令："
		printf '\n\n'
		fenced sh <"$work/commands"
	fi
	if (($1 != 0)); then
		printf '\n'
		text "Not everything was copied. Edit the request, or close it, and open it again to go on:" "未能全部复制。修改请求，关闭后重新打开即可继续："
		printf '\n\n'
		# Before the errors there is progress. A comment has room for 65536 characters, of which
		# the commands for $max_images images take 24000.
		sed -n '/^sampan: /,$p' "$work/log" | head -c 12000 | fenced text
	fi
}

main() {
	local status=0
	: "${SAMPAN:?names the program}" "${REQUEST_BODY:=}" "${REQUEST_IMAGES:=}" "${REQUEST_PLATFORMS:=}" "${REQUEST_NAMES:=}"
	check_settings
	read_request
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	log_in
	run_copy || status=$?
	publish "$(answer "$status")"
	return $status
}

main
