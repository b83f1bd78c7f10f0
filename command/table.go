package command

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/holdfast/holdfast/resp"
)

// maxName is longer than any command's name.
const maxName = 48

// Table is the commands of a server. It is immutable and safe for concurrent use.
type Table struct {
	top    map[string]*Spec // what a client can call, by the first word
	full   map[string]*Spec // everything, by canonical name
	sorted []*Spec          // what is in top, by name
}

// Join makes a table of lists of specs, which it owns from then on: each list
// belongs to one table. An error names every spec that contradicts itself or
// has the name of another.
func Join(lists ...[]*Spec) (*Table, error) {
	t := &Table{top: map[string]*Spec{}, full: map[string]*Spec{}}
	var faults []error
	for _, s := range slices.Concat(lists...) {
		faults = append(faults, t.add(s)...)
	}
	t.sorted = slices.SortedFunc(maps.Values(t.top), byName)
	return t, errors.Join(faults...)
}

func byName(a, b *Spec) int { return cmp.Compare(a.Name, b.Name) }

// add takes up a spec with its subcommands and tells what is wrong with them.
func (t *Table) add(s *Spec) []error {
	faults := t.register(s)
	if !s.Has(FlagInternal) {
		t.top[s.Name] = s
	}
	if len(s.Sub) == 0 {
		return faults
	}
	s.subs = make(map[string]*Spec, len(s.Sub))
	for _, sub := range s.Sub {
		if sub.parent != nil && sub.parent != s {
			faults = append(faults, fmt.Errorf("command %s: a subcommand of %s too", sub.FullName(), s.Name))
		}
		sub.parent = s
		faults = append(faults, t.register(sub)...)
		s.subs[sub.Name] = sub
	}
	return faults
}

// register takes up one spec under its canonical name.
func (t *Table) register(s *Spec) []error {
	name := s.FullName()
	var faults []error
	if t.full[name] != nil {
		faults = append(faults, fmt.Errorf("command %s: there are two", name))
	}
	t.full[name] = s
	if err := s.validate(); err != nil {
		faults = append(faults, fmt.Errorf("command %s: %w", name, err))
	}
	return faults
}

// validate tells what is wrong with the spec by itself.
func (s *Spec) validate() error {
	switch {
	case s.Name == "" || len(s.Name) > maxName:
		return errors.New("its name is empty or too long")
	case s.Name != lowerName(s.Name):
		return errors.New("its name is not in lower case")
	case s.Arity == 0:
		return errors.New("it has no arity")
	case s.parent != nil && s.Arity > -2 && s.Arity < 2:
		return errors.New("its arity leaves no room for the container's name")
	}
	if err := s.Do.validate(len(s.Sub) > 0); err != nil {
		return err
	}
	for i := range s.Keys {
		if err := s.Keys[i].validate(); err != nil {
			return err
		}
	}
	_, err := s.Arguments()
	return err
}

// validate tells whether the handler has what its route needs and no more.
func (h *Handler) validate(container bool) error {
	complete := false
	switch h.Route {
	case 0:
		if container && h.Check == nil && h.Read == nil && h.Apply == nil && h.Local == nil {
			return nil
		}
		return errors.New("it has no handler")
	case RouteRead:
		complete = h.Read != nil && h.Apply == nil && h.Local == nil
	case RouteWrite, RouteReplicated:
		complete = h.Apply != nil && h.Read == nil && h.Frozen == nil && h.Local == nil
	case RouteLocal:
		complete = h.Local != nil && h.Read == nil && h.Frozen == nil && h.Apply == nil
	}
	if !complete || h.Check == nil {
		return errors.New("its handler does not fit its route")
	}
	return nil
}

// validate tells whether the key specification can be followed.
func (k *Keys) validate() error {
	if k.Step < 1 || k.First == 0 || (k.First < 0 && k.Keyword == "") {
		return errors.New("a key specification begins nowhere")
	}
	if (k.Vary != nil) != (k.Flags&KeyVariableFlags != 0) {
		return errors.New("a key specification varies without saying so, or says so and does not")
	}
	return nil
}

// Lookup finds the command that args call, a container's subcommand included,
// and checks the number of arguments. args begin with the name and are not
// empty. The error is the one to answer; the spec is nil then. It does not
// allocate unless it refuses.
func (t *Table) Lookup(args [][]byte) (*Spec, error) {
	s := t.find(args)
	if s == nil {
		return nil, resp.UnknownCommand(args)
	}
	if s.subs != nil && len(args) > 1 {
		container := s
		if s = container.sub(args[1]); s == nil {
			return nil, resp.UnknownSubcommand(container.Name, args[1])
		}
	} else if s.Do.Route == 0 {
		return nil, resp.Arity(s.Name)
	}
	if !s.Accepts(len(args)) {
		return nil, resp.Arity(s.FullName())
	}
	return s, nil
}

// find is the command or container of the first word, or nil.
func (t *Table) find(args [][]byte) *Spec {
	var buf [maxName]byte
	return t.top[string(fold(&buf, args[0]))]
}

// sub is the subcommand of that name, in any case, or nil.
func (s *Spec) sub(name []byte) *Spec {
	var buf [maxName]byte
	return s.subs[string(fold(&buf, name))]
}

// fold writes name in lower case to buf; a name that is too long becomes empty.
func fold(buf *[maxName]byte, name []byte) []byte {
	if len(name) > maxName {
		return nil
	}
	for i, c := range name {
		buf[i] = lower(c)
	}
	return buf[:len(name)]
}

func lowerName(name string) string {
	var buf [maxName]byte
	return string(fold(&buf, []byte(name)))
}

// Accepts tells whether a call may have n arguments, the name included.
func (s *Spec) Accepts(n int) bool {
	if s.Arity < 0 {
		return n >= -s.Arity
	}
	return n == s.Arity
}

// ByName is the command of that canonical name ("get", "client|list"), internal
// operations included, or nil.
func (t *Table) ByName(canonical string) *Spec { return t.full[canonical] }

// All yields the commands and containers a client can call in the order of
// their names, without subcommands.
func (t *Table) All() iter.Seq[*Spec] { return slices.Values(t.sorted) }

// Each yields what a client can call in the order of names: All with each
// container's subcommands, sorted, after it.
func (t *Table) Each() iter.Seq[*Spec] {
	return func(yield func(*Spec) bool) {
		for _, s := range t.sorted {
			if !yield(s) {
				return
			}
			for _, sub := range slices.SortedFunc(slices.Values(s.Sub), byName) {
				if !yield(sub) {
					return
				}
			}
		}
	}
}

// Len is the number of commands and containers a client can call.
func (t *Table) Len() int { return len(t.sorted) }

// named is the command of a canonical name in any case, or nil; internal
// operations are not found.
func (t *Table) named(name []byte) *Spec {
	var buf [maxName]byte
	s := t.full[string(fold(&buf, name))]
	if s == nil || s.Has(FlagInternal) {
		return nil
	}
	return s
}
