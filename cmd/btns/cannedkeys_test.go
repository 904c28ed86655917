package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// cannedKeys is what the canned daemon knows of its own key: it can be planned to change once, and revoked.
type cannedKeys struct {
	mu  sync.Mutex
	own host.OwnView
	// ends says what becomes of a revocation: "late" is an error after it was done, "early" one before; empty: none.
	ends string
}

func (k *cannedKeys) Own(context.Context) (host.OwnView, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.own.Key.IsZero() {
		return k.own, nil
	}
	text, err := os.ReadFile("testdata/key.pem")
	if err != nil {
		return k.own, err
	}
	k.own.Key, err = identity.ParsePublicPEM(text)
	return k.own, err
}

func cannedSigner(n byte) (identity.Signer, error) {
	return identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
}

func (k *cannedKeys) Rotate(_ context.Context, lead time.Duration) ([]host.Report, error) {
	next, err := cannedSigner(2)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.own.Next.IsZero() {
		return nil, errors.New("planned already")
	}
	k.own.Next, k.own.From, k.own.Told = next.Public, since.Add(lead), 1
	return []host.Report{{Kind: host.Operator, Level: host.Info, Text: "planned, in " + lead.String()}}, err
}

func (k *cannedKeys) TakeBack(context.Context) ([]host.Report, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.own.Next = identity.PublicKey{}
	return []host.Report{{Kind: host.Operator, Level: host.Info, Text: "taken back"}}, nil
}

func (k *cannedKeys) RevokeOwn(context.Context) ([]host.Report, error) {
	statement, err := k.Statement()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ends == "early" {
		return nil, errors.New("the disk is full")
	}
	k.own.Revocation = statement
	if k.ends == "late" {
		next, _ := cannedSigner(4)
		k.own.Key = next.Public
		return nil, errors.New("the disk is full")
	}
	return []host.Report{{Kind: host.Operator, Level: host.Info, Text: "revoked"}}, err
}

func (*cannedKeys) Statement() ([]byte, error) {
	s, err := cannedSigner(3)
	if err != nil {
		return nil, err
	}
	return trust.SignRevocation(nil, s)
}
