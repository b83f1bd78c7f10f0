package resp

import (
	"bytes"
	"strings"
)

// Error is an error a client sees: its first word is the code that client
// libraries match on. Every text lives in this file, so that one place decides
// what clients can be told.
type Error string

// Error is the text without the leading dash.
func (e Error) Error() string { return string(e) }

// Err is err as a reply. An error that is not of type Error is given the code
// ERR. Line breaks become spaces.
func Err(err error) Value {
	text := err.Error()
	if _, ok := err.(Error); !ok { //nolint:errorlint // only an Error itself carries its own code
		text = "ERR " + text
	}
	if strings.ContainsAny(text, "\r\n") {
		text = strings.NewReplacer("\r", " ", "\n", " ").Replace(text)
	}
	return Value{kind: KindError, str: []byte(text)}
}

// Errors of Redis, word for word.
const (
	ErrSyntax       = Error("ERR syntax error")
	ErrNotInteger   = Error("ERR value is not an integer or out of range")
	ErrNotFloat     = Error("ERR value is not a valid float")
	ErrOverflow     = Error("ERR increment or decrement would overflow")
	ErrNaN          = Error("ERR increment would produce NaN or Infinity")
	ErrWrongType    = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
	ErrNoSuchKey    = Error("ERR no such key")
	ErrOutOfRange   = Error("ERR index out of range")
	ErrOffset       = Error("ERR offset is out of range")
	ErrTooBig       = Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
	ErrDBIndex      = Error("ERR DB index is out of range")
	ErrInvalidDB    = Error("ERR invalid DB index")
	ErrSameObject   = Error("ERR source and destination objects are the same")
	ErrCursor       = Error("ERR invalid cursor")
	ErrReadOnly     = Error("READONLY You can't write against a read only replica.")
	ErrLoading      = Error("LOADING Redis is loading the dataset in memory")
	ErrNoAuth       = Error("NOAUTH Authentication required.")
	ErrExecAbort    = Error("EXECABORT Transaction discarded because of previous errors.")
	ErrNestedMulti  = Error("ERR MULTI calls can not be nested")
	ErrExecNoMulti  = Error("ERR EXEC without MULTI")
	ErrDiscardNoTx  = Error("ERR DISCARD without MULTI")
	ErrWatchInMulti = Error("ERR WATCH inside MULTI is not allowed")
	ErrNoProto      = Error("NOPROTO unsupported protocol version")
	ErrDecrOverflow = Error("ERR decrement would overflow")
	ErrFirstDB      = Error("ERR invalid first DB index")
	ErrSecondDB     = Error("ERR invalid second DB index")
	ErrIntRange     = Error("ERR value is out of range, value must between -2147483648 and 2147483647")
	ErrNXConflict   = Error("ERR NX and XX, GT or LT options at the same time are not compatible")
	ErrGTConflict   = Error("ERR GT and LT options at the same time are not compatible")
	ErrNoLFU        = Error("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
	ErrNoKeys       = Error("ERR The command has no key arguments")
	ErrGetKeysName  = Error("ERR Invalid command specified")
	ErrGetKeysArity = Error("ERR Invalid number of arguments specified for command")
)

// shownLen is how many bytes of names and arguments an error repeats to the
// client that sent them.
const shownLen = 128

// Arity refuses a number of arguments; name is the canonical one ("client|list").
func Arity(name string) Error {
	return Error("ERR wrong number of arguments for '" + name + "' command")
}

// UnknownCommand refuses a command line whose name is in no table. args begin
// with the name.
func UnknownCommand(args [][]byte) Error {
	var b strings.Builder
	for _, arg := range args[1:] {
		if b.Len() >= shownLen {
			break
		}
		b.WriteString("'" + shown(arg, shownLen-b.Len()) + "' ")
	}
	return Error("ERR unknown command '" + shown(args[0], shownLen) + "', with args beginning with: " + b.String())
}

// UnknownSubcommand refuses a subcommand that the container, given by its name
// in lower case, does not have.
func UnknownSubcommand(container string, sub []byte) Error {
	return Error("ERR unknown subcommand '" + shown(sub, shownLen) + "'. Try " + strings.ToUpper(container) + " HELP.")
}

// ExpireTime refuses a life or an instant that the named command cannot use.
func ExpireTime(name string) Error {
	return Error("ERR invalid expire time in '" + name + "' command")
}

// UnsupportedOption refuses an option of the EXPIRE family.
func UnsupportedOption(option []byte) Error {
	return Error("ERR Unsupported option " + shown(option, shownLen))
}

// shown is the beginning of b, at most limit bytes, up to the first zero byte.
func shown(b []byte, limit int) string {
	b = b[:min(len(b), limit)]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// Errors of our own.
const (
	// ErrInDoubt says that leadership was lost while the command was on its way:
	// it may or may not have been executed. No client library retries this code.
	ErrInDoubt = Error("INDOUBT leadership was lost on the way; the command may or may not have been executed")
	// ErrInternal answers a command whose apply panicked; nothing of it stands.
	ErrInternal = Error("ERR internal error")
	// ErrEntryTooBig refuses a command whose log entry would exceed max-entry-bytes.
	ErrEntryTooBig = Error("ERR command exceeds max-entry-bytes")
	// ErrDisk refuses a write before the log: it, or the copy of it that a majority
	// needs, might not fit on a disk. The code is that of Redis's own disk errors.
	ErrDisk = Error("MISCONF Too little disk space is left for the log. Commands that may modify the data set are refused until there is more. See the log of the nodes.")
	// ErrPattern refuses a pattern whose matching would keep others waiting.
	ErrPattern = Error("ERR the pattern takes too long to match names of this length")
	// ErrRequestTooBig refuses a command that is too long to be passed on to the master.
	ErrRequestTooBig = Error("ERR the command is too long to be passed on; ask the master itself")
	// ErrReplyTooBig refuses a read whose reply is too long to be passed on from the
	// master to the node that the client is connected to.
	ErrReplyTooBig = Error("ERR the reply is too long to be passed on; ask the master itself")
	// ErrMasterDown refuses a read that this node cannot confirm: it has lost
	// touch with the majority.
	ErrMasterDown = Error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
)
