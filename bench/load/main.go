// Command load is the client of all measurements: it asks one HTTP/1.1 server
// as cheaply as it can and the same way for every server,
// and prints one line of JSON about what came.
//
// A body is thrown away, compared with a file byte by byte, or hashed. It knows
// no chunked bodies and no redirects, and with -tls it trusts whoever answers.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// options are the flags.
type options struct {
	addr     string
	paths    []string // asked for in turn
	conns    int
	requests int64
	rate     int64  // bytes per second and connection; 0 is as fast as they come
	expect   []byte // what every body must be; nil is anything
	digest   string // what every body must hash to; "" is anything
	hashed   bool   // the path ends with the digest of the body
	idle     int
	hold     bool
	accept   string
	tls      bool
}

// result is what is printed.
type result struct {
	Requests int64   `json:"requests"` // complete, with status 200
	Bytes    int64   `json:"bytes"`    // of bodies
	Short    int64   `json:"short"`    // ended before their length
	Wrong    int64   `json:"wrong"`    // complete and not the right bytes
	Refused  int64   `json:"refused"`  // another status
	Failed   int64   `json:"failed"`   // no answer
	Seconds  float64 `json:"seconds"`
	First    float64 `json:"first"` // seconds until the first body byte of the first request
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	var expect string
	flag.StringVar(&o.addr, "addr", "", "host:port")
	flag.IntVar(&o.conns, "conns", 1, "connections")
	flag.Int64Var(&o.requests, "requests", 1, "requests of all connections together")
	flag.Int64Var(&o.rate, "rate", 0, "bytes per second that each connection reads, 0 for all")
	flag.StringVar(&expect, "expect", "", "file that every body must equal")
	flag.StringVar(&o.digest, "digest", "", "sha256, in hexadecimal, that every body must have")
	flag.BoolVar(&o.hashed, "hashed", false, "every body must hash to the end of its path")
	flag.IntVar(&o.idle, "idle", 0, "connections that ask for the first path once and then stay")
	flag.BoolVar(&o.hold, "hold", false, "stay until standard input ends; print nothing")
	flag.StringVar(&o.accept, "accept", "", "Accept header")
	flag.BoolVar(&o.tls, "tls", false, "speak TLS and verify nothing")
	flag.Parse()
	o.paths = flag.Args()
	if o.addr == "" || len(o.paths) == 0 {
		return o, fmt.Errorf("-addr and at least one path are needed")
	}
	var err error
	if expect != "" {
		o.expect, err = os.ReadFile(expect)
	}
	return o, err
}

func run() error {
	o, err := parse()
	if err != nil {
		return err
	}
	if o.hold {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // its end is the sign
			os.Exit(0)
		}()
	}
	if o.idle > 0 {
		kept, err := openIdle(o)
		if err != nil {
			return err
		}
		defer kept()
		o.paths = o.paths[1:]
	}
	var res result
	var next atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for range o.conns {
		all.Go(func() {
			w := worker{o: o, began: began}
			for {
				n := next.Add(1) - 1
				if n >= o.requests {
					break
				}
				w.do(o.paths[n%int64(len(o.paths))])
			}
			w.close()
			mu.Lock()
			defer mu.Unlock()
			res.add(w.res)
		})
	}
	all.Wait()
	res.Seconds = time.Since(began).Seconds()
	if o.hold {
		select {}
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

// openIdle opens connections that have been of use once and are kept until the
// function that it returns is called.
func openIdle(o options) (kept func(), err error) {
	workers := make([]worker, o.idle)
	o.rate = 0
	for i := range workers {
		workers[i] = worker{o: o, began: time.Now()}
		workers[i].do(o.paths[0])
		if workers[i].conn == nil {
			return nil, fmt.Errorf("an idle connection was not kept: %+v", workers[i].res)
		}
	}
	return func() {
		for i := range workers {
			workers[i].close()
		}
	}, nil
}

func (r *result) add(o result) {
	r.Requests += o.Requests
	r.Bytes += o.Bytes
	r.Short += o.Short
	r.Wrong += o.Wrong
	r.Refused += o.Refused
	r.Failed += o.Failed
	if r.First == 0 || o.First > 0 && o.First < r.First {
		r.First = o.First
	}
}
