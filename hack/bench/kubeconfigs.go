package main

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/kube"
	"github.com/connpool/connpool/internal/egress"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/test/controlplane"
)

// measureKubeconfigs measures what targets of the same cluster cost the operator:
// with one credential, which they share, and with one each.
func measureKubeconfigs(ctx context.Context, s settings) ([]row, error) {
	plane, err := controlplane.Start(ctx, controlplane.Options{Say: s.say})
	if err != nil {
		return nil, err
	}
	defer plane.Stop()
	count := of(s, 100, 10)
	s.say("make %d accounts", count)
	at := served{Addr: plane.Config.Host}
	for i := range count {
		config, err := plane.ServiceAccount(ctx, namespace, "bench-"+strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		kubeconfig, err := controlplane.Kubeconfig(config)
		if err != nil {
			return nil, err
		}
		at.Kubeconfigs = append(at.Kubeconfigs, kubeconfig)
	}
	each, err := hold(ctx, roleClusters, at, count)
	if err != nil {
		return nil, err
	}
	at.Kubeconfigs = at.Kubeconfigs[:1]
	shared, err := hold(ctx, roleClusters, at, count)
	if err != nil {
		return nil, err
	}
	name := func(what string) string {
		return fmt.Sprintf("%d kubernetes targets with %s, resident each, garbage collected", count, what)
	}
	return []row{
		figure(name("a credential each"), each.Collected, "KiB"),
		compared(name("one credential"), shared.Collected, "KiB", "a credential each", each.Collected).ratioAtMost(0.5),
	}, nil
}

// fillClusters holds connections to a cluster, one for each of the kubeconfigs.
func fillClusters(ctx context.Context, at served, count int) (any, error) {
	server, err := url.Parse(at.Addr)
	if err != nil {
		return nil, err
	}
	policy := egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	pools := poolset.New(policy.Dial, dialbudget.New(dialsAtOnce, dialsAtOnce, dialsAtOnce))
	kubernetes := kube.New(kube.Options{})
	group, ctx := errgroup.WithContext(ctx)
	for i := range count {
		uid := strconv.Itoa(i)
		target := targetOn(at, uid, kubernetes)
		target.Type = "kubernetes"
		target.Endpoint = driver.Endpoint{
			Address:     server.Host,
			Credentials: map[string][]byte{"kubeconfig": at.Kubeconfigs[i%len(at.Kubeconfigs)]},
		}
		if err := ensure(pools, target); err != nil {
			return nil, err
		}
		group.Go(func() error {
			lease, err := pools.Acquire(ctx, poolset.Request{Pool: "pool", Target: uid})
			if err == nil {
				lease.Release()
			}
			return err
		})
	}
	return pools, group.Wait()
}
