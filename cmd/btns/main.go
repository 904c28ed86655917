// Btns is the program: the daemon that protects traffic between hosts, and the commands that ask and steer it.
//
// It is a face without rules of its own: commands talk to the daemon through package control, and `btns up` hands
// values to package engine. One file per command. Text on the standard output is plain ASCII in columns that survive awk;
// with --json it is one object per line. Errors go to the standard error output as "btns: what failed: why", and then what
// to do. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

func run() int {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does; else the terminal has gone, and that is an end in good order too
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	return execute(ctx, newRoot(), os.Stderr)
}
