package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEou95tIiosQTTqLiIKYu7uJQkLHVJiRjYTYI+TI6JnR"

func TestKnownPeersText(t *testing.T) {
	k := key(t, 1)
	name := k.Fingerprint().String()
	one := base64.StdEncoding.EncodeToString(key(t, 2).SPKI())
	t.Run("lines that are read", func(t *testing.T) {
		for text, want := range map[string][]string{
			"":                     nil,
			"# only a comment\n\n": nil,
			"203.0.113.7 " + name:  {"203.0.113.7"},
			"\t203.0.113.7,2001:db8::1 " + name + "  # both\r\n": {"203.0.113.7", "2001:db8::1"},
			"Host.Example:22,[other.example]:23 " + name:         {"host.example:22", "other.example:23"},
			"* " + name:                        {"*"},
			name:                               {"*"},
			sshKey + " alice@laptop, 2 of 3\n": {"*"},
			"host.example " + sshKey:           {"host.example"},
			"@revoked * " + name:               {"*"},
			`192.168.1.1 ` + name + ` network="192.168.1.0/24 via 192.168.1.254" level=continuity`: {"192.168.1.1"},
		} {
			es, err := ParseKnown([]byte(text))
			if err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			var got []string
			for _, e := range es {
				got = append(got, e.Record.place().String())
				if e.Bare == strings.Contains(text, "level") || e.Withdrawn != strings.Contains(text, "@revoked") || e.Record.Key.IsZero() {
					t.Errorf("%q: %+v", text, e)
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q: %q", text, got)
			}
		}
	})
	t.Run("an error names line, column and what was expected", func(t *testing.T) {
		for text, want := range map[string]string{
			"203.0.113.7":                                    "line 1, column 12: expected a key",
			"\n203.0.113.7 SHA256:abc":                       "line 2, column 13: expected a key: SHA256",
			"203.0.113.7 MD5:00":                             "line 1, column 13: expected a key",
			"203.0.113.7,, " + name:                          "line 1, column 13: expected an address",
			"203.0.113.7,host..example " + name:              "line 1, column 13: expected an address, a name",
			"bücher.example " + name:                         "line 1, column 1: expected an address, a name",
			"* " + name + " level=high":                      "line 1, column 60: expected first-use",
			"* " + name + " sticky=1":                        "line 1, column 61: expected nothing",
			"* " + name + " sticky sticky":                   "line 1, column 61: expected sticky once",
			"* " + name + " sessions=-1":                     "line 1, column 63: expected a number",
			"* " + name + " first=yesterday":                 "line 1, column 60: expected a time",
			"* " + name + " spki=" + one:                     "line 1, column 59: expected the base64",
			"* " + name + ` network="home"`:                  "line 1, column 1: expected an address, to which",
			"203.0.113.7 " + name + ` network="home"`:        "line 1, column 1: expected an address that belongs",
			"* " + name + ` network="home`:                   "line 1, column 62: expected a closing quote",
			"* " + name + " what":                            "line 1, column 54: expected an attribute",
			"* " + name + " evidence=rule@" + formatTime(t0): "line 1, column 63: expected KIND@TIME",
			"@cert-authority * " + sshKey:                    "line 1, column 1: expected @revoked",
			"* ssh-ed25519 AAAA":                             "line 1, column 15: expected the base64",
			"* ssh-dss AAAA":                                 "line 1, column 3: expected a key",
			"|3|a|b " + name:                                 "line 1, column 1: expected a hashed",
			"ä ä\x01":                                        "line 1, column 4: expected no control",
			"\xff":                                           "line 1, column 1: expected UTF-8",
			strings.Repeat("x", maxLine+1):                   "line 1, column 65537: expected at most",
		} {
			_, err := ParseKnown([]byte(text))
			var e *TextError
			if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%.80q: %v\nwant %s", text, err, want)
			}
		}
	})
	t.Run("BTNS-TRUST-19 the vectors of hashed selectors, and a hashed text finds names (T14)", func(t *testing.T) {
		var salt [32]byte
		for i := range salt {
			salt[i] = byte(i)
		}
		h := HashSelector(salt, "192.0.2.7")
		if !strings.HasSuffix(h, "|LrNRPuDgbCXUQooayMAhPnml5Q9QnN0HmujJZM/HJ20=") || !MatchHashed(h, "192.0.2.7") || MatchHashed(h, "192.0.2.8") {
			t.Errorf("%s", h)
		}
		openSSH := "|1|" + base64.StdEncoding.EncodeToString(salt[:20]) + "|iCClSv7Tbv8odHZMdGWnUQAjWxg="
		if !MatchHashed(openSSH, "192.0.2.7") || MatchHashed(openSSH, "192.0.2.8") || MatchHashed("|1||", "") {
			t.Error("OpenSSH's form")
		}
		records := []Record{
			{Name: "host.example", Key: k.Fingerprint(), Assurance: identity.FirstUse, FirstSeen: t0, LastSeen: t0, Evidence: []Evidence{{Seen, t0}}},
			{Addr: host, Key: k.Fingerprint(), Assurance: identity.FirstUse, FirstSeen: t0, LastSeen: t0, Evidence: []Evidence{{Seen, t0}}},
		}
		text, err := ExportHashed(records, bytes.NewReader(bytes.Repeat([]byte{7}, 64)))
		if err != nil || strings.Contains(text, "host.example") || strings.Contains(text, host.String()) {
			t.Fatalf("%s, %v", text, err)
		}
		es, err := ParseKnown([]byte(text))
		if err != nil || len(es) != 2 || !es[0].Matches("host.example") || es[0].Matches("other.example") || !es[1].Matches(host.String()) {
			t.Fatalf("%+v, %v", es, err)
		}
		b := New(Config{}, []Record{{Addr: host, Key: k.Fingerprint(), Assurance: identity.FirstUse, FirstSeen: t0, LastSeen: t0}})
		_, skipped, err := b.Import(t0, es)
		if err != nil || len(skipped) != 1 || skipped[0].Entry.Line != 2 {
			t.Fatalf("%+v, %v", skipped, err)
		}
		if _, err := ExportHashed(records, bytes.NewReader(nil)); err == nil {
			t.Error("no entropy")
		}
	})
}

