package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func repeated(b byte) (out [32]byte) {
	copy(out[:], bytes.Repeat([]byte{b}, 32))
	return out
}

// compareVia runs a comparison whose messages pass through tamper, which may replace them.
func compareVia(ours, theirs Binding, na, nb [32]byte, tamper func(step int, m []byte) []byte) (a, b ShortString, err error) {
	i, commit := CompareShortString(ours, na)
	r, nonce, err := AnswerShortString(theirs, nb, tamper(1, commit))
	if err != nil {
		return a, b, err
	}
	a, reveal, err := i.Nonce(tamper(2, nonce))
	if err != nil {
		return a, b, err
	}
	b, err = r.Reveal(tamper(3, reveal))
	return a, b, err
}

func honest(_ int, m []byte) []byte { return m }

// BTNS-TRUST-53; TRUST-T19: the vector of trust.md §7.
func TestShortStringVector(t *testing.T) {
	t.Run("BTNS-TRUST-53 the commitment, the words and the digits of the vector", func(t *testing.T) {
		b, err := hex.DecodeString("3fcca1cfb30ecc444c7fe4ec847f16102adbcf6f9d29131f0f93156c3c5bd3de")
		if err != nil {
			t.Fatal(err)
		}
		_, commit := CompareShortString(Binding(b), repeated(1))
		if got := hex.EncodeToString(commit[2:]); got != "a99cbdfea475512a189f16744bdab70202fb4ef1712c70b947429c07242ee1a4" {
			t.Errorf("commitment %s", got)
		}
		mine, yours, err := compareVia(Binding(b), Binding(b), repeated(1), repeated(2), honest)
		if want := (ShortString{"ARMY OAK", "437290"}); err != nil || mine != want || yours != want {
			t.Errorf("%v, %v, %v", mine, yours, err)
		}
	})
}

// BTNS-TRUST-53: equal on two honest ends, different when a man in the middle runs a comparison with each of them.
func TestShortStringShowsTheManInTheMiddle(t *testing.T) {
	t.Run("BTNS-TRUST-53 a nonce that was not committed to is found out", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		random := func() (b [32]byte) {
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		}
		for range 200 {
			na, nb, whole := random(), random(), Binding(random())
			mine, yours, err := compareVia(whole, whole, na, nb, honest)
			if err != nil || mine != yours || len(strings.Fields(mine.Words)) != 2 || len(mine.Digits) != 6 {
				t.Fatalf("honest ends: %v, %v, %v", mine, yours, err)
			}
			// In the middle there are two IKE SAs, hence two bindings. He passes the messages on, the best he can do without
			// guessing: his own nonces are worth no more.
			mine, yours, err = compareVia(whole, Binding(random()), na, nb, honest)
			if err != nil || mine.Words == yours.Words || mine.Digits == yours.Digits {
				t.Fatalf("with a man in the middle: %v, %v, %v", mine, yours, err)
			}
			// Towards the responder he is bound before he sees Nb: another nonce than the committed one is found out.
			if _, _, err := compareVia(whole, whole, na, nb, func(step int, m []byte) []byte {
				if step == 3 {
					return shortStringMessage(kindReveal, random())
				}
				return m
			}); !errors.Is(err, ErrCommitment) {
				t.Fatalf("a nonce that was not committed to: %v", err)
			}
		}
	})
}

// trust.md §7: one attempt for each action of a user, and nothing but the expected message.
func TestShortStringTakesOneAttempt(t *testing.T) {
	i, commit := CompareShortString(Binding{}, repeated(1))
	r, nonce, err := AnswerShortString(Binding{}, repeated(2), commit)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string][]byte{"nothing": nil, "cut": nonce[:33], "long": append(bytes.Clone(nonce), 0), "another kind": commit, "another version": append([]byte{2}, nonce[1:]...)} {
		if _, _, err := i.Nonce(m); !errors.Is(err, ErrShortString) {
			t.Errorf("initiator took %s: %v", name, err)
		}
	}
	_, reveal, err := i.Nonce(nonce)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.Nonce(nonce); !errors.Is(err, ErrShortString) {
		t.Errorf("a second nonce would be a second guess: %v", err)
	}
	if _, err := r.Reveal(shortStringMessage(kindReveal, repeated(9))); !errors.Is(err, ErrCommitment) {
		t.Fatal(err)
	}
	if _, err := r.Reveal(reveal); !errors.Is(err, ErrShortString) {
		t.Errorf("a second guess: %v", err)
	}
	if _, _, err := AnswerShortString(Binding{}, repeated(2), reveal); !errors.Is(err, ErrShortString) {
		t.Errorf("began with the end: %v", err)
	}
}

func FuzzShortString(f *testing.F) {
	_, commit := CompareShortString(Binding{}, [32]byte{})
	f.Add(commit)
	f.Fuzz(func(t *testing.T, m []byte) {
		if _, _, err := AnswerShortString(Binding{}, [32]byte{}, m); err == nil && (len(m) != shortStringLen || m[1] != kindCommit) {
			t.Fatalf("took %x", m)
		}
	})
}
