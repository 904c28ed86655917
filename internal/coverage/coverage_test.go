package main

import (
	"strings"
	"testing"
)

const run1 = `{"Action":"output","Package":"github.com/btns-ipsec/btns/policy","Test":"TestPAD/BTNS-CORE-07_no_fall-through","Output":"=== RUN\n"}
{"Action":"pass","Package":"github.com/btns-ipsec/btns/policy","Test":"TestPAD/BTNS-CORE-07_no_fall-through"}
{"Action":"pass","Package":"github.com/btns-ipsec/btns/policy","Test":"TestOther"}
{"Action":"output","Package":"github.com/btns-ipsec/btns/policy","Output":"PASS\n"}
{"Action":"output","Package":"github.com/btns-ipsec/btns/policy","Output":"ok  \tgithub.com/btns-ipsec/btns/policy\t0.1s\n"}
{"Action":"pass","Package":"github.com/btns-ipsec/btns/policy"}
`

// A passing test is silent; a failing or skipped one is shown, and only the failing one is an error.
func TestPrint(t *testing.T) {
	for _, c := range []struct {
		name, in, out, results string
		failed                 bool
	}{
		{"passes", run1, "ok  \tgithub.com/btns-ipsec/btns/policy\t0.1s\n", "pass github.com/btns-ipsec/btns/policy TestPAD/BTNS-CORE-07_no_fall-through\n", false},
		{
			"fails", `{"Action":"output","Package":"p","Test":"TestX","Output":"x_test.go:1: wrong\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestX"}` + "\n",
			"x_test.go:1: wrong\n", "", true,
		},
		{
			"is skipped", `{"Action":"output","Package":"p","Test":"TestBTNS-NULL-01","Output":"left out\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestBTNS-NULL-01"}` + "\n",
			"left out\n", "skip p TestBTNS-NULL-01\n", false,
		},
		{"does not build", `{"ImportPath":"p","Action":"build-output","Output":"x.go:1: syntax error\n"}` + "\n" + `{"ImportPath":"p","Action":"build-fail"}` + "\n", "x.go:1: syntax error\n", "", true},
		{"a line of the compiler", "# p\n", "# p\n", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, results strings.Builder
			err := printEvents(strings.NewReader(c.in), &out, &results)
			if (err != nil) != c.failed || out.String() != c.out || results.String() != c.results {
				t.Errorf("error %v, printed %q, results %q", err, out.String(), results.String())
			}
		})
	}
}

func TestLedger(t *testing.T) {
	for _, c := range []struct{ name, in, err string }{
		{"two rows", "# ledger\nBTNS-CORE-01 | MUST | one\nBTNS-CORE-26 | — | two | the kernel does it\n", ""},
		{"twice the same", "BTNS-CORE-01 | MUST | one\nBTNS-CORE-01 | MUST | one\n", ":2: BTNS-CORE-01 stands there twice"},
		{"an empty reason", "BTNS-CORE-01 | MUST | one |\n", ":1: want ID"},
		{"no strength", "BTNS-CORE-01 | one\n", ":1: want ID"},
		{"nothing", "# nothing\n", "no requirements"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseLedger(c.in)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// Each way in which a requirement can lack its test is noticed.
func TestJudge(t *testing.T) {
	rows := []row{{id: "BTNS-CORE-07", strength: "MUST", text: "no fall-through"}}
	reason := []row{{id: "BTNS-CORE-07", strength: "MUST", text: "no fall-through", reason: "r"}}
	for _, c := range []struct {
		name    string
		rows    []row
		results string
		want    string
	}{
		{"a test that passed", rows, "pass p TestPAD/BTNS-CORE-07\n", ""},
		{"no test", rows, "", "no test that names it has passed"},
		{"a test that was skipped", rows, "skip p TestPAD/BTNS-CORE-07\n", "TestPAD/BTNS-CORE-07 in p: skip"},
		{"one of two failed", rows, "pass p TestPAD/BTNS-CORE-07\nfail q TestX/BTNS-CORE-07\n", "TestX/BTNS-CORE-07 in q: fail"},
		{"a reason and no test", reason, "", ""},
		{"a reason and a test", reason, "pass p TestPAD/BTNS-CORE-07\n", "a reason for having none"},
		{"open, and a test of a part", []row{{id: "BTNS-CORE-07", strength: "MUST", text: "t", reason: "open: half of it"}}, "pass p TestPAD/BTNS-CORE-07\n", ""},
		{"a test of an unknown requirement", rows, "pass p T/BTNS-CORE-07\npass p T/BTNS-CORE-99\n", "stands not in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tests, err := readResults(strings.NewReader(c.results))
			if err != nil {
				t.Fatal(err)
			}
			_, missing := judge(c.rows, tests)
			var text string
			for _, m := range missing {
				text += m.Error() + "\n"
			}
			if (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
				t.Errorf("missing %q, want %q", text, c.want)
			}
		})
	}
}

func TestReplace(t *testing.T) {
	rows := []verdict{
		{row{id: "BTNS-CORE-07", strength: "MUST", text: "no fall-through"}, []result{
			{"pass", "github.com/btns-ipsec/btns/policy", "TestPAD/BTNS-CORE-07"}, {"pass", "github.com/btns-ipsec/btns/ikev2", "TestAuth/BTNS-CORE-07"},
		}},
		{row{id: "BTNS-CORE-08", strength: "MUST", text: "half", reason: "open: half of it"}, []result{{"pass", "github.com/btns-ipsec/btns/ikev2", "TestHalf"}}},
		{row{id: "BTNS-NULL-04", strength: "MUST NOT", text: "EAP", reason: "there is no EAP"}, nil},
	}
	got, err := replace("head\n"+from+"old\n"+to+"tail\n", rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"head\n", "tail\n", "| BTNS-CORE-07 | MUST | no fall-through | `ikev2` TestAuth, `policy` TestPAD |\n",
		"| BTNS-CORE-08 | MUST | half | open: half of it, `ikev2` TestHalf |\n",
		"| BTNS-NULL-04 | MUST NOT | EAP | not applicable: there is no EAP |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if again, err := replace(got, rows); err != nil || again != got {
		t.Errorf("not stable: %v", err)
	}
	if _, err := replace("no markers", rows); err == nil {
		t.Error("a document without markers is taken")
	}
}
