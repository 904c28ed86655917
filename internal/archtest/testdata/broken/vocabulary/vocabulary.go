// Package vocabulary is as it should be, and imports what a pure package may.
package vocabulary

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Secret hides itself.
type Secret struct{ addr netip.Addr }

func (s Secret) String() string       { return fmt.Sprint("secret of ", s.addr) }
func (Secret) LogValue() slog.Value   { return slog.StringValue("redacted") }
func (Secret) until(t time.Time) bool { return t.IsZero() }

// Colour is explained here, hence its constants are.
type Colour int

const (
	Red Colour = iota
	Green
)
