package archtest_test

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is this module's path.
const module = "github.com/holdfast/holdfast"

// source is one Go file, whatever its build constraints.
type source struct {
	path    string // below the root
	dir     string // its package's path below the module's
	test    bool
	imports []string
	tree    *ast.File
	tags    constraint.Expr // nil without constraint
	places  *token.FileSet
}

// at is where a node of the file's tree stands.
func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.places.Position(n.Pos()).Line)
}

// faultsOnly tells whether the file is in builds with the tag "faults" only.
func (s source) faultsOnly() bool { return s.tags != nil && !s.builds(false) && s.builds(true) }

// releaseOnly tells whether the file is in builds without the tag only.
func (s source) releaseOnly() bool { return s.tags != nil && s.builds(false) && !s.builds(true) }

// builds tells whether the constraint holds with or without the tag "faults",
// every other tag taken as set.
func (s source) builds(faults bool) bool {
	return s.tags.Eval(func(tag string) bool { return tag != "faults" || faults })
}

// parse reads all Go files of the module below root, other modules, test data
// and installed packages left out.
func parse(t *testing.T, root fs.FS) []source {
	t.Helper()
	var list []source
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skip(root, name, entry)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		s, err := parseFile(root, name)
		list = append(list, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// skip leaves out directories that hold none of this module's packages.
func skip(root fs.FS, name string, entry fs.DirEntry) error {
	if name == "." {
		return nil
	}
	base := entry.Name()
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules" {
		return fs.SkipDir
	}
	if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func parseFile(root fs.FS, name string) (source, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return source{}, err
	}
	s := source{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), places: token.NewFileSet()}
	s.tree, err = parser.ParseFile(s.places, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	for _, spec := range s.tree.Imports {
		value, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, value)
	}
	for _, group := range s.tree.Comments {
		for _, c := range group.List {
			if c.Pos() < s.tree.Package && constraint.IsGoBuild(c.Text) {
				if s.tags, err = constraint.Parse(c.Text); err != nil {
					return source{}, err
				}
			}
		}
	}
	return s, nil
}

// within tells whether the import path is one of the given modules or below it.
func within(imported string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") })
}

// external tells whether the import path is neither ours nor the standard library's.
func external(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".") && !within(imported, []string{module})
}
