package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast/holdfast/internal/glob"
)

// Settings are the directives of a running node, for CONFIG GET and CONFIG SET
// (redis.io/commands/config-set). It is safe for concurrent use.
type Settings struct {
	current atomic.Pointer[Config] // replaced, never changed in place

	mu struct {
		sync.Mutex                 // held to replace current; never while calling out
		watchers   []func(*Config) // appended to only
		replicate  func(next *Config) error
	}
}

// NewSettings starts with c, which it owns from here on.
func NewSettings(c *Config) *Settings {
	s := new(Settings)
	s.current.Store(c)
	return s
}

// Config is the present configuration; nobody may change it. It costs one atomic
// load: ask again for each use instead of keeping it.
func (s *Settings) Config() *Config { return s.current.Load() }

// OnChange has fn called after every change with the configuration then present.
// No lock is held; calls for changes made at the same time may overlap, and each
// is given the newest configuration, so what fn does must depend on that alone.
func (s *Settings) OnChange(fn func(c *Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.watchers = append(s.mu.watchers, fn)
}

// Replicate has fn called by Set when a replicated directive is to change: it
// makes next's replicated values those of the cluster and returns once they are,
// or an error if they are not. Without it such directives cannot be changed.
func (s *Settings) Replicate(fn func(next *Config) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.replicate = fn
}

// Get is the name and value of every directive whose name matches one of the
// glob patterns, in any case, ordered by name, each once. Names of Redis that are
// constants here are included. A pattern that is a plain name is echoed as it was
// written, as Redis does.
func (s *Settings) Get(patterns []string) [][2]string {
	c := s.Config()
	var found [][2]string
	work := glob.Work(matchWork)
	for _, item := range visible() {
		for _, pattern := range patterns {
			if !glob.MatchFoldWithin(&work, pattern, item.name) {
				continue
			}
			name := item.name
			if !strings.ContainsAny(pattern, "*?[") {
				name = pattern
			}
			found = append(found, [2]string{name, item.get(c)})
			break
		}
	}
	return found
}

// matchWork bounds the steps of matching patterns in one Get; what is looked at
// after that does not match.
const matchWork = 1 << 22

// item is one line CONFIG GET can show.
type item struct {
	name string
	get  func(c *Config) string
}

// visible are all lines CONFIG GET can show, ordered by name.
func visible() []item {
	var items []item
	for i := range directives {
		d := &directives[i]
		if d.Hidden {
			continue
		}
		for _, name := range append([]string{d.Name}, d.Aliases...) {
			items = append(items, item{name, d.kind.get})
		}
	}
	for _, f := range constants {
		items = append(items, item{f.name, func(*Config) string { return f.value }})
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items
}

// Set gives the named directives new values: all of them, or none and an error
// in the words of Redis. The error's text has no code in front; it is ERR.
func (s *Settings) Set(pairs [][2]string) error {
	changes, err := resolve(pairs)
	if err != nil {
		return err
	}
	next, err := changes.apply(s.Config())
	if err != nil {
		return err
	}
	if name, ok := changes.replicated(); ok {
		if err := s.replicate(name, next); err != nil {
			return err
		}
	}
	if err := s.replace(changes.apply); err != nil {
		return err
	}
	s.tell()
	return nil
}

// Preview is the configuration that Set would make, without the values being put in place.
// The error is that of Set.
func (s *Settings) Preview(pairs [][2]string) (*Config, error) {
	changes, err := resolve(pairs)
	if err != nil {
		return nil, err
	}
	return changes.apply(s.Config())
}

// Replicated are the names and values in next of those replicated directives whose
// values differ from the present ones.
func (s *Settings) Replicated(next *Config) (changed [][2]string) {
	c := s.Config()
	for i := range directives {
		if d := &directives[i]; d.Replicated && d.kind.get(c) != d.kind.get(next) {
			changed = append(changed, [2]string{d.Name, d.kind.get(next)})
		}
	}
	return changed
}

// IsReplicated tells whether all nodes use one value of the directive with this name.
func IsReplicated(name string) bool {
	d := find(name)
	return d != nil && d.Replicated
}

// Adopt has fn put values that were decided elsewhere, such as the cluster's, in
// place of this node's. fn gets a copy to change.
func (s *Settings) Adopt(fn func(c *Config)) {
	_ = s.replace(func(c *Config) (*Config, error) {
		next := *c
		fn(&next)
		return &next, nil
	})
	s.tell()
}

func (s *Settings) replicate(name string, next *Config) error {
	s.mu.Lock()
	fn := s.mu.replicate
	s.mu.Unlock()
	if fn == nil {
		return failed(name, errImmutable)
	}
	if err := fn(next); err != nil {
		return failed(name, err)
	}
	return nil
}

// replace puts what fn makes of the present configuration in its place.
func (s *Settings) replace(fn func(c *Config) (*Config, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := fn(s.current.Load())
	if err != nil {
		return err
	}
	s.current.Store(next)
	if next.Verbosity != nil {
		next.Verbosity.Set(SlogLevel(next.LogLevel))
	}
	return nil
}

// tell calls the watchers.
func (s *Settings) tell() {
	s.mu.Lock()
	watchers := slices.Clone(s.mu.watchers)
	s.mu.Unlock()
	for _, fn := range watchers {
		fn(s.Config())
	}
}

// change is one directive with the value it is to get; or, without directive, a
// constant that is to get the value it has.
type change struct {
	name  string // as the client wrote it
	value string
	d     *Directive
	fixed fixed
}

type changes []change

// Errors of CONFIG SET about a directive.
var (
	errImmutable = errors.New("can't set immutable config")
	errDuplicate = errors.New("duplicate parameter")
)

func failed(name string, err error) error {
	return fmt.Errorf("CONFIG SET failed (possibly related to argument '%s') - %w", name, err)
}

// resolve finds the directives before any value is looked at: Redis reports a
// name that cannot be set before a value that is wrong.
func resolve(pairs [][2]string) (changes, error) {
	list := make(changes, 0, len(pairs))
	for _, pair := range pairs {
		ch := change{name: pair[0], value: pair[1], d: find(pair[0])}
		if ch.d == nil {
			var ok bool
			if ch.fixed, ok = constant(ch.name); !ok {
				return nil, fmt.Errorf("Unknown option or number of arguments for CONFIG SET - '%s'", ch.name)
			}
		} else if !ch.d.Mutable {
			return nil, failed(ch.name, errImmutable)
		}
		if slices.ContainsFunc(list, func(o change) bool { return o.d == ch.d && o.fixed == ch.fixed }) {
			return nil, failed(ch.name, errDuplicate)
		}
		list = append(list, ch)
	}
	return list, nil
}

// apply is c with all changes made.
func (list changes) apply(c *Config) (*Config, error) {
	next := *c
	for _, ch := range list {
		if ch.d == nil {
			if ch.fixed.accept(ch.value) != nil {
				return nil, failed(ch.name, errImmutable)
			}
			continue
		}
		if err := ch.d.assign(&next, ch.value); err != nil {
			return nil, failed(ch.name, err)
		}
		if err := next.validateSizes(); err != nil {
			return nil, failed(ch.name, errRange(minBulk, next.MaxEntryBytes))
		}
	}
	return &next, nil
}

// replicated is the first change of a replicated directive.
func (list changes) replicated() (name string, ok bool) {
	for _, ch := range list {
		if ch.d != nil && ch.d.Replicated {
			return ch.name, true
		}
	}
	return "", false
}
