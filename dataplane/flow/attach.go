package flow

// Attached is a pointer to what came with the pair from [NewPairWith], the plane's own state of it. It stays when the peer
// moves.
func (p *Pair) Attached() any { return p.live.plane }
