package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// bannedImports are the packages that a pure package must not import directly: I/O, clocks, locks, logs, entropy. What
// they import in turn does not matter (crypto/x509 imports net).
var bannedImports = []string{
	"bufio", "context", "crypto/rand", "database/sql", "embed", "flag", "io/fs", "io/ioutil", "log", "math/rand", "net",
	"os", "path/filepath", "plugin", "runtime", "sync", "syscall", "testing", "unsafe", "golang.org/x/sys",
}

// exceptions of bannedImports: net/netip is a vocabulary; of log/slog come the values by which a secret hides itself; of
// math/rand/v2 a generator with a seed that the caller gave.
var exceptions = []string{"net/netip", "log/slog", "math/rand/v2"}

// bannedNames are what a pure package must not take from an import that it may have.
var bannedNames = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"math/rand/v2": {
		"Float32", "Float64", "Int", "Int32", "Int32N", "Int64", "Int64N", "IntN", "N", "NormFloat64", "ExpFloat64", "Perm",
		"Shuffle", "Uint", "Uint32", "Uint32N", "Uint64", "Uint64N", "UintN",
	},
	"log/slog": {
		"Debug", "DebugContext", "Default", "Error", "ErrorContext", "Info", "InfoContext", "Log", "LogAttrs", "Logger", "New",
		"NewJSONHandler", "NewTextHandler", "SetDefault", "Warn", "WarnContext", "With",
	},
}

func (c *checker) checkPure(s source, allow []string) {
	names := map[string]string{} // local name of an import -> its path
	for _, i := range s.file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		for _, b := range bannedImports {
			if under(path, b) && !underAny(path, exceptions) && !slices.Contains(allow, path) {
				c.report(s, i.Pos(), "a pure package must not import %s", path)
			}
		}
		name := strings.TrimSuffix(path, "/v2")
		name = name[strings.LastIndex(name, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = path
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		c.checkPureNode(s, n, names)
		return true
	})
}

func (c *checker) checkPureNode(s source, n ast.Node, names map[string]string) {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.report(s, n.Pos(), "a pure package must not start a goroutine")
	case *ast.ChanType:
		c.report(s, n.Pos(), "a pure package has no use for a channel")
	case *ast.FuncDecl:
		if n.Recv == nil && n.Name.Name == "init" {
			c.report(s, n.Pos(), "a pure package must not have an init function")
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "panic" || id.Name == "print" || id.Name == "println") {
			c.report(s, n.Pos(), "a pure package must not call %s", id.Name)
		}
	case *ast.SelectorExpr:
		c.checkSelector(s, n, names)
	}
}

func (c *checker) checkSelector(s source, n *ast.SelectorExpr, names map[string]string) {
	id, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	for _, banned := range bannedNames[names[id.Name]] {
		if n.Sel.Name == banned {
			c.report(s, n.Pos(), "a pure package must not use %s.%s", id.Name, banned)
		}
	}
}

func underAny(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if under(path, p) {
			return true
		}
	}
	return false
}

// lines is how many lines a node takes.
func (c *checker) lines(n ast.Node) int {
	return c.line(n.End()) - c.line(n.Pos()) + 1
}

func (c *checker) line(p token.Pos) int { return c.fset.Position(p).Line }
