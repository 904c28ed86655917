package control

import (
	"context"
	"net/netip"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// Daemon is what a [Server] answers for. All methods may be called at the same time; an error means that the daemon is
// stopping or that ctx has ended.
type Daemon interface {
	Configurer
	Operator
	Keeper
	Comparer
	Status(ctx context.Context) (host.StatusView, dataplane.Info, error)
	Peers(ctx context.Context) ([]host.PeerView, error)
	Records(ctx context.Context) ([]trust.Record, error)
	Explain(ctx context.Context, addr netip.Addr, port uint16) (host.Explanation, error)
	// Down says how many child SAs it deleted.
	Down(ctx context.Context, addr netip.Addr) (int, error)
	// Forget says how many records it removed: of addr, or when that is invalid of key.
	Forget(ctx context.Context, addr netip.Addr, key identity.Fingerprint) (int, error)
	// Accept says which key addr is recorded with; zero: none, because none was refused and key is zero.
	Accept(ctx context.Context, addr netip.Addr, key identity.Fingerprint) (identity.Fingerprint, error)
	// Wait asks for protection and returns what became of it when addr is protected, or refused, or when ctx ends. Name is
	// what the user named addr by; it may be empty.
	Wait(ctx context.Context, addr netip.Addr, name string) (host.PeerView, error)
	// Watch calls each for every report, with the number of similar ones left out before it, until ctx ends or each
	// fails. A slow reader loses reports, and is told so by one.
	Watch(ctx context.Context, each func(r host.Report, suppressed uint64) error) error
}
