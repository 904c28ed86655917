package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Error is one thing that is wrong with a file.
type Error struct {
	File         string
	Line, Column int    // 0: the file as a whole
	Key          string // such as "peer[1].address"
	Text         string // what is wrong, and what would be right
}

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	if e.Key == "" {
		return fmt.Sprintf("%s: %s", where, e.Text)
	}
	return fmt.Sprintf("%s: %s: %s", where, e.Key, e.Text)
}

type position struct{ line, column int }

// positions finds where every key stands: "peer[1].address" to line and column. The text is known to be sound TOML.
func positions(text []byte) map[string]position {
	out := map[string]position{}
	var p unstable.Parser
	p.Reset(text)
	prefix, count := "", map[string]int{}
	note := func(path string, n *unstable.Node) {
		if _, ok := out[path]; ok || n == nil {
			return
		}
		at := p.Shape(n.Raw).Start
		out[path] = position{at.Line, at.Column}
	}
	for p.NextExpression() {
		n := p.Expression()
		path, first := keyPath(n, count, n.Kind == unstable.ArrayTable)
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			prefix = path
			note(path, first)
		case unstable.KeyValue:
			note(join(prefix, path), first)
			inline(join(prefix, path), n.Value(), note)
		}
	}
	return out
}

// inline notes the keys inside an inline table.
func inline(prefix string, v *unstable.Node, note func(string, *unstable.Node)) {
	if v == nil || v.Kind != unstable.InlineTable {
		return
	}
	for it := v.Children(); it.Next(); {
		path, first := keyPath(it.Node(), nil, false)
		note(join(prefix, path), first)
		inline(join(prefix, path), it.Node().Value(), note)
	}
}

// keyPath joins the parts of a key. A new element of an array of tables gets the next index, and a part that is such an
// array the index of its last element.
func keyPath(n *unstable.Node, count map[string]int, element bool) (path string, first *unstable.Node) {
	var parts []string
	for it := n.Key(); it.Next(); {
		if first == nil {
			first = it.Node()
		}
		parts = append(parts, string(it.Node().Data))
	}
	path = strings.Join(parts, ".")
	if element {
		count[path]++
	}
	if k := count[path]; k > 0 && (element || n.Kind == unstable.Table) {
		path = fmt.Sprintf("%s[%d]", path, k-1)
	}
	return path, first
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}
