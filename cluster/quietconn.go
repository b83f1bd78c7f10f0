package cluster

import (
	"net"

	"github.com/holdfast/holdfast/internal/quiet"
)

// quietConn is a connection between nodes that is read and written by system calls which
// the Go scheduler does not hear of. It is safe for concurrent use: pings and the answers
// to probes are written by different goroutines.
type quietConn struct {
	net.Conn
	socket *quiet.Socket
}

// Read reads what has arrived, and waits for that.
func (c *quietConn) Read(b []byte) (int, error) { return c.socket.Read(b) }

// Write writes all of b.
func (c *quietConn) Write(b []byte) (int, error) { return c.socket.Write(b) }
