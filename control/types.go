package control

import "time"

// Version is the answer of /v1/version.
type Version struct {
	Version string `json:"version"`
	API     int    `json:"api"`
}

// Status is the answer of /v1/status: is it working, and what is wrong.
type Status struct {
	Version   string            `json:"version"`
	Plane     string            `json:"plane"`
	Device    string            `json:"device,omitempty"`
	MTU       int               `json:"mtu_bytes,omitempty"`
	Name      string            `json:"name"` // of our key
	Since     time.Time         `json:"since"`
	Protected int               `json:"protected"`
	Probing   int               `json:"probing"`
	Clear     int               `json:"clear"`
	Refused   int               `json:"refused"`
	Outage    int               `json:"outage"`
	IKESAs    int               `json:"ike_sas"`
	HalfOpen  int               `json:"half_open"`
	Children  int               `json:"child_sas"`
	Pins      int               `json:"pins"`
	Drops     map[string]uint64 `json:"drops,omitempty"`    // by reason
	ClearBy   []Cleared         `json:"clear_by,omitempty"` // what was sent in clear, by entries of the SPD
	Probes    Probes            `json:"probes"`
	Problems  []string          `json:"problems,omitempty"` // in sentences
	Working   bool              `json:"working"`            // no problem is known
}

// Cleared is what was sent in clear by one entry of the SPD.
type Cleared struct {
	Entry      string `json:"entry"`
	Source     string `json:"source,omitempty"` // where it is written; missing for built-in ones
	OutPackets uint64 `json:"out_packets"`
	OutBytes   uint64 `json:"out_bytes"`
}

// Probes counts what came of unknown addresses.
type Probes struct {
	Tried    uint64 `json:"tried"`
	Forgone  uint64 `json:"forgone"` // there was no room for the wish
	Stale    uint64 `json:"stale"`   // its turn came too late
	Waiting  int    `json:"waiting"`
	Recalled int    `json:"recalled"` // addresses of which a result is remembered
}

// Peer is one line of /v1/peers.
type Peer struct {
	Addr      string     `json:"addr"`
	Label     string     `json:"label,omitempty"` // of a configured peer
	State     string     `json:"state"`
	Assurance string     `json:"assurance,omitempty"`
	SAs       int        `json:"sas"`
	InBytes   uint64     `json:"in_bytes"`
	OutBytes  uint64     `json:"out_bytes"`
	Since     *time.Time `json:"since,omitempty"`
	Name      string     `json:"name,omitempty"` // of the peer's key
	Words     string     `json:"words,omitempty"`
	ID        string     `json:"id,omitempty"`
	Method    string     `json:"method,omitempty"`
	FirstSeen *time.Time `json:"first_seen,omitempty"`
	IKE       string     `json:"ike,omitempty"`
	Initiator bool       `json:"initiator,omitempty"`
	Btns      bool       `json:"btns,omitempty"`
	NAT       string     `json:"nat,omitempty"`
	Children  []Child    `json:"children,omitempty"`
	Reason    string     `json:"reason,omitempty"` // a code of docs/troubleshooting.md
	Why       string     `json:"why,omitempty"`
	Hint      string     `json:"hint,omitempty"`
}

// Child is one pair of ESP SAs.
type Child struct {
	SPIIn      string     `json:"spi_in"` // hexadecimal
	SPIOut     string     `json:"spi_out"`
	Suite      string     `json:"suite"`
	Mode       string     `json:"mode"`
	Local      string     `json:"local"`
	Remote     string     `json:"remote"`
	Encap      bool       `json:"udp_encap"`
	Sending    bool       `json:"sending"`
	Since      *time.Time `json:"since,omitempty"`
	InPackets  uint64     `json:"in_packets"`
	OutPackets uint64     `json:"out_packets"`
	InBytes    uint64     `json:"in_bytes"`
	OutBytes   uint64     `json:"out_bytes"`
	InDrops    uint64     `json:"in_drops"`
}

// Pin is one line of /v1/trust: a key that was seen at an address.
type Pin struct {
	Addr      string     `json:"addr"`
	Name      string     `json:"name"`
	Words     string     `json:"words"`
	Assurance string     `json:"assurance"`
	FirstSeen *time.Time `json:"first_seen,omitempty"`
	LastSeen  *time.Time `json:"last_seen,omitempty"`
	Sticky    bool       `json:"sticky"`            // protection is required from now on
	Host      string     `json:"host,omitempty"`    // for a key that is recorded for a name
	Network   string     `json:"network,omitempty"` // where a private address belongs
	Sessions  uint32     `json:"sessions,omitempty"`
	Revoked   *time.Time `json:"revoked,omitempty"`
	Evidence  []Evidence `json:"evidence,omitempty"`
}

// Evidence is one reason to believe that a key belongs where it was seen.
type Evidence struct {
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
}

// Exported is the answer of /v1/trust/export: a text of known peers.
type Exported struct {
	Text string `json:"text"`
}

// Event is one line of /v1/watch.
type Event struct {
	Time       time.Time `json:"time"`
	Kind       string    `json:"kind"`
	Level      string    `json:"level"` // "debug", "info", "warn", "alarm"
	Addr       string    `json:"addr,omitempty"`
	Name       string    `json:"name,omitempty"`
	Text       string    `json:"text"`
	Hint       string    `json:"hint,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Suppressed uint64    `json:"suppressed,omitempty"` // similar ones since the last line, not shown
}

// Explanation is the answer of /v1/explain.
type Explanation struct {
	Addr   string   `json:"addr"`
	Port   uint16   `json:"port,omitempty"`
	Entry  string   `json:"entry"`
	Source string   `json:"source,omitempty"` // file and line of the entry; missing: built in
	State  string   `json:"state"`
	Reason string   `json:"reason,omitempty"` // a code of docs/troubleshooting.md
	Why    string   `json:"why,omitempty"`
	Steps  []Step   `json:"steps"` // the decisions, in the order in which they are made
	Story  []string `json:"story"` // the texts of Steps
	Hint   string   `json:"hint,omitempty"`
}

// Step is one decision on the way.
type Step struct {
	Step string `json:"step"`
	Text string `json:"text"`
}

// Waited is the answer of /v1/wait.
type Waited struct {
	Addr      string `json:"addr"`
	Protected bool   `json:"protected"`
	State     string `json:"state"`
	Name      string `json:"name,omitempty"`
	Assurance string `json:"assurance,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Why       string `json:"why,omitempty"`
	Hint      string `json:"hint,omitempty"`
}

// Done is the answer to a command: what came of it, a sentence each.
type Done struct {
	Text []string `json:"text"`
}

// target is the body of the commands that name an address, a key, or both.
type target struct {
	Addr string `json:"addr,omitempty"`
	Name string `json:"name,omitempty"`
	// Host is what the user named the address by.
	Host string `json:"host,omitempty"`
	// Beside leaves the other keys of the address.
	Beside bool `json:"beside,omitempty"`
	// Statement is a revocation that the key itself has signed.
	Statement string `json:"statement,omitempty"`
}

// failure is the body of an answer that is not 200.
type failure struct {
	Text  string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Input bool   `json:"input,omitempty"`
}
