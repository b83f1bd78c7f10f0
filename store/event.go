package store

// Class is the class of a keyspace event, as notify-keyspace-events names them.
type Class uint16

// Event is one keyspace event.
type Event struct {
	Class Class
	Name  string
	DB    int
	Key   string
}

// The classes of this release.
const (
	ClassGeneric Class = 1 << iota // g
	ClassString                    // $
	ClassExpired                   // x
	// ClassFlushed says that any key of the database may be another than before. It is
	// about no key, and clients know no such class.
	ClassFlushed
)

// Victim is a key whose deadline a reader or the wheel found due.
type Victim struct {
	DB       int
	Key      string
	Deadline int64 // the deadline that was due, ms of cluster time
}
