package archtest_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// rule is the list's entry for a package and the height of its layer; packages
// for tests only stand above everything.
func rule(dir string) (n node, height int, ok bool) {
	for height, layer := range layers {
		if n, ok := layer[dir]; ok {
			return n, height, true
		}
	}
	n, ok = testOnly[dir]
	return n, len(layers), ok
}

// checkGraph reports packages and imports that the list does not have.
func checkGraph(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		n, height, ok := rule(s.dir)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: package %s is not in the list", s.path, s.dir))
			continue
		}
		for _, imported := range s.imports {
			if problem := checkImport(s, n, height, imported); problem != "" {
				wrong = append(wrong, fmt.Sprintf("%s: %s", s.path, problem))
			}
		}
	}
	return wrong
}

func checkImport(s source, n node, height int, imported string) string {
	own, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours && s.test:
		return checkTestImport(s.dir, height, own)
	case ours && !slices.Contains(n.own, own):
		return "import of " + own + " is not in the list"
	case external(imported) && !s.test && !within(imported, n.third):
		return "import of " + imported + " is not in the list"
	}
	return ""
}

// checkTestImport lets a test use its own package, what is not above it, and
// what is there for tests.
func checkTestImport(dir string, height int, own string) string {
	if _, forTests := testOnly[own]; forTests || own == dir {
		return ""
	}
	if _, other, ok := rule(own); !ok || other > height {
		return "a test imports " + own + " from a layer above"
	}
	return ""
}

// checkLayers reports edges of the list that do not go downward.
func checkLayers() []string {
	var wrong []string
	for height, layer := range layers {
		for dir, n := range layer {
			for _, own := range n.own {
				if _, lower, ok := rule(own); !ok || lower >= height {
					wrong = append(wrong, dir+" -> "+own+" does not go downward")
				}
			}
		}
	}
	return wrong
}

// checkCore reports what would make the core depend on more than its arguments.
func checkCore(sources []source) []string {
	var wrong []string
	for _, s := range sources {
		if s.test || !slices.Contains(core, s.dir) {
			continue
		}
		for _, imported := range s.imports {
			if slices.Contains(forbiddenInCore, imported) || strings.HasPrefix(imported, "net/") || strings.HasPrefix(imported, "os/") {
				wrong = append(wrong, fmt.Sprintf("%s: imports %s", s.path, imported))
			}
		}
		ast.Inspect(s.tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				wrong = append(wrong, s.at(n)+": starts a goroutine")
			case *ast.SelectStmt:
				wrong = append(wrong, s.at(n)+": selects by chance")
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clockFunctions, n.Sel.Name) {
					wrong = append(wrong, s.at(n)+": asks the clock with time."+n.Sel.Name)
				}
			}
			return true
		})
	}
	return wrong
}

// checkFaults reports fault hooks that a release build would hold: outside of
// files with the tag "faults", nothing is declared as a fault except functions
// that a file of release builds replaces by nothing.
func checkFaults(sources []source) []string {
	var wrong []string
	empty := map[string]bool{} // directory and name of the replacements
	for _, s := range sources {
		if s.test || !s.releaseOnly() {
			continue
		}
		for _, decl := range s.tree.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			empty[s.dir+"."+f.Name.Name] = true
			if !doesNothing(f) {
				wrong = append(wrong, s.at(f)+": "+f.Name.Name+" stands for a fault hook in release builds and does something")
			}
		}
	}
	for _, s := range sources {
		if s.test || s.faultsOnly() || s.releaseOnly() || testPackage(s.dir) {
			continue
		}
		for _, id := range declared(s.tree) {
			if namesFault(id.Name) && !empty[s.dir+"."+id.Name] {
				wrong = append(wrong, s.at(id)+": "+id.Name+" is in release builds")
			}
		}
	}
	return wrong
}

// declared are the names a file gives to functions, methods, types, fields, and
// variables and constants of the package.
func declared(tree *ast.File) []*ast.Ident {
	var names []*ast.Ident
	for _, decl := range tree.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			names = append(names, f.Name)
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				names = append(names, n.Name)
			case *ast.ValueSpec:
				names = append(names, n.Names...)
			case *ast.Field:
				names = append(names, n.Names...)
			case *ast.FuncLit:
				return false
			}
			return true
		})
	}
	return names
}

// doesNothing tells whether a function's body is empty or one plain return.
func doesNothing(f *ast.FuncDecl) bool {
	if f.Body == nil || len(f.Body.List) == 0 {
		return true
	}
	ret, ok := f.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(f.Body.List) > 1 {
		return false
	}
	for _, result := range ret.Results {
		switch result.(type) {
		case *ast.BasicLit, *ast.Ident, *ast.CompositeLit:
		default:
			return false
		}
	}
	return true
}

// namesFault tells whether a name speaks of faults; "default" does not.
func namesFault(name string) bool {
	return strings.Contains(strings.ReplaceAll(strings.ToLower(name), "default", ""), "fault")
}

func testPackage(dir string) bool {
	_, ok := testOnly[dir]
	return ok
}
