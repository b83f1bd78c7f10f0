// Package quiet makes system calls that Go's scheduler does not hear of: on sockets that
// do not block, and on files by Linux's asynchronous I/O.
//
// A call by package syscall may block for all the scheduler knows. The first one after all
// processors were idle wakes the scheduler's monitor thread, which then looks every 20 µs, until
// they are idle again, whether it has to give the caller's processor to somebody else. On a machine whose
// wake-ups are dear, and with silences of a millisecond between calls, that cost a
// node a sixth of its processor time (docs/adr/0025-quiet-calls.md). The calls made here return at
// once, so that there is nothing to hear; what has to be waited for is waited for in the runtime's poller. (A write to a
// file system that is frozen does wait, and the whole process may with it.)
package quiet
