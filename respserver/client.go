package respserver

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/tracking"
)

const defaultUser = "default"

// client is one connection. Unless a field says otherwise it belongs to the
// connection's goroutine.
type client struct {
	srv  *Server
	conn net.Conn
	id   int64
	born int64 // tick of the accept

	life  life
	out   output
	rd    *resp.Reader
	ahead ahead
	turn  sync.Mutex // held while a pipeline is carried out, and while a message is pushed

	sess session
	seg  segment
	now  current
	tx   *transaction       // since MULTI, nil before
	seen []watched          // the keys of WATCH
	sub  *pubsub.Subscriber // nil before the first SUBSCRIBE
	card card

	inbox atomic.Pointer[tracking.Inbox] // nil as long as it is told of no changes
	heard []tracking.Message             // taken from it; whoever holds the turn reuses it
}

var _ command.Conn = (*client)(nil)

// session is what a client has chosen for its connection.
type session struct {
	db, proto  int
	user       string
	authorized bool
	muted      muteMode
	ending     bool         // no further command is carried out; the connection closes after the flush
	lost       bool         // a command ended INDOUBT: nothing later is submitted
	track      tracks       // what CLIENT TRACKING asked for
	wrote      bool         // it has written something, for WAIT
	role       Role         // as of the beginning of the pipeline
	ran        int64        // commands carried out in this pipeline
	failed     error        // of the connection: nothing is written any more
	watching   int          // memory of the watched keys, in bytes
	late       []resp.Value // what follows the reply of the EXEC that runs now
	tuned      *Tuning      // what the reader's limits come from
}

// muteMode is what CLIENT REPLY asked for.
type muteMode uint8

const (
	muteOff  muteMode = iota
	muteOn            // no replies
	muteSkip          // the next command is not answered
)

// card is what other connections may see of a client, in CLIENT LIST.
type card struct {
	db, multi atomic.Int32
	proto     atomic.Int32
	last      atomic.Pointer[entry] // the last command
	subs      [2]atomic.Int32       // channels, patterns
	queued    atomic.Int64          // bytes of the transaction
	watching  atomic.Bool           // it watches keys
	stays     atomic.Bool           // it waits for more than the handover it has asked for
	tracks    atomic.Bool           // keys

	mu struct {
		sync.Mutex
		name, libName, libVer, user string
		noEvict, noTouch            bool
	}
}

// ID is unique within the server's life.
func (c *client) ID() int64 { return c.id }

// Proto is the protocol version, 2 or 3.
func (c *client) Proto() int { return c.sess.proto }

// DB is the selected database.
func (c *client) DB() int { return c.sess.db }

// User is the authenticated user.
func (c *client) User() string { return c.sess.user }

// CloseUnanswered ends the connection: what was answered before is sent, nothing
// after.
func (c *client) CloseUnanswered() { c.sess.ending = true }

func (c *client) selectDB(db int) {
	c.sess.db = db
	c.card.db.Store(int32(db))
}

func (c *client) setProto(proto int) {
	c.sess.proto = proto
	c.card.proto.Store(int32(proto))
}

func (c *client) setUser(user string) {
	c.sess.user, c.sess.authorized = user, true
	c.card.mu.Lock()
	c.card.mu.user = user
	c.card.mu.Unlock()
	c.limit()
}

// setName gives the connection a name, which must be printable.
func (c *client) setName(name []byte) {
	c.card.mu.Lock()
	c.card.mu.name = string(name)
	c.card.mu.Unlock()
}

// printable tells whether b can stand in a line of CLIENT LIST: no spaces, no
// control characters.
func printable(b []byte) bool {
	for _, ch := range b {
		if ch < '!' || ch > '~' {
			return false
		}
	}
	return true
}

// limit bounds what this client may send from now on, by the present parameters;
// without a password everybody is let in.
func (c *client) limit() {
	c.sess.tuned = c.srv.tuning()
	c.sess.authorized = c.sess.authorized || c.sess.tuned.Password == ""
	l := c.sess.tuned.Requests
	l.Unauthenticated = !c.sess.authorized
	c.rd.SetLimits(l)
}

// subscribed tells whether the connection has subscriptions.
func (c *client) subscribed() bool { return c.sub != nil && c.isPubSub() }

// outputLimit is the limit of this client's class.
func (c *client) outputLimit() OutputLimit {
	t := c.srv.tuning()
	if c.isPubSub() {
		return t.PubSubOutput
	}
	return t.NormalOutput
}

// pendingMax is how many bytes may wait for this client before its commands do.
func (c *client) pendingMax() int64 {
	if !c.sess.authorized {
		return pendingAlways
	}
	return pendingMax
}

// isPubSub tells whether the client counts as one of class pubsub. It is safe
// for concurrent use.
func (c *client) isPubSub() bool { return c.card.subs[0].Load()+c.card.subs[1].Load() > 0 }
