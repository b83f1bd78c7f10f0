package command

import "math"

// flagWords are the flags COMMAND INFO shows, in its order. WRITE and READONLY
// come first and follow from the route.
var flagWords = [...]struct {
	flag Flags
	word string
}{
	{FlagDenyOOM, "denyoom"},
	{FlagAdmin, "admin"},
	{FlagPubSub, "pubsub"},
	{FlagNoScript, "noscript"},
	{FlagBlocking, "blocking"},
	{FlagLoading, "loading"},
	{FlagStale, "stale"},
	{FlagSkipMonitor, "skip_monitor"},
	{FlagSkipSlowlog, "skip_slowlog"},
	{FlagFast, "fast"},
	{FlagNoAuth, "no_auth"},
	{FlagNoMandatoryKeys, "no_mandatory_keys"},
	{FlagNoAsyncLoading, "no_async_loading"},
	{FlagNoMulti, "no_multi"},
	{FlagMovableKeys, "movablekeys"},
	{FlagAllowBusy, "allow_busy"},
}

// categoryWords are the ACL categories by bit, in the order of ACL CAT.
var categoryWords = [...]string{
	"keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
	"stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
}

// keyFlagWords are the flags of key specifications by bit.
var keyFlagWords = [...]string{
	"RO", "RW", "OW", "RM", "access", "update", "insert", "delete", "not_key", "incomplete", "variable_flags",
}

// IsWrite tells whether Redis marks the command as write.
func (s *Spec) IsWrite() bool { return s.Do.Route == RouteWrite || s.Has(FlagWriteReply) }

// IsReadOnly tells whether Redis marks the command as readonly.
func (s *Spec) IsReadOnly() bool { return s.Do.Route == RouteRead && !s.Has(FlagWriteReply) }

// FlagNames are the flags in the words and the order of COMMAND INFO.
func (s *Spec) FlagNames() []string {
	var words []string
	switch {
	case s.IsWrite():
		words = append(words, "write")
	case s.IsReadOnly():
		words = append(words, "readonly")
	}
	for _, f := range flagWords {
		if s.Has(f.flag) {
			words = append(words, f.word)
		}
	}
	return words
}

// AllCategories are the explicit ACL categories and those that follow from the
// route and the flags, by the rules of redis.io/docs/management/security/acl.
func (s *Spec) AllCategories() Category {
	c := s.Categories
	if s.IsWrite() {
		c |= CatWrite
	}
	if s.IsReadOnly() && c&CatScripting == 0 {
		c |= CatRead
	}
	if s.Has(FlagAdmin) {
		c |= CatAdmin | CatDangerous
	}
	if s.Has(FlagPubSub) {
		c |= CatPubSub
	}
	if s.Has(FlagBlocking) {
		c |= CatBlocking
	}
	if s.Has(FlagFast) {
		return c | CatFast
	}
	return c | CatSlow
}

// Names are the names of the categories in c, in the order of ACL CAT.
func (c Category) Names() []string { return bitWords(uint32(c), categoryWords[:]) }

// CategoryByName is the category of that name, in any case, 0 if there is none.
func CategoryByName(name []byte) Category {
	for i, word := range categoryWords {
		if is(name, word) {
			return 1 << i
		}
	}
	return 0
}

// Names are the words for the flags in f, in the order of COMMAND INFO.
func (f KeyFlags) Names() []string { return bitWords(uint32(f), keyFlagWords[:]) }

func bitWords(bits uint32, words []string) []string {
	var names []string
	for i, word := range words {
		if bits&(1<<i) != 0 {
			names = append(names, word)
		}
	}
	return names
}

// KeyRange is what COMMAND INFO told of keys before there were key
// specifications: the positions of the first and the last key, the last counted
// from the end if negative, and the distance between two; all 0 if the keys are
// in no such range.
type KeyRange struct{ First, Last, Step int }

// KeyRange derives the range from the key specifications: that of a single one,
// or the one that several neighbours of step 1 make up together.
func (s *Spec) KeyRange() KeyRange {
	if len(s.Keys) == 1 && s.Keys[0].isRange() {
		k := s.Keys[0]
		return KeyRange{First: k.First, Last: k.absoluteLast(), Step: k.Step}
	}
	r := KeyRange{First: math.MaxInt, Step: 1}
	for i := range s.Keys {
		k := &s.Keys[i]
		if !k.isRange() || k.Step != 1 || (r.Last != 0 && r.Last != k.First-1) {
			continue
		}
		r.First = min(r.First, k.First)
		r.Last = k.absoluteLast()
	}
	if r.Last == 0 {
		return KeyRange{}
	}
	return r
}

func (k *Keys) isRange() bool { return k.KeyNum == 0 && k.Keyword == "" }

func (k *Keys) absoluteLast() int {
	if k.Last < 0 {
		return k.Last
	}
	return k.First + k.Last
}
