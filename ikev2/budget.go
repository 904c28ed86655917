package ikev2

import (
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// What a peer that nobody vouches for may ask of an established IKE SA in a while (BTNS-CORE-63): a request costs a share
// of a second, one that makes keys a larger one, and what is saved up is bounded.
const (
	requestCost = 10 * time.Millisecond
	keysCost    = 100 * time.Millisecond
	saved       = 4 * time.Second
)

// may takes the cost of a request from the budget of the peer, and reports whether there was enough.
func (n *session) may(now instant, exchange wire.ExchangeType) bool {
	cost := requestCost
	if exchange != wire.Informational {
		cost = keysCost
	}
	spent := max(n.spent, now).add(cost)
	if !n.up || spent > now.add(saved) {
		return !n.up
	}
	n.spent = spent
	return true
}
