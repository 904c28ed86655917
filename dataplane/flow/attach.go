package flow

// Attach keeps v, the plane's own state of the pair, beside it; it stays when the peer moves. It is called before the
// pair is in a table.
func (p *Pair) Attach(v any) { p.live.plane = v }

// Attached is what was attached, or nil.
func (p *Pair) Attached() any { return p.live.plane }
