package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Setting is a directive and its value as somebody wrote them.
type Setting struct {
	Name, Value string
}

// Sources are where a configuration comes from. Later ones win: defaults, File,
// Environ, Flags; within one, what stands later.
type Sources struct {
	File    string    // path of a configuration file, "" for none
	Environ []string  // NAME=value, as os.Environ gives it; HOLDFAST_… concern us
	Flags   []Setting // of the command line, in its order
	// ReadFile reads File; os.ReadFile, or something else in tests.
	ReadFile func(path string) ([]byte, error)
}

// Load reads all sources and returns the validated configuration. The error
// lists everything that is wrong, one problem a line, each with its place, and
// holds no value of a secret.
func Load(src Sources) (*Config, error) {
	c := unsettled()
	var errs []error
	if src.File != "" {
		text, err := src.ReadFile(src.File)
		if err != nil {
			return nil, fmt.Errorf("configuration file: %w", err)
		}
		errs = append(errs, c.readFile(src.File, text)...)
	}
	errs = append(errs, c.readEnviron(src.Environ)...)
	errs = append(errs, c.readFlags(src.Flags)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c.settle()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// readFile reads the lines of a configuration file.
func (c *Config) readFile(path string, text []byte) []error {
	var errs []error
	number := 0
	for line := range bytes.Lines(text) {
		number++
		trimmed := strings.Trim(string(line), blanks)
		if number == 1 {
			trimmed = strings.TrimPrefix(trimmed, "\ufeff") // some editors begin a file with it
		}
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if err := c.readLine(trimmed); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, number, err))
		}
	}
	return errs
}

func (c *Config) readLine(line string) error {
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	name, words := words[0], words[1:]
	d := find(name)
	if d == nil {
		if fixed, ok := constant(name); ok {
			return fixed.accept(strings.Join(words, " "))
		}
		return Unknown(name)
	}
	if err := d.kind.set(c, words); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	return nil
}

// envPrefix begins the names of our variables.
const envPrefix = "HOLDFAST_"

// envTests are variables that only this program's tests read. Processes started
// by tests inherit them.
var envTests = []string{"HOLDFAST_BIN", "HOLDFAST_FULL"}

// EnvName is the environment variable of a directive.
func EnvName(directive string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(directive, "-", "_"))
}

// readEnviron reads HOLDFAST_… variables. An empty one counts as not set.
func (c *Config) readEnviron(environ []string) []error {
	var errs []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(envTests, name) || value == "" || serviceLink(name, value) {
			continue
		}
		directive := strings.ToLower(strings.ReplaceAll(name[len(envPrefix):], "_", "-"))
		if err := c.readSetting(Setting{Name: directive, Value: value}); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	}
	return errs
}

// serviceLink tells whether a variable is one that Kubernetes gives every pod
// for a service whose name begins with "holdfast": HOLDFAST_SERVICE_HOST,
// HOLDFAST_PORT=tcp://10.0.0.1:6379, HOLDFAST_PORT_6379_TCP_ADDR and so on
// (kubernetes.io/docs/concepts/services-networking/service, environment variables).
func serviceLink(name, value string) bool {
	for _, scheme := range []string{"tcp://", "udp://", "sctp://"} {
		if strings.HasPrefix(value, scheme) {
			return true
		}
	}
	if strings.HasSuffix(name, "_SERVICE_HOST") || strings.HasSuffix(name, "_SERVICE_PORT") || strings.Contains(name, "_SERVICE_PORT_") {
		return true
	}
	_, after, ok := strings.Cut(name, "_PORT_")
	number, _, _ := strings.Cut(after, "_")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

func (c *Config) readFlags(flags []Setting) []error {
	var errs []error
	for _, f := range flags {
		if err := c.readSetting(f); err != nil {
			errs = append(errs, fmt.Errorf("flag --%s: %w", f.Name, err))
		}
	}
	return errs
}

func (c *Config) readSetting(s Setting) error {
	d := find(s.Name)
	if d == nil {
		return Unknown(s.Name)
	}
	return d.assign(c, s.Value)
}
