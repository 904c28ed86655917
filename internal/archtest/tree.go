package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Check reads the tree below root and returns every place that goes against r, sorted, as "file:line: what".
func Check(root string, r Rules) ([]string, error) {
	c := checker{root: root, rules: r, fset: token.NewFileSet(), packages: map[string][]source{}}
	if err := filepath.WalkDir(root, c.visit); err != nil {
		return nil, err
	}
	for dir, files := range c.packages {
		c.checkPackage(dir, files)
	}
	slices.Sort(c.found)
	return c.found, nil
}

type checker struct {
	root     string
	rules    Rules
	fset     *token.FileSet
	packages map[string][]source // by directory below root, with slashes
	found    []string
}

type source struct {
	path string // below root
	file *ast.File
	test bool
}

func (c *checker) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name := d.Name()
	if d.IsDir() {
		if path != c.root && (name == "testdata" || name == "tools" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
			return filepath.SkipDir
		}
		return nil
	}
	if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return nil
	}
	f, err := parser.ParseFile(c.fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.root, path)
	if err != nil {
		return err
	}
	rel = filepath.ToSlash(rel)
	dir, _ := filepath.Split(rel)
	dir = strings.TrimSuffix(dir, "/")
	c.packages[dir] = append(c.packages[dir], source{path: rel, file: f, test: strings.HasSuffix(name, "_test.go")})
	return nil
}

func (c *checker) checkPackage(dir string, files []source) {
	layer, known := c.rules.Layers[dir]
	if !known {
		c.report(files[0], files[0].file.Package, "package %q is not in the table of internal/archtest/rules.go", dir)
	}
	documented, code := false, false
	for _, s := range files {
		if s.file.Doc != nil {
			documented = true
		}
		c.checkName(s)
		c.checkSizes(s)
		if s.test {
			continue
		}
		code = true
		if known {
			c.checkImports(s, dir, layer)
		}
		if layer.Pure {
			c.checkPure(s, layer.Allow)
		}
		c.checkDocs(s)
	}
	if code && !documented {
		c.report(files[0], files[0].file.Package, "package %s has no doc comment", files[0].file.Name.Name)
	}
}

func (c *checker) checkName(s source) {
	if name := s.file.Name.Name; slices.Contains(c.rules.BannedNames, name) {
		c.report(s, s.file.Package, "a package called %s says nothing", name)
	}
}

func (c *checker) checkImports(s source, dir string, layer Layer) {
	for _, i := range s.file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if ours, ok := strings.CutPrefix(path, Module+"/"); ok || path == Module {
			if !slices.Contains(layer.Imports, ours) {
				c.report(s, i.Pos(), "%s must not import %s", dir, ours)
			}
			continue
		}
		for foreign, allowed := range c.rules.Only {
			if under(path, foreign) && !slices.Contains(allowed, dir) {
				c.report(s, i.Pos(), "%s is for %s only", foreign, strings.Join(allowed, ", "))
			}
		}
	}
}

// under says whether path is prefix or lies below it; a major version (/v2) is below.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func (c *checker) report(s source, pos token.Pos, format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf("%s:%d: %s", s.path, c.fset.Position(pos).Line, fmt.Sprintf(format, args...)))
}
