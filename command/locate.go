package command

// KeyAt is a key among the arguments of a call.
type KeyAt struct {
	Pos   int // its position; the command's name is at 0
	Flags KeyFlags
}

// KeysOf appends to dst the keys of a call, in the order of the key
// specifications, and returns the extended slice. args is the whole command,
// its number of arguments right; where they contradict a specification, as a
// count of keys larger than the arguments, that specification gives none.
// Arguments that are no keys though they stand like keys are left out.
func (s *Spec) KeysOf(dst []KeyAt, args [][]byte) []KeyAt {
	for i := range s.Keys {
		k := &s.Keys[i]
		if k.Flags&KeyNotKey != 0 {
			continue
		}
		flags := k.Flags
		if k.Vary != nil {
			flags = k.Vary(args)
		}
		first, last, step := k.span(args)
		for pos := first; pos <= last; pos += step {
			dst = append(dst, KeyAt{Pos: pos, Flags: flags})
		}
	}
	return dst
}

// HasKeys tells whether a call of the command can have keys.
func (s *Spec) HasKeys() bool {
	for i := range s.Keys {
		if s.Keys[i].Flags&KeyNotKey == 0 {
			return true
		}
	}
	return false
}

// span is where the keys of a call are: every step-th argument from first to
// last, which is below first if there are none.
func (k *Keys) span(args [][]byte) (first, last, step int) {
	first, ok := k.begin(args)
	if !ok {
		return 0, -1, 1
	}
	step = max(k.Step, 1)
	switch {
	case k.KeyNum > 0:
		if first >= len(args) {
			return 0, -1, 1
		}
		n, ok := parseInt(args[first])
		first += k.KeyNum
		if !ok || n <= 0 || n > int64(len(args)) {
			return 0, -1, 1
		}
		last = first + (int(n)-1)*step
	case k.Last < 0:
		last = len(args) + k.Last
	default:
		last = first + k.Last
	}
	if first < 1 || last >= len(args) {
		return 0, -1, 1
	}
	return first, last, step
}

// begin is the position the specification counts from.
func (k *Keys) begin(args [][]byte) (pos int, ok bool) {
	if k.Keyword == "" {
		return k.First, true
	}
	start, by := k.First, 1
	if k.First < 0 {
		start, by = len(args)+k.First, -1
	}
	for i := start; i > 0 && i < len(args); i += by {
		if equalFold(args[i], k.Keyword) {
			return i + 1, true
		}
	}
	return 0, false
}
