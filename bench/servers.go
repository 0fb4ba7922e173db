package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// registryName is the upstream's name at the mirror.
const registryName = "bench.test"

// directory makes an empty directory in the scratch directory.
func (b *bench) directory(name string) (string, error) {
	dir := filepath.Join(b.work, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// sampan starts a mirror of one upstream with an empty cache, with the defaults
// but for what env says.
func (b *bench) sampan(name, upstream string, env ...string) (*process, error) {
	data, err := b.directory(name + "-data")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p, err := b.start(name, addr, env, filepath.Join(b.bin, "sampan"), "serve",
		"--listen", addr, "--admin-listen", admin, "--data", data, "--upstream", registryName+"="+upstream)
	if err == nil {
		p.admin = admin
	}
	return p, err
}

// fileserver starts net/http's file server over dir.
func (b *bench) fileserver(name, dir string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return b.start(name, addr, nil, filepath.Join(b.bin, "fileserver"), addr, dir)
}

// nginx starts nginx as Debian configures it (sendfile, an access log) with the
// given http block.
func (b *bench) nginx(name, addr, block string) (*process, error) {
	dir, err := b.directory(name)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`daemon off;
user root;
worker_processes auto;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
	sendfile on;
	tcp_nopush on;
	access_log %[1]s/access.log;
	keepalive_requests 1000000;
	default_type application/octet-stream;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
%[2]s
}
`, dir, block)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return b.start(name, addr, nil, "nginx", "-c", file, "-p", dir, "-e", filepath.Join(dir, "error.log"))
}

// nginxStatic serves a directory.
func (b *bench) nginxStatic(dir string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return b.nginx("nginx-static", addr, fmt.Sprintf("server { listen %s; root %s; }", addr, dir))
}

// nginxCache is a caching proxy in front of the upstream.
func (b *bench) nginxCache(upstream string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	store, err := b.directory("nginx-cache-store")
	if err != nil {
		return nil, err
	}
	return b.nginx("nginx-cache", addr, fmt.Sprintf(`proxy_cache_path %s keys_zone=all:10m max_size=20g use_temp_path=off;
server {
	listen %s;
	location / {
		proxy_pass %s;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		proxy_cache all;
		proxy_cache_lock on;
		proxy_cache_lock_age 10m;
		proxy_cache_lock_timeout 10m;
		proxy_cache_valid 200 1h;
	}
}`, store, addr, upstream))
}

// dockerRegistry starts Debian's docker-registry, distribution 2.8, as a
// pull-through cache.
func (b *bench) dockerRegistry(upstream string) (*process, error) {
	return b.distribution("docker-registry", "docker-registry", upstream)
}

// distribution3 starts distribution 3, which run.sh has built, in the same way.
func (b *bench) distribution3(upstream string) (*process, error) {
	return b.distribution("distribution-3", filepath.Join(b.bin, "distribution3"), upstream)
}

func (b *bench) distribution(name, program, upstream string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	store, err := b.directory(name + "-data")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s}, cache: {blobdescriptor: inmemory}}\nhttp: {addr: %q, secret: bench}\nproxy: {remoteurl: %s}\n",
		store, addr, upstream)
	file := filepath.Join(b.work, name+".yml")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	// distribution 3 would tell its traces to a collector that is not there.
	return b.start(name, addr, []string{"OTEL_TRACES_EXPORTER=none"}, program, "serve", file)
}
