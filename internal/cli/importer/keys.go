package importer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/connpool/connpool/internal/cli/importer/hosts"
	"github.com/connpool/connpool/internal/cli/sshhost"
)

// parallelScans bounds how many hosts are scanned at the same time.
const parallelScans = 8

// hostKeys are the pins of a host, or why there are none.
type hostKeys struct {
	pins []string
	err  error
}

var (
	errNoKey    = errors.New("known_hosts has no key for it; add one, or use --scan")
	errNoScan   = errors.New("known_hosts has no key for it, and --scan cannot reach it through a jump host; add a key")
	errKeyIsBad = errors.New("known_hosts only has keys for it that are revoked or too weak")
)

// findKeys finds the keys of all hosts: in known_hosts, or by asking those that are not
// there.
func (o *options) findKeys(ctx context.Context, all []*hosts.Host, known *sshhost.KnownHosts) map[*hosts.Host]hostKeys {
	keys := map[*hosts.Host]hostKeys{}
	var (
		mu    sync.Mutex // guards keys and standard error
		group errgroup.Group
	)
	group.SetLimit(parallelScans)
	for _, host := range all {
		name, port := host.Host, host.Port
		if host.KeyAlias != "" {
			name, port = host.KeyAlias, sshhost.DefaultPort
		}
		pins := known.Find(name, port)
		found := hostKeys{pins: pins.Lines()}
		switch {
		case !pins.IsEmpty():
		case len(found.pins) > 0:
			found.err = errKeyIsBad
		case !o.scan:
			found.err = errNoKey
		case host.Jump != nil:
			found.err = errNoScan
		default:
			group.Go(func() error {
				scan, err := sshhost.ScanHost(ctx, sshhost.FromHere, host.Address.String(), o.timeout)
				mu.Lock()
				defer mu.Unlock()
				keys[host] = o.scanned(&scan, host, err)
				return nil
			})
			continue
		}
		mu.Lock()
		keys[host] = found
		mu.Unlock()
	}
	_ = group.Wait() // errors are results
	return keys
}

// scanned shows what a host answered, which has to be compared before it is applied.
func (o *options) scanned(scan *sshhost.Scan, host *hosts.Host, err error) hostKeys {
	if err != nil {
		return hostKeys{err: fmt.Errorf("known_hosts has no key for it, and --scan: %w", err)}
	}
	fmt.Fprintf(o.ErrOut, "%s shows the following; compare it with what the host itself says, by %s:\n",
		scan.Title(host.Host), scan.HowToCompare())
	scan.Table().Write(o.ErrOut)
	pins := scan.Pins()
	if len(pins) == 0 {
		return hostKeys{err: sshhost.ErrWeak}
	}
	return hostKeys{pins: pins}
}
