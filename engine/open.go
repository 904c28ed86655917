package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/tun"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust/boltstore"
)

// ErrNoKernelPlane says that the kernel plane was asked for.
var ErrNoKernelPlane = errors.New("engine: this version of btns has no kernel plane")

// PlaneError says that a name is not that of a plane.
type PlaneError struct{ Name string }

func (e *PlaneError) Error() string { return fmt.Sprintf("engine: %q is not a plane", e.Name) }

// Options say how a machine's own host is run.
type Options struct {
	State string      // directory of the store; made when it is missing
	Plane string      // "auto" or "tun"
	Host  host.Config // Signer, Rotation, Records, Encap and Around are filled in here
	Log   *slog.Logger
	// Certified are the names of configured peers that are sent a self-signed certificate of our key for them.
	Certified []string
}

// Open takes the host's key and records from the state directory, making the key on the first start, opens the plane
// and starts. What it needs is the privilege to make a network device.
func Open(o Options) (*Engine, error) {
	if err := CheckPlane(o.Plane); err != nil {
		return nil, err
	}
	store, err := openStore(o.State)
	if err != nil {
		return nil, err
	}
	key, rotation, fresh, err := loadKey(store, time.Now())
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if o.Host.Records, err = store.Load(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if fresh {
		o.Log.Info("own key made", slog.String("name", key.Public.Fingerprint().String()))
	}
	o.Host.Signer, o.Host.Rotation, o.Host.Encap, o.Host.Around = key, rotation, true, around()
	if err := lendKey(o.Host.Peers, key, o.Certified); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	h, err := host.New(o.Host, rand.Reader)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return Start(Config{
		Host: h, Store: store, Keys: ownKeys{store}, Signer: key, Log: o.Log, Around: around,
		Open: func(sink func(dataplane.Event)) (dataplane.Plane, error) { return tun.Open(tun.Config{}, sink) },
	})
}

// CheckPlane reports why a plane cannot be chosen by that name, or nil.
func CheckPlane(name string) error {
	switch name {
	case "auto", "tun":
		return nil
	case "kernel":
		return ErrNoKernelPlane
	}
	return &PlaneError{name}
}

func openStore(dir string) (*boltstore.Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("engine: state directory: %w", err)
	}
	return boltstore.Open(filepath.Join(dir, "state.db"))
}

// keyName is the host's long-term key in the store.
const keyName = "ed25519"

func ownKey(store *boltstore.Store) (key identity.Signer, fresh bool, err error) {
	key, ok, err := store.Key(keyName)
	if err != nil || ok {
		return key, false, err
	}
	if key, err = identity.NewEd25519(rand.Reader); err != nil {
		return key, false, fmt.Errorf("engine: making a key: %w", err)
	}
	return key, true, store.AddKey(keyName, key)
}

// lendKey gives the host's key to the configured peers that have no other for us, and certificates to those that want
// one.
func lendKey(peers []host.Peer, key identity.Signer, certified []string) error {
	for i := range peers {
		p := &peers[i]
		if p.Self.Method != ikev2.Signature {
			continue
		}
		if p.Self.Key.Public.IsZero() {
			p.Self.Key = key
		}
		if p.Self.Certificate != nil || !slices.Contains(certified, p.Name) {
			continue
		}
		der, err := identity.SelfSigned(p.Self.Key, time.Now(), rand.Reader, p.Self.ID)
		if err != nil {
			return fmt.Errorf("engine: certificate for peer %q: %w", p.Name, err)
		}
		p.Self.Certificate = der
	}
	return nil
}
