package archtest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tree keeps the picture of ARCHITECTURE.md.
func TestHouse(t *testing.T) {
	found, err := Check("../..", House)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// Every row of the table names a package that only looks down: no cycle, no unknown name.
func TestTableIsAcyclic(t *testing.T) {
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(p, from string)
	visit = func(p, from string) {
		l, ok := House.Layers[p]
		if !ok {
			t.Errorf("%s may import %s, which has no row", from, p)
			return
		}
		if state[p] == visiting {
			t.Errorf("the table allows a cycle through %s", p)
		}
		if state[p] != 0 {
			return
		}
		state[p] = visiting
		for _, i := range l.Imports {
			if l.Pure && !House.Layers[i].Pure {
				t.Errorf("%s is pure and may import %s, which is not", p, i)
			}
			visit(i, p)
		}
		state[p] = done
	}
	for p := range House.Layers {
		visit(p, "the table")
	}
}

// Each check can fail: testdata/broken breaks every rule once or more, and says where.
func TestBrokenTreeIsCaught(t *testing.T) {
	root := filepath.Join("testdata", "broken")
	rules := Rules{
		Layers: map[string]Layer{
			"vocabulary": {Pure: true},
			"decider":    {Pure: true, Imports: []string{"vocabulary"}, Allow: []string{"sync/atomic"}},
			"sideways":   {Pure: true, Imports: []string{"vocabulary"}},
			"long":       {},
			"util":       {},
			"bare":       {},
		},
		Only:         map[string][]string{"example.org/netlink": {"long"}},
		BannedNames:  House.BannedNames,
		FileLines:    60,
		FuncLines:    12,
		StructFields: 4,
	}
	found, err := Check(root, rules)
	if err != nil {
		t.Fatal(err)
	}
	want := wanted(t, root)
	for _, w := range want {
		if !slices.Contains(found, w) {
			t.Errorf("not caught: %s", w)
		}
	}
	for _, f := range found {
		if !slices.Contains(want, f) {
			t.Errorf("caught, but nothing is wrong: %s", f)
		}
	}
}

var wantComment = regexp.MustCompile(`// want(-next)? (.*)$`)

// wanted reads the expectations at the ends of lines: // want what; what else. Or, of the line below: // want-next what.
func wanted(t *testing.T, root string) []string {
	t.Helper()
	var want []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		sc := bufio.NewScanner(f)
		for line := 1; sc.Scan(); line++ {
			m := wantComment.FindStringSubmatch(sc.Text())
			if m == nil {
				continue
			}
			at := line
			if m[1] != "" {
				at++
			}
			for what := range strings.SplitSeq(m[2], "; ") {
				want = append(want, fmt.Sprintf("%s:%d: %s", filepath.ToSlash(rel), at, what))
			}
		}
		return sc.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return want
}
