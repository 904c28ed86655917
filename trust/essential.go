package trust

import (
	"maps"
	"net/netip"
	"slices"
)

// Essentials returns the addresses of SetEssential, in order.
func (b *Book) Essentials() []netip.Addr {
	return slices.SortedFunc(maps.Keys(b.essential), netip.Addr.Compare)
}
