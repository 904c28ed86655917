//go:build lab

package lab

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/lab/netlab"
)

// id is what btns id says.
type id struct {
	Name string `json:"name"`
	Next *struct {
		Name string `json:"name"`
		Told int    `json:"told"`
	} `json:"next"`
	Revocation string `json:"revocation"`
}

func ownID(t *testing.T, d *netlab.Btns) (v id) {
	t.Helper()
	if err := json.Unmarshal([]byte(d.Run("id", "--json")), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// comparison is what btns trust compare shows.
type comparison struct {
	Words  string `json:"short_words"`
	Digits string `json:"short_digits"`
}

func parseComparison(t *testing.T, text string, err error) (c comparison) {
	t.Helper()
	if err == nil {
		err = json.Unmarshal([]byte(text), &c)
	}
	if err != nil || c.Words == "" {
		t.Fatalf("%s, %v", text, err)
	}
	return c
}

// Two people at two machines compare the short string of their session; one of the two plans another key, is restarted, and then
// ends its key altogether.
func TestKeys(t *testing.T) {
	t.Parallel()
	a, b, _ := netlab.New(t).Pair()
	da, db := a.Btns(""), b.Btns("")
	da.Wait(netlab.B4)
	if n := a.Ping(netlab.B4, 5); n == 0 {
		t.Fatal("no ping came back")
	}
	type answer struct {
		text string
		err  error
	}
	theirs := make(chan answer, 1)
	go func() {
		text, err := db.Try("trust", "compare", netlab.A4, "--json", "--timeout", "60s")
		theirs <- answer{text, err}
	}()
	text, err := da.Try("trust", "compare", netlab.B4, "--json", "--timeout", "60s")
	mine := parseComparison(t, text, err)
	got := <-theirs
	if yours := parseComparison(t, got.text, got.err); mine != yours {
		t.Fatalf("a sees %+v, b %+v", mine, yours)
	}
	da.Run("trust", "compare", netlab.B4, "--same", mine.Words)
	if p := da.Peer(netlab.B4); p.Assurance != "verified" {
		t.Fatalf("%+v", p)
	}

	db.Run("id", "rotate", "--lead", "30d")
	planned := ownID(t, db)
	if planned.Next == nil || planned.Next.Name == planned.Name {
		t.Fatalf("%+v", planned)
	}
	for end := time.Now().Add(30 * time.Second); ownID(t, db).Next.Told != 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a was not told within 30s:\n%s", db.Log())
		}
	}
	db.Stop()
	db.Restart()
	db.Wait(netlab.A4)
	if v := ownID(t, db); v.Name != planned.Name || v.Next == nil || v.Next.Name != planned.Next.Name {
		t.Fatalf("after a restart: %+v, before: %+v", v, planned)
	}

	db.Run("id", "revoke", "--yes")
	after := ownID(t, db)
	if after.Name == planned.Name || after.Next != nil || !strings.HasPrefix(after.Revocation, "btns-revocation ") {
		t.Fatalf("%+v", after)
	}
	shown := ""
	for end := time.Now().Add(30 * time.Second); !strings.Contains(shown, "revoked "); time.Sleep(100 * time.Millisecond) {
		if shown = da.Run("trust", "show", planned.Name); time.Now().After(end) {
			t.Fatalf("a does not know of it within 30s:\n%s\n%s", shown, da.Log())
		}
	}
	if text, err := db.Try("wait", netlab.A4, "--timeout", "5s"); err == nil {
		t.Fatalf("a key that nobody has accepted is let in: %s", text)
	}
	da.Run("trust", "accept", netlab.B4, after.Name)
	da.Wait(netlab.B4)
}
