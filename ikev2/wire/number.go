package wire

import "fmt"

// ExchangeType is the exchange that a message belongs to (RFC 7296 §3.1).
type ExchangeType uint8

// Exchanges.
const (
	IKESAInit        ExchangeType = 34
	IKEAuth          ExchangeType = 35
	CreateChildSA    ExchangeType = 36
	Informational    ExchangeType = 37
	IKESessionResume ExchangeType = 38 // RFC 5723
	GSAAuth          ExchangeType = 39
	GSARegistration  ExchangeType = 40
	GSARekey         ExchangeType = 41
	IKEIntermediate  ExchangeType = 43 // RFC 9242
	IKEFollowupKE    ExchangeType = 44 // RFC 9370
)

func (x ExchangeType) String() string {
	switch x {
	case IKESAInit:
		return "IKE_SA_INIT"
	case IKEAuth:
		return "IKE_AUTH"
	case CreateChildSA:
		return "CREATE_CHILD_SA"
	case Informational:
		return "INFORMATIONAL"
	case IKESessionResume:
		return "IKE_SESSION_RESUME"
	case GSAAuth:
		return "GSA_AUTH"
	case GSARegistration:
		return "GSA_REGISTRATION"
	case GSARekey:
		return "GSA_REKEY"
	case IKEIntermediate:
		return "IKE_INTERMEDIATE"
	case IKEFollowupKE:
		return "IKE_FOLLOWUP_KE"
	}
	return fmt.Sprintf("exchange %d", uint8(x))
}

// PayloadType is the type of a payload, which stands in the Next Payload field before it (RFC 7296 §3.2).
type PayloadType uint8

// Payload types that this package reads; all others become [Unknown].
const (
	NoPayload      PayloadType = 0
	PayloadSA      PayloadType = 33
	PayloadKE      PayloadType = 34
	PayloadIDi     PayloadType = 35
	PayloadIDr     PayloadType = 36
	PayloadCERT    PayloadType = 37
	PayloadCERTREQ PayloadType = 38
	PayloadAUTH    PayloadType = 39
	PayloadNonce   PayloadType = 40
	PayloadNotify  PayloadType = 41
	PayloadDelete  PayloadType = 42
	PayloadVendor  PayloadType = 43
	PayloadTSi     PayloadType = 44
	PayloadTSr     PayloadType = 45
	PayloadSK      PayloadType = 46
	PayloadCP      PayloadType = 47
	PayloadEAP     PayloadType = 48
	PayloadSKF     PayloadType = 53 // RFC 7383
)

func (t PayloadType) String() string {
	switch t {
	case NoPayload:
		return "none"
	case PayloadSA:
		return "SA"
	case PayloadKE:
		return "KE"
	case PayloadIDi:
		return "IDi"
	case PayloadIDr:
		return "IDr"
	case PayloadCERT:
		return "CERT"
	case PayloadCERTREQ:
		return "CERTREQ"
	case PayloadAUTH:
		return "AUTH"
	case PayloadNonce:
		return "Nonce"
	case PayloadNotify:
		return "N"
	case PayloadDelete:
		return "D"
	case PayloadVendor:
		return "V"
	case PayloadTSi:
		return "TSi"
	case PayloadTSr:
		return "TSr"
	case PayloadSK:
		return "SK"
	case PayloadCP:
		return "CP"
	case PayloadEAP:
		return "EAP"
	case PayloadSKF:
		return "SKF"
	}
	return fmt.Sprintf("payload %d", uint8(t))
}

// Flags of the header (RFC 7296 §3.1). FlagVersion is sent as 0 and ignored.
const (
	FlagInitiator uint8 = 0x08
	FlagVersion   uint8 = 0x10
	FlagResponse  uint8 = 0x20
)

// Version2 is the version octet of every message that we send: major 2, minor 0.
const Version2 uint8 = 0x20

// Protocol is a security protocol identifier (RFC 7296 §3.3.1).
type Protocol uint8

// Protocols.
const (
	None     Protocol = 0
	ProtoIKE Protocol = 1
	ProtoAH  Protocol = 2
	ProtoESP Protocol = 3
)

func (p Protocol) String() string {
	switch p {
	case None:
		return "none"
	case ProtoIKE:
		return "IKE"
	case ProtoAH:
		return "AH"
	case ProtoESP:
		return "ESP"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// allowsSPI says whether an SPI of n octets can belong to p. Of protocols unknown here nothing is known.
func (p Protocol) allowsSPI(n int) bool {
	switch p {
	case None:
		return n == 0
	case ProtoIKE:
		return n == 0 || n == 8
	case ProtoAH, ProtoESP:
		return n == 4
	}
	return true
}

// AuthMethod says how AUTH was computed (RFC 7296 §3.8).
type AuthMethod uint8

// Authentication methods.
const (
	AuthRSA            AuthMethod = 1
	AuthSharedKey      AuthMethod = 2
	AuthDSS            AuthMethod = 3
	AuthECDSA256       AuthMethod = 9  // RFC 4754
	AuthECDSA384       AuthMethod = 10 // RFC 4754
	AuthECDSA521       AuthMethod = 11 // RFC 4754
	AuthSecurePassword AuthMethod = 12 // RFC 6467
	AuthNull           AuthMethod = 13 // RFC 7619
	AuthSignature      AuthMethod = 14 // RFC 7427
)

// IDType is the kind of an identity (RFC 7296 §3.5).
type IDType uint8

// Kinds of identities.
const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDRFC822Addr IDType = 3
	IDIPv6Addr   IDType = 5
	IDDERASN1DN  IDType = 9
	IDDERASN1GN  IDType = 10
	IDKeyID      IDType = 11
	IDFCName     IDType = 12
	IDNull       IDType = 13 // RFC 7619
)

// CertEncoding is the kind of data in CERT and CERTREQ (RFC 7296 §3.6).
type CertEncoding uint8

// Certificate encodings.
const (
	CertPKCS7         CertEncoding = 1
	CertPGP           CertEncoding = 2
	CertDNSKey        CertEncoding = 3
	CertX509          CertEncoding = 4
	CertKerberos      CertEncoding = 6
	CertCRL           CertEncoding = 7
	CertARL           CertEncoding = 8
	CertSPKI          CertEncoding = 9
	CertX509Attribute CertEncoding = 10
	CertRawRSA        CertEncoding = 11 // deprecated by RFC 7670
	CertHashURL       CertEncoding = 12
	CertHashURLBundle CertEncoding = 13
	CertOCSP          CertEncoding = 14 // RFC 4806
	CertRawKey        CertEncoding = 15 // RFC 7670: SubjectPublicKeyInfo
)
