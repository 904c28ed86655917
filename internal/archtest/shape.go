package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// checkSizes holds files, functions and structs to the limits. A table inside a function does not count: it is read
// line by line, not held in the head.
func (c *checker) checkSizes(s source) {
	if n := c.fset.File(s.file.Package).LineCount(); n > c.rules.FileLines {
		c.report(s, s.file.Package, "the file has %d lines, more than %d", n, c.rules.FileLines)
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if l := c.lines(n) - c.tables(n); l > c.rules.FuncLines {
				c.report(s, n.Pos(), "%s has %d lines, more than %d", n.Name.Name, l, c.rules.FuncLines)
			}
		case *ast.StructType:
			if mirror(n) {
				return true
			}
			if l := n.Fields.NumFields(); l > c.rules.StructFields {
				c.report(s, n.Pos(), "the struct has %d fields, more than %d", l, c.rules.StructFields)
			}
		}
		return true
	})
}

// mirror says whether a struct is the image of a document, such as a table of the configuration: that is as wide as it is.
func mirror(s *ast.StructType) bool {
	return s.Fields != nil && len(s.Fields.List) > 0 && s.Fields.List[0].Tag != nil
}

// tables counts the lines of literals inside f that take more than one.
func (c *checker) tables(f *ast.FuncDecl) int {
	lines := 0
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || c.lines(lit) == 1 {
			return true
		}
		lines += c.lines(lit) - 1
		return false
	})
	return lines
}

// selfEvident are methods whose name says what they do, because an interface of the standard library does.
var selfEvident = []string{
	"Error", "Unwrap", "Is", "As", "String", "GoString", "Format", "LogValue", "MarshalText", "UnmarshalText", "MarshalJSON",
	"UnmarshalJSON", "Len", "Less", "Swap", "Push", "Pop",
}

// checkDocs wants a comment on every exported name, or on the group that it stands in.
func (c *checker) checkDocs(s source) {
	if s.file.Name.Name == "main" {
		return
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !(d.Recv != nil && slices.Contains(selfEvident, d.Name.Name)) {
				c.report(s, d.Pos(), "%s has no doc comment", d.Name.Name)
			}
		case *ast.GenDecl:
			c.checkGroup(s, d)
		}
	}
}

func (c *checker) checkGroup(s source, d *ast.GenDecl) {
	enumeration := false // the constants of a type are explained by the type
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
				c.report(s, spec.Pos(), "%s has no doc comment", spec.Name.Name)
			}
		case *ast.ValueSpec:
			enumeration = d.Tok == token.CONST && (enumeration || spec.Type != nil || typedCall(spec))
			if d.Doc != nil || spec.Doc != nil || spec.Comment != nil || enumeration || sentinel(spec) {
				continue
			}
			for _, n := range spec.Names {
				if n.IsExported() {
					c.report(s, n.Pos(), "%s has no doc comment", n.Name)
				}
			}
		}
	}
}

// sentinel says whether a value is an error whose text says what it means.
func sentinel(spec *ast.ValueSpec) bool {
	if len(spec.Values) != 1 {
		return false
	}
	call, ok := spec.Values[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "New" && strings.HasPrefix(spec.Names[0].Name, "Err")
}

// typedCall says whether a constant is written as T(1).
func typedCall(spec *ast.ValueSpec) bool {
	if len(spec.Values) == 0 {
		return false
	}
	_, ok := spec.Values[0].(*ast.CallExpr)
	return ok
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}
