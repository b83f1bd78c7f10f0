package sentinelapi

import (
	"math"
	"slices"
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/glob"
	"github.com/holdfast/holdfast/resp"
)

// Param is a parameter of SENTINEL CONFIG and its value.
type Param struct{ Name, Value string }

// Keeper keeps, until the node stops, what SENTINEL SET and SENTINEL CONFIG SET
// change. Its methods are safe for concurrent use.
type Keeper interface {
	// Keep changes the options of the master of that name, for views made afterwards,
	// and publishes the messages. change runs once and does not block.
	Keep(name string, change func(o *Options), told []Message)
	// Params are the parameters of SENTINEL CONFIG that have an effect here.
	Params() []Param
	// SetParams changes all of the parameters, whose names are among those of Params,
	// or none. The error's text is for the client.
	SetParams(params []Param) error
}

// configParam is a parameter of SENTINEL CONFIG.
type configParam struct {
	name  string
	valid func(value string) bool
	// unused says that the parameter has no place here and is always empty: the nodes
	// need no account of their own to reach each other.
	unused bool
}

// configParams are all of them, in the order in which they are shown.
func configParams() []configParam {
	yesNo := func(v string) bool { return strings.EqualFold(v, "yes") || strings.EqualFold(v, "no") }
	return []configParam{
		{name: "resolve-hostnames", valid: yesNo},
		{name: "announce-hostnames", valid: yesNo},
		{name: "announce-ip", valid: func(string) bool { return true }}, // the Keeper knows what a host may be
		{name: "announce-port", valid: func(v string) bool {
			n, err := number([]byte(v))
			return err == nil && n >= 0 && n <= maxPort
		}},
		{name: "sentinel-user", unused: true},
		{name: "sentinel-pass", unused: true},
		{name: "loglevel", valid: func(v string) bool {
			return slices.Contains([]string{"debug", "verbose", "notice", "warning"}, strings.ToLower(v))
		}},
	}
}

func (a api) config(c command.Conn, args [][]byte) resp.Value {
	switch word := strings.ToLower(string(args[2])); {
	case word == "get" && len(args) >= 4:
		return a.configGet(args[3:])
	case word == "set" && len(args) >= 5:
		return a.configSet(c, args[3:])
	}
	return resp.Err(resp.ErrSentinelConfig)
}

func (a api) configGet(patterns [][]byte) resp.Value {
	values := map[string]string{}
	for _, p := range a.keep.Params() {
		values[p.Name] = p.Value
	}
	var f fields
	work := glob.Work(patternWork)
	for _, p := range configParams() {
		if slices.ContainsFunc(patterns, func(pattern []byte) bool { return glob.MatchFoldWithin(&work, pattern, p.name) }) {
			f.text(p.name, values[p.name])
		}
	}
	return resp.Map(f...)
}

func (a api) configSet(c command.Conn, args [][]byte) resp.Value {
	params, err := parseParams(args)
	if err != nil {
		return resp.Err(err)
	}
	if !trusted(c) {
		return resp.Err(resp.ErrUntrusted)
	}
	if err := a.keep.SetParams(params); err != nil {
		return resp.Err(err)
	}
	return resp.OK
}

func parseParams(args [][]byte) (list []Param, err error) {
	for i := 0; i < len(args); i += 2 {
		name := strings.ToLower(string(args[i]))
		at := slices.IndexFunc(configParams(), func(p configParam) bool { return p.name == name })
		switch {
		case at < 0:
			return nil, resp.SentinelConfigUnknown(args[i])
		case slices.ContainsFunc(list, func(p Param) bool { return p.Name == name }):
			return nil, resp.SentinelConfigTwice(args[i])
		case i+1 == len(args):
			return nil, resp.SentinelConfigMissing(args[i])
		}
		switch p := configParams()[at]; {
		case p.unused && len(args[i+1]) > 0:
			return nil, resp.ErrNodeCredentials
		case p.unused: // it is empty
		case !p.valid(string(args[i+1])):
			return nil, resp.SentinelConfigValue(args[i], args[i+1])
		default:
			list = append(list, Param{name, string(args[i+1])})
		}
	}
	return list, nil
}

