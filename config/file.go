package config

// file is the document as it is written. Every value that needs more than its type is text here and is read, with its
// position at hand, by the reader.
type file struct {
	Plane  string       `toml:"plane"`
	State  string       `toml:"state"`
	Socket string       `toml:"socket"`
	Listen []string     `toml:"listen"`
	Probe  any          `toml:"probe"`
	Trust  string       `toml:"trust"`
	Recyc  []string     `toml:"recycled"`
	Log    fileLog      `toml:"log"`
	X509   fileX509     `toml:"x509"`
	Rest   fileDefault  `toml:"default"`
	Peer   []filePeer   `toml:"peer"`
	Policy []filePolicy `toml:"policy"`
}

type fileLog struct {
	Format string `toml:"format"`
	Level  string `toml:"level"`
}

// fileX509 is what each [[peer]] with auth "x509" has that says nothing else.
type fileX509 struct {
	CA          any    `toml:"ca"`
	Certificate string `toml:"certificate"`
	OwnKey      string `toml:"own_key"`
}

type fileDefault struct {
	Fallback     string   `toml:"fallback"`
	Outbound     string   `toml:"outbound"`
	Inbound      string   `toml:"inbound"`
	Waiting      string   `toml:"waiting"`
	NullOK       bool     `toml:"null_ok"`
	UnknownPeers *bool    `toml:"unknown_peers"`
	ESP          []string `toml:"esp"`
	Rekey        string   `toml:"rekey"`
	Lifetime     string   `toml:"lifetime"`
}

type filePeer struct {
	Name         string   `toml:"name"`
	Address      string   `toml:"address"`
	LocalAddress string   `toml:"local_address"`
	Auth         string   `toml:"auth"`
	ID           string   `toml:"id"`
	LocalID      string   `toml:"local_id"`
	Key          any      `toml:"key"`
	CA           any      `toml:"ca"`
	OwnKey       string   `toml:"own_key"`
	Certificate  string   `toml:"certificate"`
	SendKey      *bool    `toml:"send_key"`
	PSK          string   `toml:"psk"`
	PSKFile      string   `toml:"psk_file"`
	Mode         string   `toml:"mode"`
	Local        []string `toml:"local"`
	Remote       []string `toml:"remote"`
	IKE          []string `toml:"ike"`
	ESP          []string `toml:"esp"`
	IKERekey     string   `toml:"ike_rekey"`
	IKELifetime  string   `toml:"ike_lifetime"`
	Rekey        string   `toml:"rekey"`
	Lifetime     string   `toml:"lifetime"`
	DPD          string   `toml:"dpd"`
	Start        string   `toml:"start"`
	Childless    bool     `toml:"childless"`
	DSCP         any      `toml:"dscp"`
	ECN          string   `toml:"ecn"`
}

type filePolicy struct {
	Name            string   `toml:"name"`
	Local           []string `toml:"local"`
	Remote          []string `toml:"remote"`
	Action          string   `toml:"action"`
	Mode            string   `toml:"mode"`
	Peer            string   `toml:"peer"`
	BtnsOK          bool     `toml:"btns_ok"`
	NullOK          bool     `toml:"null_ok"`
	BtnsFallthrough bool     `toml:"btns_fallthrough"`
	MinAssurance    string   `toml:"min_assurance"`
	Fallback        string   `toml:"fallback"`
	Outbound        string   `toml:"outbound"`
	Inbound         string   `toml:"inbound"`
	Waiting         string   `toml:"waiting"`
	PFP             any      `toml:"populate_from_packet"`
	DSCP            any      `toml:"dscp"`
	ECN             string   `toml:"ecn"`
	ESP             []string `toml:"esp"`
	Rekey           string   `toml:"rekey"`
	Lifetime        string   `toml:"lifetime"`
}
