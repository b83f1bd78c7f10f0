// Package script reads and plays command scripts: commands with the replies
// they must get, in a notation that is the same for every server. One script
// runs against the store in the test's own process, against a server over a
// socket in RESP2 and RESP3, and against the real redis-server, whose replies
// it can take over (Update). It is for tests only and knows no command.
//
// A script is a text file of these lines:
//
//	# a comment                  blank lines are comments too
//	> SET k "a b"                a command on the connection c1; words in double quotes
//	+OK                          take the escapes of Go, and "x"*500 is 500 times x
//	b> GET k                     a command on another connection, made at its first use
//	"a b"                        the reply it must get
//	> CLIENT KILL ID "<id b>"    an argument that is the id of connection b
//	! set(k) expire(k)           the keyspace events it must cause; a bare ! for none
//	b<                           the next message the server sends to b by itself
//	push["message" "ch" "hi"]
//	b close                      the client closes
//	b closed                     the server has closed, or does so now
//	@pass 60ms                   time passes
//
// Replies are one line each: +simple, -ERROR text, :1, "bulk", null for $-1 and
// _, nullarray for *-1, [a b] an array, map{k: v, k: v}, set[a b], push[a b],
// ,1.5 a double, #t, txt"verbatim". Where the protocols differ there are two
// lines, the first after "2 ", the second after "3 ". A reply may hold masks:
// <any>, <int>, <int 90..100> and <float>.
//
// Lines that begin with @ in front of a command are about that command only:
//
//	@sorted                      bulk strings of an array are compared sorted
//	@silent                      nothing is read: it must get no reply (implied
//	                             for CLIENT REPLY OFF and SKIP themselves)
//	@since 7.2                   newer than the oracle: the reply is documented, not compared
//	@differs why                 the server under test answers otherwise on purpose
//
// and before the first command about the whole script:
//
//	@socket                      it needs real connections
//	@proto 3                     it makes sense in this version of the protocol only
package script
