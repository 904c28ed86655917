//go:build linux

package tun

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// tableName is that of the plane's tables in nftables; a number follows where a plane that was killed has left its own. What
// is in them closes protected prefixes even when the plane has died, until another one has closed them anew.
const tableName = "btns"

// filter keeps clear text from and to protected prefixes off the host, and has packets pass strict reverse-path filters
// although the way back is by the device.
type filter struct {
	cfg    Config
	device string
	nft    *nftables.Conn
	table  *nftables.Table
	arp    *nftables.Table
	sets   [4]setPair                    // closed hosts, closed nets, open hosts, open nets
	covers *nftables.Set                 // interfaces where the redirector takes what should be protected
	in     map[prefixKey]int8            // the set that a prefix is to be in
	was    map[netip.Prefix]int          // where those are that changed since the last commit; -1: nowhere
	nets   map[int]map[netip.Prefix]bool // what is in the sets of networks
	news   []string                      // interfaces to be covered
	queued int                           // elements of sets since the last flush
	spd    spdChains
	counts tallies
	left   []*nftables.Table // of a plane that was killed: see succeed
}

// setPair is the set of one kind for IPv4 and IPv6.
type setPair [2]*nftables.Set

// The sets. Single addresses are hashed, so that ten thousand are as quick as one.
const (
	closedHosts = iota
	closedNets
	openHosts // Upgrade: clear text still passes
	openNets
)

var setNames = [...]string{"closed", "closed-net", "open", "open-net"}

const coversName = "covered"

// memo is a chain without rules. Its name says that the setting was off before: a plane that is killed cannot restore it.
const memo = "src-valid-mark-was-off"

// markSetting has the mark count when the way back is looked up (strict rp_filter).
const markSetting = "net/ipv4/conf/all/src_valid_mark"

func openFilter(c Config, device string) (f *filter, err error) {
	f = &filter{cfg: c, device: device, in: make(map[prefixKey]int8), was: make(map[netip.Prefix]int), nets: make(map[int]map[netip.Prefix]bool)}
	if f.nft, err = nftables.New(nftables.AsLasting()); err != nil {
		return nil, fmt.Errorf("tun: nftables: %w", err)
	}
	if f.counts.nft, err = nftables.New(nftables.AsLasting()); err != nil {
		_ = f.nft.CloseLasting()
		return nil, fmt.Errorf("tun: nftables: %w", err)
	}
	if f.left, err = tables(f.nft); err == nil {
		err = f.build()
	}
	if err != nil {
		_ = errors.Join(f.nft.CloseLasting(), f.counts.nft.CloseLasting())
		return nil, fmt.Errorf("tun: nftables: %w", err)
	}
	return f, nil
}

// tables lists those of planes, dead or alive.
func tables(c *nftables.Conn) (ours []*nftables.Table, err error) {
	all, err := c.ListTables()
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		number, named := strings.CutPrefix(t.Name, tableName)
		if named && strings.Trim(number, "0123456789") == "" && (t.Family == nftables.TableFamilyINet || t.Family == nftables.TableFamilyARP) {
			ours = append(ours, t)
		}
	}
	return ours, nil
}

// shutTables has the tables of a plane that was killed drop what its programs on interfaces dropped, before those go.
func shutTables() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("tun: nftables: %w", err)
	}
	left, err := tables(c)
	for _, t := range left {
		if s, e := c.GetSetByName(t, coversName); e == nil {
			c.FlushSet(s)
		}
	}
	if err = errors.Join(err, c.Flush()); err != nil {
		return fmt.Errorf("tun: nftables: %w", err)
	}
	return nil
}

// dropTables removes the plane's tables if they are there, and restores the setting that a memo in them is about.
func dropTables(c *nftables.Conn) error {
	ours, err := tables(c)
	if err != nil {
		return err
	}
	if remembers(c, ours) {
		_ = writeSetting(markSetting, "0")
	}
	for _, t := range ours {
		c.DelTable(t)
	}
	return c.Flush()
}

func remembers(c *nftables.Conn, tables []*nftables.Table) bool {
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool {
		_, err := c.ListChain(t, memo)
		return err == nil
	})
}

// succeed takes the place of a plane that was killed. What that one closed stays closed until this one has been told what
// to close, so that nothing leaves in clear between.
func (f *filter) succeed() error {
	if len(f.left) == 0 {
		return nil
	}
	for _, t := range f.left {
		f.nft.DelTable(t)
	}
	f.left = nil
	return f.nft.Flush()
}

// free is a name that no table has.
func (f *filter) free() string {
	for n, name := 2, tableName; ; n++ {
		if !slices.ContainsFunc(f.left, func(t *nftables.Table) bool { return t.Name == name }) {
			return name
		}
		name = fmt.Sprintf("%s%d", tableName, n)
	}
}

func (f *filter) build() error {
	name := f.free()
	f.table = f.nft.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet})
	f.counts.table = f.table
	for kind := range f.sets {
		for fam := range 2 {
			s := &nftables.Set{
				Table: f.table, Name: fmt.Sprintf("%s%d", setNames[kind], 4+2*fam), ID: uint32(2*kind + fam + 1),
				KeyType:  [...]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}[fam],
				Interval: kind == closedNets || kind == openNets,
			}
			f.sets[kind][fam] = s
			if err := f.nft.AddSet(s, nil); err != nil {
				return err
			}
		}
	}
	f.covers = &nftables.Set{Table: f.table, Name: coversName, ID: 2*uint32(len(setNames)) + 1, KeyType: nftables.TypeIFName}
	if err := f.nft.AddSet(f.covers, nil); err != nil {
		return err
	}
	f.addChains()
	f.arrivals()
	f.departures()
	f.diversions()
	if v, err := readSetting(markSetting); err == nil && v == "0" || remembers(f.nft, f.left) {
		f.nft.AddChain(&nftables.Chain{Name: memo, Table: f.table})
	}
	f.arp = f.nft.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyARP})
	f.neighbours()
	if err := f.nft.Flush(); err != nil {
		return err
	}
	return writeSetting(markSetting, "1")
}

