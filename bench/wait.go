package main

import (
	"fmt"
	"os"
	"time"
)

// waitFor returns when a file is there: what a client got complete is committed
// a moment later.
func waitFor(file string) error {
	for range 500 {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s has not appeared", file)
}
