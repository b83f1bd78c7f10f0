//go:build race

package quiet

import (
	"errors"
	"syscall"
)

// Package syscall tells the race detector that what was done before a write is
// known after the read of it, also where both ends are in one process.

func read(fd uintptr, b []byte) (int, syscall.Errno) { return told(syscall.Read(int(fd), b)) }

func write(fd uintptr, b []byte) (int, syscall.Errno) { return told(syscall.Write(int(fd), b)) }

func told(n int, err error) (int, syscall.Errno) {
	errno, _ := errors.AsType[syscall.Errno](err)
	return n, errno
}
