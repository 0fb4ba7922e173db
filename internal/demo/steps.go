package demo

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A result is what one step came to.
type result struct {
	name     string
	clients  int
	received int64 // bytes that the clients got
	upstream tally
	took     time.Duration
	proof    string   // what the step has shown, unless broken
	broken   []string // what was not as claimed
}

// expect notes what is wrong unless holds.
func (r *result) expect(holds bool, format string, args ...any) {
	if !holds {
		r.broken = append(r.broken, r.name+": "+fmt.Sprintf(format, args...))
	}
}

// steps runs one after the other. A step that could not be run ends them; one
// that did not prove its claim does not.
func (d *demo) steps(ctx context.Context) ([]result, error) {
	var results []result
	for _, step := range []func(context.Context) (result, error){d.cold, d.warm, d.stampede} {
		r, err := step(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			d.printf("✗ %s: %v\n", r.name, err)
			return nil, errors.New(d.Text("the demonstration ended early", "演示提前结束"))
		}
		results = append(results, r)
	}
	return results, nil
}

// cold pulls an image that the mirror has never seen.
func (d *demo) cold(ctx context.Context) (result, error) {
	r, err := d.pull(ctx, d.Text("cold pull", "冷拉取"), d.Text("the mirror has nothing", "镜像站缓存为空"))
	if err != nil {
		return r, err
	}
	up, whole, layers := r.upstream, d.origin.imageSize(), len(d.Layers)
	asked := up.requests - up.cdn
	r.expect(up.content == whole, d.Text("%s of %s crossed the link", "实际经过链路 %s，镜像大小 %s"), size(up.content), size(whole))
	r.expect(asked <= layers+4, d.Text("%d requests to the registry for %d layers, %d would do", "共 %d 次仓库请求（%d 层），应不超过 %d 次"), asked, layers, layers+4)
	r.expect(up.tokens == 1, d.Text("%d tokens, one would do", "共 %d 个 token，只应有 1 个"), up.tokens)
	r.proof = fmt.Sprintf(d.Text(
		"Cold: %.2f × the image crossed the link, with %d requests, %d of them redirects, and one token.",
		"冷拉取：经过链路的数据是镜像的 %.2f 倍，共 %d 次请求（其中 %d 次是重定向），只用 1 个 token。"),
		float64(up.content)/float64(whole), up.requests, up.cdn)
	return r, nil
}

// warm pulls the same image again.
func (d *demo) warm(ctx context.Context) (result, error) {
	r, err := d.pull(ctx, d.Text("warm pull", "热拉取"), d.Text("the same image again", "再次拉取同一镜像"))
	if err != nil {
		return r, err
	}
	up := r.upstream
	r.expect(up.content == 0, d.Text("%s crossed the link, nothing should", "实际经过链路 %s，应为 0"), size(up.content))
	r.expect(up.requests == 0, d.Text("%d requests to the registry, none should be needed", "共 %d 次仓库请求，应为 0 次"), up.requests)
	r.expect(up.tokens == 0, d.Text("%d tokens, none should be needed", "共 %d 个 token，应为 0 个"), up.tokens)
	r.proof = d.Text("Warm: the same image again, and the registry was not asked for anything.", "热拉取：再次拉取同一镜像，没有向上游发出任何请求。")
	return r, nil
}

// pull is one client that pulls the image.
func (d *demo) pull(ctx context.Context, name, about string) (r result, err error) {
	r = result{name: name, clients: 1}
	d.origin.begin()
	d.printf("\n%s\n", fmt.Sprintf(d.Text("%s: %s, %s", "%s：%s，%s"), name, imageRepo+":"+imageTag, about))
	var received atomic.Int64
	c := newClient(d.mirror.url(), &received)
	defer c.close()
	start := time.Now()
	p, err := c.resolve(ctx, imageRepo, imageTag)
	if err != nil {
		return r, err
	}
	shown := newDisplay(d.Out)
	bars := make([]bar, len(p.layers))
	for i, layer := range p.layers {
		bars[i] = shown.bar(fmt.Sprintf(d.Text("layer %d", "第 %d 层"), i+1), layer.Size)
	}
	err = c.image(ctx, imageRepo, p, bars)
	r.took = time.Since(start)
	shown.end()
	if err != nil {
		return r, err
	}
	r.received, r.upstream = received.Load(), d.origin.tally()
	r.expect(p.digest == d.origin.image.Manifest.Descriptor.Digest, d.Text("the tag led to %s", "标签指向了 %s"), p.digest)
	r.expect(r.received == d.origin.imageSize(), d.Text("the client got %s of %s", "客户端收到 %s，应为 %s"), size(r.received), size(d.origin.imageSize()))
	return r, nil
}

// stampede is many clients that want one blob at once, which the mirror has
// never seen.
func (d *demo) stampede(ctx context.Context) (r result, err error) {
	r = result{name: d.Text("stampede", "并发拉取"), clients: d.Clients}
	d.origin.begin()
	cargo := d.origin.cargo
	want := cargo.Size * int64(d.Clients)
	d.printf("\n%s\n", fmt.Sprintf(d.Text("%s: %d clients at once, one cold blob of %s", "%s：%d 个客户端同时拉取一个未缓存的 blob（%s）"), r.name, d.Clients, size(cargo.Size)))
	shown := newDisplay(d.Out)
	crossed := shown.bar(d.Text("from upstream", "来自上游"), cargo.Size)
	arrived := shown.bar(d.Text("to the clients", "送达客户端"), want)
	var received atomic.Int64
	start := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	gate := make(chan struct{})
	for range d.Clients {
		group.Go(func() error {
			c := newClient(d.mirror.url(), &received)
			defer c.close()
			<-gate
			return c.blob(groupCtx, cargoRepo, cargo, func(n int) {
				crossed.set(d.origin.registry.BytesSentOf(cargo.Digest))
				arrived.add(n)
			})
		})
	}
	close(gate)
	err = group.Wait()
	r.took = time.Since(start)
	shown.end()
	if err != nil {
		return r, err
	}
	r.received, r.upstream = received.Load(), d.origin.tally()
	up := r.upstream
	r.expect(r.received == want, d.Text("the clients got %s of %s", "客户端共收到 %s，应为 %s"), size(r.received), size(want))
	r.expect(up.content == cargo.Size, d.Text("%s crossed the link for a blob of %s", "实际经过链路 %s，blob 大小 %s"), size(up.content), size(cargo.Size))
	r.expect(up.tokens == 1, d.Text("%d tokens, one would do", "共 %d 个 token，只应有 1 个"), up.tokens)
	r.proof = fmt.Sprintf(d.Text(
		"Stampede: %d clients received %s, and %s crossed the link: %.2f × the blob.",
		"并发拉取：%d 个客户端共收到 %s，经过链路的只有 %s，即 blob 的 %.2f 倍。"),
		d.Clients, size(r.received), size(up.content), float64(up.content)/float64(cargo.Size))
	return r, nil
}
