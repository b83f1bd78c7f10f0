package script

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kind is what a step does.
type kind uint8

const (
	command kind = iota + 1
	receive
	clientCloses
	serverCloses
	pass
)

// Paths are the scripts in the directories, of which each must have one.
func Paths(tb testing.TB, dirs ...string) []string {
	tb.Helper()
	var all []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*.txt"))
		if err != nil || len(found) == 0 {
			tb.Fatalf("no scripts in %s: %v", dir, err)
		}
		all = append(all, found...)
	}
	return all
}

// Script is a parsed script. It is immutable and may be played many times.
type Script struct {
	Name   string // the file's name without directory and extension
	Socket bool   // it needs real connections
	Proto  int    // the only version of the protocol it is for, 0 for any
	lines  []string
	steps  []step
}

// step is one line of a script with what belongs to it.
type step struct {
	kind kind
	line int    // counted from 1
	conn string // which connection
	args []string
	wait time.Duration

	want       [2]string // the replies in RESP2 and RESP3; empty for none
	wantFrom   int       // the reply's lines are lines[wantFrom:wantTo]
	wantTo     int
	events     string // as the script has them
	eventsLine int    // the index of their line, -1 if events are not checked

	about
}

// about is what @ lines say of the command that follows them.
type about struct {
	sorted  bool
	silent  bool
	since   string
	differs string
}

// Parse reads a script file.
func Parse(path string) (*Script, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the test names the file
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	s, err := ParseText(name, string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return s, nil
}

// ParseText reads the text of a script.
func ParseText(name, text string) (*Script, error) {
	p := parser{script: &Script{Name: name, lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}}
	for i, line := range p.script.lines {
		if err := p.line(i, strings.TrimRight(line, " \t")); err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
	}
	if p.next != (about{}) {
		return nil, fmt.Errorf("%d: no command follows the last @ line", len(p.script.lines))
	}
	return p.script, nil
}

// Commands are the commands of the script with their arguments, in order, so that
// a test can tell which are covered.
func (s *Script) Commands() [][]string {
	var all [][]string
	for i := range s.steps {
		if s.steps[i].kind == command {
			all = append(all, s.steps[i].args)
		}
	}
	return all
}

// parser keeps what has been read.
type parser struct {
	script *Script
	next   about // of the command to come
	blank  bool  // the last line was a comment: no reply may follow
}

var stepLine = regexp.MustCompile(`^([a-z][a-z0-9]*)?(>|<$| closed$| close$)(.*)$`)

// line reads one line.
func (p *parser) line(i int, line string) error {
	if line == "" || strings.HasPrefix(line, "#") && !isBool(line) {
		p.blank = true
		return nil
	}
	if rest, ok := strings.CutPrefix(line, "@"); ok {
		return p.directive(i, rest)
	}
	if m := stepLine.FindStringSubmatch(line); m != nil {
		return p.step(i, m[1], strings.TrimSpace(m[2]), m[3])
	}
	return p.expectation(i, line)
}

// isBool tells a boolean reply from a comment.
func isBool(line string) bool { return line == "#t" || line == "#f" }

func (p *parser) directive(i int, text string) error {
	name, arg, _ := strings.Cut(text, " ")
	first := len(p.script.steps) == 0
	switch {
	case name == "pass":
		d, err := time.ParseDuration(arg)
		p.add(step{kind: pass, wait: d}, i)
		return err
	case name == "sorted" && arg == "":
		p.next.sorted = true
	case name == "silent" && arg == "":
		p.next.silent = true
	case name == "since" && arg != "":
		p.next.since = arg
	case name == "differs" && arg != "":
		p.next.differs = arg
	case name == "socket" && first:
		p.script.Socket = true
	case name == "proto" && first && (arg == "2" || arg == "3"):
		p.script.Proto = int(arg[0] - '0')
	default:
		return fmt.Errorf("directive @%s is unknown, incomplete or misplaced", text)
	}
	return nil
}

func (p *parser) step(i int, conn, mark, rest string) error {
	if conn == "" {
		conn = "c1"
	}
	s := step{conn: conn, about: p.next}
	switch mark {
	case ">":
		args, err := Words(rest)
		if err != nil || len(args) == 0 {
			return fmt.Errorf("command cannot be read: %w", err)
		}
		s.kind, s.args = command, args
	case "<":
		s.kind = receive
	case "close":
		s.kind = clientCloses
	case "closed":
		s.kind = serverCloses
	}
	p.next = about{}
	p.add(s, i)
	return nil
}

func (p *parser) add(s step, i int) {
	s.line, s.eventsLine, s.wantFrom, s.wantTo = i+1, -1, i+1, i+1
	p.script.steps = append(p.script.steps, s)
	p.blank = false
}

// expectation reads a line that says what the last step must give.
func (p *parser) expectation(i int, line string) error {
	if len(p.script.steps) == 0 || p.blank || p.next != (about{}) {
		return fmt.Errorf("no command stands before %q", line)
	}
	s := &p.script.steps[len(p.script.steps)-1]
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		s.events, s.eventsLine = strings.TrimSpace(rest), i
		return nil
	}
	if s.kind != command && s.kind != receive || s.eventsLine >= 0 {
		return fmt.Errorf("a reply cannot stand here: %q", line)
	}
	first, last := 0, 1
	switch {
	case strings.HasPrefix(line, "2 "):
		line, last = line[2:], 0
	case strings.HasPrefix(line, "3 "):
		line, first = line[2:], 1
	}
	for v := first; v <= last; v++ {
		if s.want[v] != "" {
			return fmt.Errorf("there is a reply already before %q", line)
		}
		s.want[v] = line
	}
	s.wantTo = i + 1
	return nil
}

// Words cuts a command of a script into its arguments.
func Words(text string) ([]string, error) {
	var args []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] != '"' {
			word, rest, _ := strings.Cut(text, " ")
			args, text = append(args, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		text = text[len(quoted):]
		if strings.HasPrefix(text, "*") {
			count, rest, _ := strings.Cut(text[1:], " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				return nil, err
			}
			word, text = strings.Repeat(word, n), rest
		}
		args = append(args, word)
	}
	return args, nil
}
