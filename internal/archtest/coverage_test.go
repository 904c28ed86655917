package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	covered = regexp.MustCompile(`(?m)^\| (BTNS-[A-Z]+-\d+) \|.*\| (tested|done) \|`)
	cited   = regexp.MustCompile(`BTNS-([A-Z]+)-(\d+(?:(?:, | and |, -|/)-?\d+)*)`)
	number  = regexp.MustCompile(`\d+`)
)

// What docs/coverage.md calls tested is named by a test, and what it calls done is named by the code.
func TestCoverageIsTrue(t *testing.T) {
	const root = "../.."
	doc, err := os.ReadFile(filepath.Join(root, "docs", "coverage.md"))
	if err != nil {
		t.Fatal(err)
	}
	byTest, byCode := map[string]bool{}, map[string]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := byCode
		if strings.HasSuffix(path, "_test.go") {
			found = byTest
		}
		for _, m := range cited.FindAllStringSubmatch(string(text), -1) {
			for _, n := range number.FindAllString(m[2], -1) {
				found["BTNS-"+m[1]+"-"+n] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := covered.FindAllStringSubmatch(string(doc), -1)
	if len(rows) == 0 {
		t.Fatal("no rows found: has the table another form?")
	}
	for _, row := range rows {
		if id, status := row[1], row[2]; status == "tested" && !byTest[id] {
			t.Errorf("%s is called tested, and no test names it", id)
		} else if status == "done" && !byCode[id] && !byTest[id] {
			t.Errorf("%s is called done, and no code names it", id)
		}
	}
}
