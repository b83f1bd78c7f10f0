package resp

import "strings"

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
)

// Errors of our own.
const (
	// ErrInDoubt says that leadership was lost while the command was on its way:
	// it may or may not have been executed. No client library retries this code.
	ErrInDoubt = Error("INDOUBT leadership was lost on the way; the command may or may not have been executed")
	// ErrInternal answers a command whose apply panicked; nothing of it stands.
	ErrInternal = Error("ERR internal error")
	// ErrEntryTooBig refuses a command whose log entry would exceed max-entry-bytes.
	ErrEntryTooBig = Error("ERR command exceeds max-entry-bytes")
	// ErrMasterDown refuses a read that this node cannot confirm: it has lost
	// touch with the majority.
	ErrMasterDown = Error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
)
