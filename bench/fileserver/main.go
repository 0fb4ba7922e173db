// Command fileserver is what sampan is measured against: net/http's own file
// server over a directory, with nothing around it.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fileserver ADDR DIR")
		os.Exit(2)
	}
	srv := &http.Server{
		Addr:              os.Args[1],
		Handler:           http.FileServer(http.Dir(os.Args[2])),
		ReadHeaderTimeout: 15 * time.Second,
	}
	fmt.Fprintln(os.Stderr, srv.ListenAndServe())
	os.Exit(1)
}
