package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/test/atmostonce"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/openssh"
)

// blow is a class of faults.
type blow struct {
	name  string
	fault func(*openssh.Server, *netfault.Proxy) atmostonce.Fault
}

func blows() []blow {
	const patience = 30 * time.Second
	return []blow{
		{"nothing breaks", func(*openssh.Server, *netfault.Proxy) atmostonce.Fault { return atmostonce.Fault{} }},
		{"connections killed", func(server *openssh.Server, _ *netfault.Proxy) atmostonce.Fault {
			return atmostonce.Fault{Strikes: 4, Strike: func(context.Context) error { server.KillConnections(); return nil }}
		}},
		{"connections reset", func(_ *openssh.Server, proxy *netfault.Proxy) atmostonce.Fault {
			return atmostonce.Fault{Strikes: 4, Strike: func(context.Context) error { proxy.Reset(); return nil }}
		}},
		{"reply path cut", func(_ *openssh.Server, proxy *netfault.Proxy) atmostonce.Fault {
			return atmostonce.Fault{
				Strikes: 2, Patience: patience,
				Strike: func(context.Context) error { proxy.Set(netfault.DropReplies); return nil },
				Heal:   func(context.Context) error { proxy.Set(netfault.None); proxy.Reset(); return nil },
			}
		}},
		{"server frozen", func(server *openssh.Server, _ *netfault.Proxy) atmostonce.Fault {
			return atmostonce.Fault{
				Strikes: 2, Patience: patience,
				Strike: func(context.Context) error { server.Freeze(); return nil },
				Heal:   func(context.Context) error { server.Thaw(); return nil },
			}
		}},
	}
}

// measureOnce sends commands by every client, directly and through kube-apiserver,
// while one part after another breaks. It counts what must not happen.
func measureOnce(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	proxy, err := netfault.Start(bed.server.Addr, netfault.Options{})
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	both, err := c.open(ctx, endpoint{proxy.Addr, bed.server.User, bed.server.PrivateKey, bed.server.HostKey}, 4)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "connpool-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)                      //nolint:errcheck // a temporary directory
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the commands' user must reach the ledger
		return nil, err
	}
	load := atmostonce.Load{Commands: of(s, 2000, 50), Parallel: 8, Lines: 40, Pause: 20 * time.Millisecond}
	if load.Clients, err = both.ways(); err != nil {
		return nil, err
	}
	defer func() {
		for _, way := range load.Clients {
			way.Close()
		}
	}()
	var rows []row
	for _, b := range blows() {
		s.say("%d commands while: %s", load.Commands, b.name)
		// Commands are numbered anew, so each class has a ledger of its own.
		if load.Ledger, err = atmostonce.NewLedger(filepath.Join(dir, "ledger")); err != nil {
			return rows, err
		}
		summary, err := load.Run(ctx, b.fault(bed.server, proxy))
		if err != nil {
			return rows, fmt.Errorf("%s: %w", b.name, err)
		}
		s.say("%s", summary)
		if err := summary.Err(); err != nil {
			s.say("%v", err)
		}
		name := fmt.Sprintf("%d commands, %s: ", load.Commands, b.name)
		rows = append(rows,
			figure(name+"run twice", float64(summary.Duplicates), "").atMost(0),
			figure(name+"misreported, or output lost", float64(summary.Phantoms+summary.Missing+summary.WrongExits+
				summary.LostBytes+summary.Garbled), "").atMost(0),
			figure(name+"of unknown outcome", float64(summary.Unknown), ""),
		)
	}
	return rows, nil
}

// ways are all clients, directly and through kube-apiserver.
func (u users) ways() (all []atmostonce.Client, err error) {
	for prefix, config := range map[string]*rest.Config{"direct: ": u.direct.config, "through kube-apiserver: ": u.cluster.config} {
		ways, err := atmostonce.Pool{Config: config, Namespace: namespace, Name: livePool}.Clients(prefix)
		if err != nil {
			return nil, err
		}
		all = append(all, ways...)
	}
	return all, nil
}