// full is a book with one of everything that a record can say.
func full(t testing.TB) *Book {
	b := New(Config{}, nil)
	s1, s2 := signerOf(t, 1), signerOf(t, 2)
	for _, q := range []Query{
		{Addr: host, Key: s1.Public, Name: "host.example:22"},
		{Addr: home, Network: `a "network" \`, Key: s1.Public},
		{Addr: netip.MustParseAddr("198.51.100.50"), Key: key(t, 3), Inbound: true, NAT: true},
		{Addr: netip.MustParseAddr("2001:db8::9"), Key: key(t, 4), Inbound: true},
		{Addr: netip.MustParseAddr("fe80::2%eth0"), Network: "n", Key: key(t, 6)},
	} {
		for i := range 2 {
			must(t)(b.Carried(t0.Add(time.Duration(i)*time.Millisecond), q))
		}
	}
	handOver(t, b, s1, s2, identity.Continuity)
	must(t)(b.Carried(t0, Query{Addr: host, Key: s2.Public}))
	must(t)(b.Verify(t0, home, `a "network" \`, s1.Public.Fingerprint()))
	must(t)(b.Accept(t0, netip.MustParseAddr("198.51.100.7"), "", key(t, 5).Fingerprint()))
	must(t)(b.VerifyKey(t0, key(t, 7).Fingerprint(), identity.PublicKey{}))
	must(t)(b.Revoke(t0, key(t, 6).Fingerprint()))
	b.Suspend(key(t, 4).Fingerprint())
	return b
}

func TestExportIsImported(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	read := func(t *testing.T, text string) []Entry {
		t.Helper()
		es, err := ParseKnown([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return es
	}
	t.Run("what is exported is imported as it was", func(t *testing.T) {
		want := full(t).List()
		text := Export(want)
		b, s := New(Config{}, nil), store{}
		ch, skipped, err := b.Import(t0.Add(time.Hour), read(t, text))
		if err != nil || len(skipped) != 0 {
			t.Fatalf("%v, %+v", err, skipped)
		}
		s.apply(ch)
		got := b.List()
		if !reflect.DeepEqual(got, want) || len(s) != len(want) {
			t.Fatalf("got\n%s\nwant\n%s", Export(got), text)
		}
		if again := Export(got); again != text {
			t.Fatalf("%s\n%s", again, text)
		}
		if ch, _, err := b.Import(t0, read(t, text)); err != nil || !reflect.DeepEqual(b.List(), want) {
			t.Fatalf("a second time changes nothing: %v, %v", err, ch)
		}
	})
	t.Run("a line without a level is the operator's word", func(t *testing.T) {
		b := New(Config{Mode: Strict}, nil)
		if _, _, err := b.Import(t0, read(t, "203.0.113.7 "+k1.Fingerprint().String()+"\n"+sshKey+" alice\n")); err != nil {
			t.Fatal(err)
		}
		judge(t, b, Query{Addr: host, Key: k1}, identity.Verified)
		refused(t, b, Query{Addr: host, Key: k2})
		alice, err := identity.ParseSSHKey("ssh-ed25519", strings.Fields(sshKey)[1])
		if err != nil {
			t.Fatal(err)
		}
		judge(t, b, Query{Addr: home, Key: alice}, identity.Verified)
		if b.Sticky(t0, host, "") {
			t.Fatal("a host that was never protected is not required to be")
		}
		carry(t, b, Query{Addr: host, Key: k1})
		if !b.Sticky(t0, host, "") {
			t.Fatal("remembered means required")
		}
	})
}

func TestImportDisplaces(t *testing.T) {
	k1, k2 := key(t, 1), key(t, 2)
	read := func(t *testing.T, text string) []Entry {
		t.Helper()
		es, err := ParseKnown([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return es
	}
	t.Run("several keys of one address come in side by side", func(t *testing.T) {
		b := New(Config{}, nil)
		text := "203.0.113.7 " + k1.Fingerprint().String() + "\n203.0.113.7 " + k2.Fingerprint().String() + "\n"
		if _, _, err := b.Import(t0, read(t, text)); err != nil {
			t.Fatal(err)
		}
		judge(t, b, Query{Addr: host, Key: k1}, identity.Verified)
		judge(t, b, Query{Addr: host, Key: k2}, identity.Verified)
	})
	t.Run("the operator's word displaces, any other line does not", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1})
		_, skipped, err := b.Import(t0, read(t, "203.0.113.7 "+k2.Fingerprint().String()+" level=continuity"))
		if err != nil || len(skipped) != 1 || b.Len() != 1 {
			t.Fatalf("%v, %+v", err, skipped)
		}
		b.Events()
		if _, _, err = b.Import(t0, read(t, "203.0.113.7 "+k2.Fingerprint().String())); err != nil {
			t.Fatal(err)
		}
		if e := events[Replaced](b); len(e) != 1 || e[0].Why != ByOperator {
			t.Fatalf("%+v", e)
		}
		judge(t, b, Query{Addr: host, Key: k2}, identity.Verified)
	})
	t.Run("BTNS-TRUST-44 @revoked withdraws, and a withdrawn key is not listed again", func(t *testing.T) {
		b := New(Config{}, nil)
		carry(t, b, Query{Addr: host, Key: k1})
		_, skipped, err := b.Import(t0, read(t, "@revoked * "+k1.Fingerprint().String()+"\n* "+k1.Fingerprint().String()))
		if err != nil || len(skipped) != 1 {
			t.Fatalf("%v, %+v", err, skipped)
		}
		if v := b.Judge(t0, Query{Addr: host, Key: k1}); v.Refuse == nil {
			t.Fatal("let in")
		}
	})
	t.Run("BTNS-TRUST-17 a text that does not fit changes nothing", func(t *testing.T) {
		b := New(Config{Max: 2}, nil)
		text := k1.Fingerprint().String() + "\n" + k2.Fingerprint().String() + "\n" + key(t, 3).Fingerprint().String()
		if ch, _, err := b.Import(t0, read(t, text)); !errors.Is(err, ErrFull) || len(ch) != 0 || b.Len() != 0 {
			t.Fatalf("%v, %v", ch, err)
		}
	})
}

// FuzzParseKnown: no text panics, and what is read survives being written and read again.
func FuzzParseKnown(f *testing.F) {
	f.Add([]byte(Export(full(f).List())))
	f.Add([]byte("host.example:22,[::1]:2 " + sshKey + " c\n@revoked * " + key(f, 1).Fingerprint().String()))
	f.Add([]byte("|2|AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=|LrNRPuDgbCXUQooayMAhPnml5Q9QnN0HmujJZM/HJ20= " + key(f, 1).Fingerprint().String()))
	f.Fuzz(func(t *testing.T, text []byte) {
		es, err := ParseKnown(text)
		if err != nil {
			var e *TextError
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 {
				t.Fatalf("%v", err)
			}
			return
		}
		var want []Record
		for _, e := range es {
			if e.Record.Assurance != 0 && e.Hashed == "" {
				want = append(want, e.Record)
			}
		}
		again, err := ParseKnown([]byte(Export(want)))
		if err != nil || len(again) != len(want) {
			t.Fatalf("%v of %s", err, Export(want))
		}
		for i := range want {
			if !reflect.DeepEqual(again[i].Record, want[i]) {
				t.Fatalf("%+v\n%+v", again[i].Record, want[i])
			}
		}
		b := New(Config{Max: 100}, nil)
		if _, _, err := b.Import(t0, es); err == nil && b.Len() > 100 {
			t.Fatal("more than fits")
		}
	})
}
