package resp

// Errors of CLIENT TRACKING and CLIENT CACHING, as Redis words them.
const (
	ErrCachingYes    = Error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	ErrCachingNo     = Error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	ErrRedirectTwice = Error("ERR A client can only redirect to a single other client")
	ErrRedirectNone  = Error("ERR The client ID you want redirect to does not exist")
	ErrPrefixAlone   = Error("ERR PREFIX option requires BCAST mode to be enabled")
	ErrBroadcastOpt  = Error("ERR OPTIN and OPTOUT are not compatible with BCAST")
	ErrOptBoth       = Error("ERR You can't specify both OPTIN mode and OPTOUT mode")
	// The mode of tracking changes only by way of CLIENT TRACKING OFF.
	ErrSwitchBroadcast = Error("ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.")
	ErrSwitchOpt       = Error("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.")
)

// Errors of our own: what looking for the prefixes of a key costs is bounded.
const (
	ErrPrefixTooLong   = Error("ERR a prefix has at most 512 bytes")
	ErrTooManyPrefixes = Error("ERR too many prefixes")
)

// PrefixOverlap refuses a prefix to be broadcast because of another one, which is "an
// existing" or "another provided" one.
func PrefixOverlap(prefix, which, other string) Error {
	return Error("ERR Prefix '" + shown([]byte(prefix), shownLen) + "' overlaps with " + which + " prefix '" + shown([]byte(other), shownLen) +
		"'. Prefixes for a single client must not overlap.")
}
