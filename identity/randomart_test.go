package identity

import (
	"strings"
	"testing"
)

// The pictures are those that ssh-keygen -lv (OpenSSH 9) draws for these fingerprints; fingerprints of SSH keys, since
// the picture depends on nothing else.
func TestRandomartAsOpenSSH(t *testing.T) {
	for title, c := range map[string]struct{ name, art string }{
		"ED25519 256": {"SHA256:H8y5BWXp0dfsggqt3S7O+HBkxhFcxi1Bf7Z9bhvqQ4k", `
+--[ED25519 256]--+
|         ..+B= ..|
|          .==.o +|
|         .o. +.oo|
|        .+.+o .o+|
|        S+Xoo .oo|
|        .=oE.o ..|
|        . +..  .o|
|         =. ....o|
|        .o+..o.. |
+----[SHA256]-----+`},
		"RSA 2048": {"SHA256:GWQLOzX9BwACzlxyyDO6n6fEKViQxGLMML7YABgP+Bc", `
+---[RSA 2048]----+
|&o .oo= *o..     |
|BX +E+ B o. .    |
|*o..++o o  . .   |
|.++ .  . o  . .  |
|..oo    S    .   |
| o.. .           |
|. ..+.           |
|   oo .          |
|    .o           |
+----[SHA256]-----+`},
	} {
		f, err := ParseFingerprint(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Randomart(title); got != strings.TrimPrefix(c.art, "\n") {
			t.Errorf("%s:\n%s\nwant%s", title, got, c.art)
		}
	}
}

func TestRandomartFrame(t *testing.T) {
	for _, title := range []string{"", "x", strings.Repeat("long", 20)} {
		for line := range strings.Lines(Fingerprint{1}.Randomart(title)) {
			if len(strings.TrimSuffix(line, "\n")) != artWidth+2 {
				t.Errorf("%q: %q", title, line)
			}
		}
	}
	if a, b := (Fingerprint{1}).Randomart(""), (Fingerprint{2}).Randomart(""); a == b {
		t.Error("two keys, one picture")
	}
}