// set puts a prefix into the set of its state.
func (f *filter) set(p netip.Prefix, s flow.State) {
	kind := closedHosts
	if s == flow.Upgrade {
		kind = openHosts
	}
	if !p.IsSingleIP() {
		kind++
	}
	f.remember(p)
	f.in[keyOf(p)] = int8(kind)
}

func (f *filter) forget(p netip.Prefix) {
	f.remember(p)
	delete(f.in, keyOf(p))
}

func (f *filter) remember(p netip.Prefix) {
	if _, ok := f.was[p]; ok {
		return
	}
	f.was[p] = nowhere
	if kind, ok := f.in[keyOf(p)]; ok {
		f.was[p] = int(kind)
	}
}

const nowhere = -1

// cover leaves an interface to the redirector. Its program stays there if the plane dies, and drops.
func (f *filter) cover(name string) { f.news = append(f.news, name) }

// elements is a prefix as elements of a set: one, or an interval.
func elements(p netip.Prefix) []nftables.SetElement {
	from := p.Addr().AsSlice()
	if p.IsSingleIP() {
		return []nftables.SetElement{{Key: from}}
	}
	end := beyond(p)
	return []nftables.SetElement{{Key: from}, {Key: end, IntervalEnd: true}}
}

// beyond is the first address behind a prefix; it may wrap to zero, as nftables writes the end of all.
func beyond(p netip.Prefix) []byte {
	b := p.Masked().Addr().AsSlice()
	if p.Bits() == 0 {
		return b
	}
	i, step := (p.Bits()-1)/8, byte(1)<<(7-(p.Bits()-1)%8)
	b[i] += step
	for carry := b[i] < step; carry && i > 0; carry = b[i] == 0 {
		i--
		b[i]++
	}
	return b
}

// commit carries out what set, forget and cover noted, in one step unless it is very much.
func (f *filter) commit() error {
	var gone, come [len(setNames)][2][]nftables.SetElement
	nets := false
	for p, old := range f.was {
		if !p.IsSingleIP() {
			nets = true
			continue
		}
		number, ok := f.in[keyOf(p)]
		kind := int(number)
		fam := family(p.Addr())
		if old != nowhere && (!ok || kind != old) {
			gone[old][fam] = append(gone[old][fam], elements(p)...)
		}
		if ok && kind != old {
			come[kind][fam] = append(come[kind][fam], elements(p)...)
		}
	}
	for _, kind := range [...]int{closedNets, openNets} {
		if nets {
			f.networks(kind, &gone[kind], &come[kind])
		}
	}
	var failed error
	for kind := range f.sets {
		for fam, s := range f.sets[kind] {
			failed = errors.Join(failed, f.pieces(s, gone[kind][fam], f.nft.SetDeleteElements), f.pieces(s, come[kind][fam], f.nft.SetAddElements))
		}
	}
	var names []nftables.SetElement
	for _, name := range f.news {
		names = append(names, nftables.SetElement{Key: interfaceName(name)})
	}
	failed = errors.Join(failed, f.pieces(f.covers, names, f.nft.SetAddElements), f.flush(), f.commitRules())
	clear(f.was)
	f.news = f.news[:0]
	if failed != nil {
		return fmt.Errorf("tun: nftables: %w", failed)
	}
	return nil
}

// networks finds what changes in a set of networks. Intervals may not overlap: a network within another is left out.
func (f *filter) networks(kind int, gone, come *[2][]nftables.SetElement) {
	var all []netip.Prefix
	for k, n := range f.in {
		if int(n) == kind {
			all = append(all, k.prefix())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	now := make(map[netip.Prefix]bool)
	var last netip.Prefix
	for _, p := range all {
		if last.IsValid() && last.Overlaps(p) {
			continue
		}
		last = p
		now[p] = true
		if !f.nets[kind][p] {
			come[family(p.Addr())] = append(come[family(p.Addr())], elements(p)...)
		}
	}
	for p := range f.nets[kind] {
		if !now[p] {
			gone[family(p.Addr())] = append(gone[family(p.Addr())], elements(p)...)
		}
	}
	f.nets[kind] = now
}

// maxElements is how many elements of sets are changed at once.
const maxElements = 512

// pieces changes a set, with the next flush, or sooner where all is more than a message holds. Intervals, which have two
// elements, are not torn apart.
func (f *filter) pieces(s *nftables.Set, all []nftables.SetElement, change func(*nftables.Set, []nftables.SetElement) error) error {
	for len(all) > 0 {
		n := min(maxElements-f.queued, len(all))
		if n < len(all) {
			n &^= 1
		}
		if n == 0 {
			if err := f.flush(); err != nil {
				return err
			}
			continue
		}
		if err := change(s, all[:n]); err != nil {
			return err
		}
		f.queued += n
		all = all[n:]
	}
	return nil
}

func (f *filter) flush() error {
	f.queued = 0
	return f.nft.Flush()
}

func (f *filter) close() error {
	err := dropTables(f.nft)
	if e := errors.Join(f.nft.CloseLasting(), f.counts.nft.CloseLasting()); err == nil {
		err = e
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("tun: nftables: %w", err)
	}
	return nil
}