// option is an option of SENTINEL SET.
type option struct {
	name string
	args int // how many follow the name
	// apply makes the change, false if the arguments are not right. One without effect
	// here, because a node needs no account and no names of commands to watch its
	// cluster, only looks at them.
	apply  func(o *Options, args [][]byte) bool
	secret bool
	denied bool // it is the path of a program
}

// amount is an option with a number of at least least.
func amount(name string, least, most int64, put func(o *Options, n int64)) option {
	return option{name: name, args: 1, apply: func(o *Options, args [][]byte) bool {
		n, err := number(args[0])
		if err != nil || n < least || n > most {
			return false
		}
		put(o, n)
		return true
	}}
}

func options() []option {
	accepted := func(*Options, [][]byte) bool { return true }
	return []option{
		amount("down-after-milliseconds", 1, math.MaxInt64, func(o *Options, n int64) { o.DownAfter = n }),
		amount("failover-timeout", 1, math.MaxInt64, func(o *Options, n int64) { o.FailoverTimeout = n }),
		amount("parallel-syncs", 1, math.MaxInt32, func(o *Options, n int64) { o.ParallelSyncs = int(n) }),
		{name: "notification-script", args: 1, denied: true},
		{name: "client-reconfig-script", args: 1, denied: true},
		{name: "auth-pass", args: 1, secret: true, apply: accepted},
		{name: "auth-user", args: 1, apply: accepted},
		amount("quorum", 1, math.MaxInt32, func(o *Options, n int64) { o.Quorum = int(n) }),
		{name: "rename-command", args: 2, apply: func(_ *Options, args [][]byte) bool { return len(args[0]) > 0 && len(args[1]) > 0 }},
		amount("master-reboot-down-after-period", 0, math.MaxInt64, func(*Options, int64) {}),
	}
}

// setting is an option with its arguments.
type setting struct {
	option
	args [][]byte
}

// set changes all options that are named, or none.
func (a api) set(c command.Conn, args [][]byte) resp.Value {
	v := a.src.View()
	name := string(args[2])
	if !slices.Contains(v.Names, name) {
		return resp.Err(resp.ErrNoSuchMaster)
	}
	list, err := parseSettings(args[3:])
	if err != nil {
		return resp.Err(err)
	}
	if !trusted(c) {
		return resp.Err(resp.ErrUntrusted)
	}
	m := v.address()
	var told []Message
	for _, s := range list {
		value := string(s.args[0])
		if s.secret {
			value = "******"
		} else if len(s.args) > 1 {
			value += " " + string(s.args[1])
		}
		told = append(told, Message{"+set", strings.Join([]string{"master", name, m.Host, m.port(), s.name, value}, " ")})
	}
	a.keep.Keep(name, func(o *Options) {
		for _, s := range list {
			s.apply(o, s.args)
		}
	}, told)
	return resp.OK
}

func parseSettings(args [][]byte) (list []setting, err error) {
	for i := 0; i < len(args); {
		word := args[i]
		at := slices.IndexFunc(options(), func(o option) bool { return strings.EqualFold(o.name, string(word)) })
		if at < 0 || i+options()[at].args >= len(args) {
			return nil, resp.SentinelSetOption(word)
		}
		s := setting{option: options()[at]}
		s.args = args[i+1 : i+1+s.option.args]
		if s.denied {
			return nil, resp.ErrScriptsDenied
		}
		if !s.apply(new(Options), s.args) {
			return nil, resp.SentinelSetValue(word, s.wrong())
		}
		list = append(list, s)
		i += 1 + s.option.args
	}
	return list, nil
}

// wrong is the argument to blame: the first empty one, or the first.
func (s *setting) wrong() []byte {
	for _, arg := range s.args {
		if len(arg) == 0 {
			return arg
		}
	}
	return s.args[0]
}
