// Package forward passes what clients ask from the node they are connected to on
// to the master, over a connection between nodes: commands and transactions as
// units, and what a read of the own state needs to be linearizable. It does not
// know who the master is, and neither Raft nor clients.
//
// A unit carries its database and, for a transaction, the versions of its watched
// keys. What has been checked at the entry node is checked again where it is
// carried out. Replies travel in a form that holds for both protocol versions.
//
// Each request has one of three endings. Replied: here is the reply. Refused: it
// was not executed and never will be, so that it may be sent again, to this or
// another node. In doubt: it was sent and there is no telling. Whatever was handed
// to the connection and not answered is in doubt.
package forward
