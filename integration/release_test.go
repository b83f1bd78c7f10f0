package integration_test

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// faultNames are the functions and methods that only builds with the tag "faults"
// declare, each as package path and name.
func faultNames(t testing.TB) map[string]bool {
	t.Helper()
	only, other := map[string]bool{}, map[string]bool{}
	root := testkit.Root()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		into := other
		if needsFaults(file) {
			into = only
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				into["github.com/holdfast/holdfast/"+filepath.ToSlash(dir)+"."+receiver(f)+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range other {
		delete(only, name)
	}
	return only
}

// receiver is a method's receiver as the linker writes it, with a dot.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	switch typ := f.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		if name, ok := typ.X.(*ast.Ident); ok {
			return "(*" + name.Name + ")."
		}
	case *ast.Ident:
		return typ.Name + "."
	}
	return ""
}

// needsFaults tells whether a file is built with the tag and not without it.
func needsFaults(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if !constraint.IsGoBuild(c.Text) || c.Pos() > file.Package {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			with := func(tag string) bool { return tag == "faults" || tag == "linux" || tag == "amd64" }
			without := func(tag string) bool { return tag == "linux" || tag == "amd64" }
			return err == nil && expr.Eval(with) && !expr.Eval(without)
		}
	}
	return false
}

// symbols are the names in a binary's symbol table.
func symbols(t testing.TB, binary string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "nm", binary).Output()
	if err != nil {
		t.Fatalf("go tool nm %s: %v", binary, err)
	}
	return string(out)
}

// The faults that tests can switch on are not in the binary that is released:
// nothing that only their builds declare is linked into it.
func TestFaultsAreAbsentFromRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds binaries")
	}
	names := faultNames(t)
	if len(names) < 3 {
		t.Fatalf("found only %d functions of the faults: %v", len(names), names)
	}
	release, faulty := symbols(t, testkit.Binary(t)), symbols(t, testkit.Binary(t, "faults"))
	linked := 0
	for name := range names {
		if strings.Contains(release, " "+name+"\n") {
			t.Errorf("%s is in the release binary", name)
		}
		if strings.Contains(faulty, " "+name+"\n") {
			linked++
		}
	}
	t.Logf("%d functions of the faults, %d of them linked into the binary for tests", len(names), linked)
	if linked < 3 {
		t.Errorf("only %d of %d are in the binary built with the tag: the comparison shows nothing", linked, len(names))
	}
}
