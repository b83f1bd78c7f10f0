// Command holdfast is one node of a cluster that stores sessions: it serves
// Redis's protocol on the data port and Sentinel's on the other. The program is
// the process around package node: arguments, logger, signals and exit code.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdfast/holdfast/node"
)

// version is set by the linker; see the Makefile.
var version = "dev"

func main() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE) // as Redis does: a terminal or a reader of the log goes, the node stays
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := program{
		args:    os.Args[1:],
		environ: os.Environ(),
		version: version,
		stdout:  os.Stdout,
		stderr:  os.Stderr,
		serve:   serving{os.Environ()}.run,
		again:   node.Recover,
	}
	os.Exit(p.run(ctx))
}
