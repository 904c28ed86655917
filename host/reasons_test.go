package host

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/ikev2"
)

var update = flag.Bool("update", false, "write docs/troubleshooting.md")

// Every reason has one code, a sentence, and a hint that is one.
func TestReasonsAreComplete(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[Reason]bool{}
	for _, g := range Reasons() {
		for _, m := range g.All() {
			if !code.MatchString(string(m.Reason)) || seen[m.Reason] {
				t.Errorf("%q: not a code, or twice", m.Reason)
			}
			seen[m.Reason] = true
			if !strings.HasSuffix(m.Text, ".") || len(m.Text) < 20 {
				t.Errorf("%s: %q is no sentence", m.Reason, m.Text)
			}
			if !m.Reason.Known() || m.Reason.Meaning() != m {
				t.Errorf("%s is not found", m.Reason)
			}
		}
	}
	for r := range ikev2.Reasons {
		if !ikeReason(ikev2.Reason(r)).Known() {
			t.Errorf("ikev2 knows %q, the table does not", ikev2.Reason(r))
		}
	}
	for r := 1; r < flow.Reasons; r++ {
		if !packetReason(flow.Reason(r)).Known() {
			t.Errorf("flow knows %q, the table does not", flow.Reason(r))
		}
	}
	if Reason("nonsense").Known() {
		t.Error("a reason that does not exist is known")
	}
}

// Whatever the code emits as a reason stands in the table: constants do, and nothing else is written down as one.
func TestEmittedReasonsAreKnown(t *testing.T) {
	constants := map[string]string{}
	var files []*ast.File
	set := token.NewFileSet()
	for _, dir := range []string{".", "../engine"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			lit, isLit := spec.Values[0].(*ast.BasicLit)
			if id, ok := spec.Type.(*ast.Ident); ok && isLit && id.Name == "Reason" {
				constants[spec.Names[0].Name] = strings.Trim(lit.Value, `"`)
			}
			return true
		})
	}
	if len(constants) < 20 {
		t.Fatalf("only %d constants found", len(constants))
	}
	for name, code := range constants {
		if !Reason(code).Known() {
			t.Errorf("%s = %q has no row", name, code)
		}
	}
	emitted := 0
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			kv, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			if key, ok := kv.Key.(*ast.Ident); !ok || key.Name != "Reason" && key.Name != "reason" {
				return true
			}
			emitted++
			if lit, ok := kv.Value.(*ast.BasicLit); ok && !Reason(strings.Trim(lit.Value, `"`)).Known() {
				t.Errorf("%s: reason %s has no row", set.Position(lit.Pos()), lit.Value)
			}
			return true
		})
	}
	if emitted < 20 {
		t.Errorf("only %d places found that emit a reason", emitted)
	}
}

// docs/troubleshooting.md is the table: go test ./host -run TestTroubleshooting -update.
func TestTroubleshooting(t *testing.T) {
	const path = "../docs/troubleshooting.md"
	var b bytes.Buffer
	b.WriteString(`# Troubleshooting

First ask ` + "`btns status`" + ` (is it working, and what is wrong) and ` + "`btns explain HOST`" + ` (why traffic with one host is, or is not,
protected, and the one next thing to do). ` + "`btns watch --debug`" + ` shows what happens while it happens.

Every failure has a stable code. It stands in the log and in ` + "`btns watch --json`" + ` as ` + "`reason`" + `, in ` + "`btns peers --json`" + ` and
` + "`btns explain --json`" + ` as ` + "`reason`" + `, and in ` + "`btns status`" + ` as the name of a count. This page is generated from the table in the
code: ` + "`go test ./host -run TestTroubleshooting -update`" + `.
`)
	for _, g := range Reasons() {
		fmt.Fprintf(&b, "\n## %s\n\n| code | means | what to do |\n| --- | --- | --- |\n", g.Title)
		for _, m := range g.All() {
			hint := m.Hint
			if hint == "" {
				hint = "-"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Reason, strings.ReplaceAll(m.Text, "|", "\\|"), strings.ReplaceAll(hint, "|", "\\|"))
		}
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not what the table says; run: go test ./host -run TestTroubleshooting -update", path)
	}
}
