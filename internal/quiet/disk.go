package quiet

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotBegun says that an operation could not be begun, or not all of it without waiting. The caller does
// it by plain system calls, from the beginning.
var ErrNotBegun = errors.New("asynchronous I/O not begun")

// Disk writes and syncs files by the kernel's asynchronous I/O (io_submit(2)): a call returns when its operation
// has ended, but no thread waits for that. The operations of one Disk go one after the other.
// It is safe for concurrent use.
type Disk struct {
	mu    sync.Mutex
	queue uintptr  // of the kernel, an aio_context_t; 0 after Close
	ended *os.File // an eventfd: the operation under way has ended
	fd    uint32   // of ended; asked for it, ended would begin to block
	wait  *Socket  // reads ended

	// The kernel reads and writes these while an operation is under way.
	op    operation
	first *operation // the list of one that is submitted
	event completion
	data  []byte // what is written
	lost  error  // the end of an operation was not heard: nothing is begun any more
}

// operation is the kernel's struct iocb.
type operation struct {
	_        uint64
	_        uint32
	flags    uint32 // RWF_…
	code     uint16
	_        int16
	fd       uint32
	buf      uint64
	length   uint64
	offset   int64
	_        uint64
	tells    uint32 // whether the end is told by an eventfd
	resultFD uint32 // that
}

// completion is the kernel's struct io_event.
type completion struct {
	_, _   uint64
	result int64 // or an error number below 0
	_      int64
}

// Codes and flags of operations.
const (
	opWrite     = 1 // IOCB_CMD_PWRITE
	opDataSync  = 3 // IOCB_CMD_FDSYNC
	tellEventFD = 1 // IOCB_FLAG_RESFD
)

// NewDisk returns a Disk. The error says that the kernel or a limit (fs.aio-max-nr)
// does not allow it.
func NewDisk() (*Disk, error) {
	d := &Disk{}
	d.first = &d.op
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&d.queue)), 0); errno != 0 { //nolint:gosec // the kernel writes one word
		return nil, os.NewSyscallError("io_setup", errno)
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), d.destroy())
	}
	d.fd, d.ended = uint32(fd), os.NewFile(uintptr(fd), "eventfd")
	d.wait, err = NewSocket(d.ended)
	if err = errors.Join(err, d.ended.SetReadDeadline(time.Time{})); err != nil { // the poller has not taken it
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close waits for the operation under way and frees what the Disk holds. Later ones are not begun.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue == 0 {
		return os.ErrClosed
	}
	return errors.Join(d.destroy(), d.ended.Close())
}

func (d *Disk) destroy() error {
	_, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, d.queue, 0, 0)
	d.queue = 0
	if errno != 0 {
		return os.NewSyscallError("io_destroy", errno)
	}
	return nil
}

// Write writes p at an offset of a file that was opened with O_DIRECT, with the alignment that
// demands, and returns how much was written. p must not be changed meanwhile. The error is
// ErrNotBegun where the kernel would have to wait before it can begin.
func (d *Disk) Write(fd uintptr, p []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := d.carryOut(p, operation{
		code: opWrite, fd: uint32(fd), flags: unix.RWF_NOWAIT,
		buf: uint64(uintptr(unsafe.Pointer(&p[0]))), length: uint64(len(p)), offset: at, //nolint:gosec // the kernel reads len(p) bytes there
	})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EOPNOTSUPP) { // RWF_NOWAIT
		err = ErrNotBegun
	}
	return n, err
}

// Sync returns when what was written to the file is durable, as fdatasync(2) does.
func (d *Disk) Sync(fd uintptr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.carryOut(nil, operation{code: opDataSync, fd: uint32(fd)})
	return err
}

// carryOut submits an operation on data and returns its result. The error is that of the operation,
// or ErrNotBegun.
func (d *Disk) carryOut(data []byte, op operation) (int, error) {
	if d.lost != nil {
		return 0, d.lost
	}
	if d.queue == 0 {
		return 0, ErrNotBegun
	}
	op.tells, op.resultFD = tellEventFD, d.fd
	d.op, d.data = op, data                                                                                                      // so that they stay where they are
	if n, _, errno := unix.RawSyscall(unix.SYS_IO_SUBMIT, d.queue, 1, uintptr(unsafe.Pointer(&d.first))); errno != 0 || n != 1 { //nolint:gosec // a list of one
		return 0, ErrNotBegun
	}
	if d.lost = d.hear(); d.lost != nil {
		return 0, d.lost
	}
	d.data = nil
	if d.event.result < 0 {
		return 0, syscall.Errno(-d.event.result)
	}
	return int(d.event.result), nil
}

// hear waits for the end of the operation under way.
func (d *Disk) hear() error {
	var count [8]byte
	if _, err := d.wait.Read(count[:]); err != nil {
		return fmt.Errorf("the end of an operation was not heard: %w", err)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_IO_GETEVENTS, d.queue, 1, 1, uintptr(unsafe.Pointer(&d.event)), 0, 0) //nolint:gosec // room for one
	if errno != 0 || n != 1 {
		return fmt.Errorf("the end of an operation was not heard: %d events: %w", n, errno)
	}
	return nil
}
