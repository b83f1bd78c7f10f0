// Package respserver turns sockets into clients, bytes into commands and
// results into replies. It holds the commands that concern a connection or the
// server; all others it is handed as a list of command.Spec. What lies beneath
// (the log, the state, the cluster) it knows only through the small interfaces
// it declares: it knows neither Raft nor Sentinel.
//
// # One connection
//
// Each connection has one goroutine, which reads whatever the client has
// pipelined, plans the commands in order, and flushes once. Consecutive commands
// that can be carried out together form a segment:
//
//   - reads only: one confirmation for all of them, then they run under one view
//     of the store, in bounded chunks;
//   - writes, with O(1) reads between them: one command.Batch, submitted before
//     anything of it is awaited. The reads ride beside the entry.
//
// A segment is settled (carried out, its replies encoded) when the pipeline ends
// or when a command comes that has to wait its turn: a long read after a write,
// a write after a long read, or a Local command that is neither fast nor about a
// transaction. Replies are always encoded in the order of the commands.
//
// # Tracking
//
// Keys that a client tracks are noted in a tracking.Table before they are read, when
// the command is planned. The state machine tells the table of what each unit has
// changed before the unit is answered. What a client is to be told waits in its inbox
// and is sent before the first reply of a pipeline or behind the last one, never
// between: then a change that a reply does not show is always told behind that reply.
//
// # Goroutines and locks
//
// Besides the goroutine of each connection there is one that writes for it while
// the client reads more slowly than it is answered, one that carries published
// messages to it while it is subscribed, one that tells it of changed keys once it
// tracks or hears for another, one that reads ahead while a command of
// it is blocked, and one per server that does the housekeeping. A connection's
// turn lock is held while a pipeline is carried out, so that messages come
// between the replies of two pipelines and never inside one. No lock but that is
// held while calling out of the package.
//
// # Time
//
// All time limits of connections are counted in ticks of the housekeeping, so
// that the way of a command sets no timers and no deadlines.
package respserver
