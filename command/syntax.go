package command

import (
	"errors"
	"slices"
	"strings"
)

// Argument is one argument of a command as COMMAND DOCS tells it, derived from
// Spec.Syntax.
type Argument struct {
	Name     string // what stands for it in the syntax
	Type     string // string integer double key pattern unix-time pure-token oneof block
	Token    string // the literal word before it, or the word it is; empty for none
	Key      int    // the key specification it belongs to, -1 for none
	Optional bool
	Multiple bool
	Args     []Argument // of oneof and block
}

// errSyntaxText says that Spec.Syntax cannot be read.
var errSyntaxText = errors.New("its syntax has brackets that do not match")

// argumentTypes are the types of arguments whose name tells that they are not
// plain strings.
var argumentTypes = map[string]string{
	"seconds": "integer", "milliseconds": "integer", "increment": "integer", "decrement": "integer",
	"offset": "integer", "start": "integer", "end": "integer", "count": "integer", "cursor": "integer",
	"db": "integer", "destination-db": "integer", "index": "integer", "index1": "integer", "index2": "integer",
	"numreplicas": "integer", "numlocal": "integer", "timeout": "integer", "client-id": "integer", "protover": "integer",
	"number": "double", "pattern": "pattern",
	"unix-time-seconds": "unix-time", "unix-time-milliseconds": "unix-time",
}

// Arguments reads the syntax. Words in capitals are literal, other words stand
// for arguments; [a] is optional, <a | b> and [a | b] offer a choice, and a
// bracket that ends with ... repeats what it holds, or what stands before it if
// that is the same.
func (s *Spec) Arguments() ([]Argument, error) {
	p := syntaxParser{words: syntaxWords(s.Syntax)}
	args := p.sequence()
	if p.bad || len(p.words) > 0 {
		return nil, errSyntaxText
	}
	pos := 1
	if s.parent != nil {
		pos = 2
	}
	s.markKeys(args, pos)
	return args, nil
}

// markKeys gives the arguments that key specifications point to the type of a
// key. The first of args stands at pos; only those in front of everything
// optional have a place that is known.
func (s *Spec) markKeys(args []Argument, pos int) {
	for i := range args {
		a := &args[i]
		if a.Optional {
			return
		}
		if a.Type == "block" {
			s.markKeys(a.Args, pos)
		}
		at := slices.IndexFunc(s.Keys, func(k Keys) bool { return k.isRange() && k.First == pos })
		if at >= 0 && a.Type != "block" {
			a.Type, a.Key = "key", at
		}
		pos++
	}
}

// syntaxWords cuts a syntax into words and brackets.
func syntaxWords(text string) []string {
	for _, mark := range []string{"[", "]", "<", ">", "|"} {
		text = strings.ReplaceAll(text, mark, " "+mark+" ")
	}
	return strings.Fields(text)
}

// syntaxParser reads a syntax word by word.
type syntaxParser struct {
	words []string // what is left
	bad   bool     // a bracket was left open
}

// sequence reads arguments up to a closing bracket, a bar or the end.
func (p *syntaxParser) sequence() []Argument {
	var args []Argument
	for len(p.words) > 0 && !slices.Contains([]string{"]", ">", "|"}, p.words[0]) {
		word := p.words[0]
		p.words = p.words[1:]
		switch {
		case word == "[":
			args = p.optional(args)
		case word == "<":
			args = append(args, p.group(">"))
		case word == "...":
			args = repeated(args, len(args))
		case isLiteral(word) && p.hasValue():
			value := p.value()
			value.Token = word
			args = append(args, value)
		case isLiteral(word):
			args = append(args, Argument{Name: strings.ToLower(word), Type: "pure-token", Token: word, Key: -1})
		default:
			args = append(args, argument(word))
		}
	}
	return args
}

// optional reads what a square bracket holds and adds it to what stands before.
func (p *syntaxParser) optional(before []Argument) []Argument {
	a := p.group("]")
	if a.Multiple {
		body := []Argument{a}
		if a.Type == "block" {
			body = a.Args
		}
		if n := len(body); n <= len(before) && slices.EqualFunc(body, before[len(before)-n:], sameArgument) {
			return repeated(before, n)
		}
	}
	a.Optional = true
	return append(before, a)
}

// group reads the alternatives up to the closing bracket as one argument.
func (p *syntaxParser) group(closing string) Argument {
	alternatives := []Argument{asOne(p.sequence())}
	for len(p.words) > 0 && p.words[0] == "|" {
		p.words = p.words[1:]
		alternatives = append(alternatives, asOne(p.sequence()))
	}
	if len(p.words) == 0 || p.words[0] != closing {
		p.bad = true
		return Argument{Key: -1}
	}
	p.words = p.words[1:]
	if len(alternatives) == 1 {
		return alternatives[0]
	}
	return Argument{Name: alternatives[0].Name, Type: "oneof", Key: -1, Args: alternatives}
}

// hasValue tells whether the next word is what a literal word introduces.
func (p *syntaxParser) hasValue() bool {
	return len(p.words) > 0 && (p.words[0] == "<" || !slices.Contains([]string{"[", "]", ">", "|", "..."}, p.words[0]) && !isLiteral(p.words[0]))
}

// value reads what a literal word introduces.
func (p *syntaxParser) value() Argument {
	word := p.words[0]
	p.words = p.words[1:]
	if word == "<" {
		return p.group(">")
	}
	return argument(word)
}

// repeated makes the last n arguments one that may be given several times.
func repeated(args []Argument, n int) []Argument {
	if n == 0 {
		return args
	}
	first := len(args) - n
	one := asOne(slices.Clone(args[first:]))
	one.Multiple = true
	return append(args[:first], one)
}

// asOne is args as a single argument.
func asOne(args []Argument) Argument {
	switch len(args) {
	case 0:
		return Argument{Key: -1}
	case 1:
		return args[0]
	}
	names := make([]string, len(args))
	for i := range args {
		names[i] = args[i].Name
	}
	return Argument{Name: strings.Join(names, "_"), Type: "block", Key: -1, Args: args}
}

func argument(word string) Argument {
	typ := argumentTypes[word]
	if typ == "" {
		typ = "string"
	}
	return Argument{Name: word, Type: typ, Key: -1}
}

// sameArgument tells whether again is before, which may have a literal word in
// front of it that is not repeated.
func sameArgument(again, before Argument) bool {
	return again.Name == before.Name && again.Type == before.Type && len(again.Args) == len(before.Args) &&
		(again.Token == before.Token || again.Token == "")
}

// isLiteral tells whether a word of a syntax is to be typed as it stands.
func isLiteral(word string) bool {
	return strings.ToUpper(word) == word && strings.ToLower(word) != word
}
