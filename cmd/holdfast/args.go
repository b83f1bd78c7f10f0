package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/holdfast/holdfast/config"
)

// collector is the value of a flag: it keeps what was given, in the order of the
// command line, and leaves its meaning to package config.
type collector struct {
	name  string
	kind  string
	given *[]config.Setting
}

var _ pflag.Value = collector{}

// Set notes one use of the flag. It refuses nothing: pflag would repeat the
// value in its error, and it may be secret.
func (c collector) Set(value string) error {
	*c.given = append(*c.given, config.Setting{Name: c.name, Value: value})
	return nil
}

// String is the flag's default as pflag would show it; the usage text has its own.
func (c collector) String() string { return "" }

// Type is what may be given.
func (c collector) Type() string { return c.kind }

// parseArgs reads [FILE] [--directive value]…, in any order.
func parseArgs(args []string) (config.Sources, error) {
	var src config.Sources
	set := pflag.NewFlagSet("holdfast", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, d := range config.Directives() {
		for _, name := range append([]string{d.Name}, d.Aliases...) {
			set.Var(collector{name: name, kind: d.Kind(), given: &src.Flags}, name, d.Short)
		}
	}
	if err := set.Parse(args); err != nil {
		return config.Sources{}, explain(err)
	}
	switch files := set.Args(); len(files) {
	case 0:
	case 1:
		src.File = files[0]
	default:
		return config.Sources{}, errors.New("one configuration file can be given, and a directive needs two dashes: --port 6379")
	}
	return src, nil
}

// explain is pflag's error without any value in it: a secret may have been
// mistyped into a place where pflag takes it for a name.
func explain(err error) error {
	var missing *pflag.NotExistError
	if errors.As(err, &missing) && missing.GetSpecifiedShortnames() == "" {
		return fmt.Errorf("flags: %w", config.Unknown(missing.GetSpecifiedName()))
	}
	var bare *pflag.ValueRequiredError
	if errors.As(err, &bare) && bare.GetFlag() != nil {
		return fmt.Errorf("flag --%s needs a value", bare.GetFlag().Name)
	}
	return errors.New("a flag is a directive behind two dashes: --port 6379")
}

// usage writes how the program is called.
func usage(w io.Writer) {
	fmt.Fprint(w, `Usage:
  holdfast [FILE] [--directive value …]   run a node
  holdfast healthcheck [FILE] [--…]       exit with 0 if the node on this machine is healthy
  holdfast recover [FILE] [--…]           make this node a cluster of its own when most others are lost
                                          for good; says what that costs and how to consent to it
  holdfast version                        print the version
  holdfast help                           print this

Without arguments a node is a cluster of one with its data in ./data. Directives
may also be lines of FILE, or environment variables such as HOLDFAST_PORT. Flags
win over the environment, and the environment over the file.
`)
	group := ""
	for _, d := range config.Directives() {
		if d.Group != group {
			group = d.Group
			fmt.Fprintf(w, "\n%s\n", group)
		}
		value := ""
		if d.Default != "" {
			value = " [" + d.Default + "]"
		}
		fmt.Fprintf(w, "  --%-28s%s%s\n", d.Name, d.Short, value)
	}
}
