package ikev2

import (
	"slices"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// phase is what the table of transitions tells states apart by.
type phase uint8

const (
	initSending   phase = iota + 1 // our IKE_SA_INIT is out, or its secrets are being made
	midSending                     // our IKE_INTERMEDIATE likewise
	authSending                    // our IKE_AUTH likewise
	peerChecking                   // the initial exchanges are over but for our own verdict
	initAnswering                  // the answer to IKE_SA_INIT is being made
	halfOpen                       // IKE_AUTH or IKE_INTERMEDIATE is awaited
	authAnswering                  // the answer to IKE_AUTH is being made
	rejected                       // only the cached answer is left
	established                    // authenticated on both sides
	leaving                        // replaced, or being deleted
)

// rule is one row of the table: what may come in a state, and what must be in it before the state sees it. Known payloads
// that are neither required nor optional are ignored, unknown ones too unless critical (RFC 7296 §2.5).
type rule struct {
	in       phase
	exchange wire.ExchangeType
	response bool
	required []wire.PayloadType
	story    string
}

type pts = []wire.PayloadType

var rules = []rule{
	{initSending, wire.IKESAInit, true, pts{wire.PayloadSA, wire.PayloadKE, wire.PayloadNonce}, "the responder's half of the key exchange"},
	{midSending, wire.IKEIntermediate, true, pts{wire.PayloadKE}, "one more key exchange is answered (RFC 9370)"},
	{authSending, wire.IKEAuth, true, pts{wire.PayloadIDr, wire.PayloadAUTH}, "the responder shows itself"},
	{halfOpen, wire.IKEIntermediate, false, pts{wire.PayloadKE}, "one more key exchange is asked for (RFC 9370)"},
	{halfOpen, wire.IKEAuth, false, pts{wire.PayloadIDi}, "the initiator shows itself; without AUTH it asks for EAP"},
	{established, wire.CreateChildSA, false, pts{wire.PayloadSA, wire.PayloadNonce}, "the peer asks for a child, or for new keys"},
	{established, wire.CreateChildSA, true, pts{wire.PayloadSA, wire.PayloadNonce}, "the peer grants a child, or new keys"},
	{established, wire.IKEFollowupKE, false, pts{wire.PayloadKE}, "one more key exchange of a rekey is asked for (RFC 9370)"},
	{established, wire.IKEFollowupKE, true, pts{wire.PayloadKE}, "one more key exchange of a rekey is answered"},
	{established, wire.Informational, false, nil, "the peer deletes, tells, or asks whether we live"},
	{established, wire.Informational, true, nil, "the peer lives, and has heard"},
	{leaving, wire.CreateChildSA, false, nil, "too late: TEMPORARY_FAILURE (RFC 7296 §2.25)"},
	{leaving, wire.CreateChildSA, true, pts{wire.PayloadSA, wire.PayloadNonce}, "what was asked for before the end"},
	{leaving, wire.IKEFollowupKE, false, nil, "too late: TEMPORARY_FAILURE"},
	{leaving, wire.Informational, false, nil, "the peer deletes too"},
	{leaving, wire.Informational, true, nil, "our delete is heard"},
}

// once lists payloads of which a message holds at most one.
var once = pts{
	wire.PayloadSA, wire.PayloadKE, wire.PayloadNonce, wire.PayloadIDi, wire.PayloadIDr, wire.PayloadAUTH,
	wire.PayloadTSi, wire.PayloadTSr,
}

// verdict of the table.
type verdict uint8

const (
	fits verdict = iota
	misplaced
	broken // a required payload is missing, or there twice
)

// check holds a message against the table. An error notify in a response stands in for what is required.
func check(p phase, m *wire.Message) verdict {
	i := slices.IndexFunc(rules, func(r rule) bool {
		return r.in == p && r.exchange == m.Exchange && r.response == m.Response()
	})
	if i < 0 {
		return misplaced
	}
	for _, t := range once {
		if n := countOf(m.Payloads, t); n > 1 {
			return broken
		}
	}
	if m.Response() && errorOf(m) != 0 {
		return fits
	}
	for _, t := range rules[i].required {
		if countOf(m.Payloads, t) == 0 {
			return broken
		}
	}
	return fits
}

func countOf(ps []wire.Payload, t wire.PayloadType) (n int) {
	for _, p := range ps {
		if p.Type == t {
			n++
		}
	}
	return n
}
