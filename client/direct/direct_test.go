package direct_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/client/direct"
	"github.com/connpool/connpool/test/directway"
)

const (
	asked  = "kube-apiserver /apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.live.connpool.dev Bearer secret"
	probed = "operator /apis/live.connpool.dev/v1alpha1 Bearer secret"
)

func TestTheServiceIsFoundAndVerified(t *testing.T) {
	f := directway.Start(t)
	found, err := direct.Finder{Dial: f.Dial}.Find(t.Context(), f.Config("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{asked, probed}, f.Requests()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found.Host != "https://"+directway.ServiceName+":443" || found.Insecure {
		t.Errorf("found %s, insecure: %t", found.Host, found.Insecure)
	}
	if _, err := client.New(found); err != nil {
		t.Error(err)
	}
}

func TestThereIsNoDirectWay(t *testing.T) {
	tests := map[string]struct {
		change   func(*directway.Fixture, *rest.Config)
		is       func(error) bool
		requests []string
	}{
		"the Service has a certificate of another authority, and gets no token": {
			func(f *directway.Fixture, _ *rest.Config) { f.Bundle = f.KubeAuthority() },
			func(err error) bool { return strings.Contains(err.Error(), "x509") },
			[]string{asked},
		},
		"the connection is refused": {
			func(f *directway.Fixture, _ *rest.Config) { f.Refused = true },
			func(err error) bool { return strings.Contains(err.Error(), "connection refused") },
			[]string{asked},
		},
		"the operator does not know the user": {
			func(f *directway.Fixture, _ *rest.Config) { f.Unauthorized = true }, apierrors.IsUnauthorized, []string{asked, probed},
		},
		"the Service leads elsewhere, where the token is not sent": {
			func(f *directway.Fixture, _ *rest.Config) { f.Elsewhere = f.Kube.URL + "/trap" },
			func(err error) bool { return err != nil },
			[]string{asked, probed},
		},
		"the user may not read the APIService": {
			func(f *directway.Fixture, _ *rest.Config) { f.Forbidden = true }, apierrors.IsForbidden, []string{asked},
		},
		"the APIService has no Service": {
			func(f *directway.Fixture, _ *rest.Config) { f.NoService = true },
			func(err error) bool { return strings.Contains(err.Error(), "names no Service") },
			[]string{asked},
		},
		"the APIService has no authority": {
			func(f *directway.Fixture, _ *rest.Config) { f.Bundle = nil },
			func(err error) bool { return strings.Contains(err.Error(), "no authority") },
			[]string{asked},
		},
		"the user acts as another one": {
			func(_ *directway.Fixture, c *rest.Config) { c.Impersonate.UserName = "bob" }, isUnfit, nil,
		},
		"the user acts as a member of a group": {
			func(_ *directway.Fixture, c *rest.Config) { c.Impersonate.Groups = []string{"admins"} }, isUnfit, nil,
		},
		"kube-apiserver is not verified": {
			func(_ *directway.Fixture, c *rest.Config) { c.Insecure, c.CAData = true, nil }, isUnfit, nil,
		},
		"the user has a password": {
			func(_ *directway.Fixture, c *rest.Config) { c.Username, c.Password = "alice", "pw" }, isUnfit, nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := directway.Start(t)
			config := f.Config("secret")
			test.change(f, config)
			found, err := direct.Finder{Dial: f.Dial}.Find(t.Context(), config)
			if found != nil || err == nil || !test.is(err) {
				t.Errorf("found %v, error %v", found, err)
			}
			if diff := cmp.Diff(test.requests, f.Requests()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func isUnfit(err error) bool { return errors.Is(err, direct.ErrUnfit) }

func TestAClientOfAnAddressThatWasFoundEarlierVerifiesTheService(t *testing.T) {
	f := directway.Start(t)
	finder := direct.Finder{Dial: f.Dial}
	for name, authority := range map[string][]byte{"its own": f.Authority, "another": f.KubeAuthority()} {
		c, err := client.New(finder.Config(f.Config("secret"), directway.ServiceName+":443", authority))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Connect(t.Context()); (err == nil) != (name == "its own") {
			t.Errorf("with %s authority: %v", name, err)
		}
	}
	if requests := f.Requests(); len(requests) > 0 {
		t.Errorf("it has sent %v", requests)
	}
}

func TestTheProxyToKubeAPIServerIsNotUsed(t *testing.T) {
	f := directway.Start(t)
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	found, err := direct.Finder{Dial: f.Dial}.Find(t.Context(), f.Config("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if through, err := found.Proxy(nil); through != nil || err != nil {
		t.Errorf("it goes through %v, %v", through, err)
	}
}

func Example() {
	ctx := context.Background()
	config, err := rest.InClusterConfig()
	if err != nil {
		return // this program runs in no pod
	}
	if here, err := (direct.Finder{}).Find(ctx, config); err == nil {
		config = here // or go through kube-apiserver
	}
	c, err := client.New(config)
	if err != nil {
		return
	}
	result, err := c.Pool("default", "web").Exec(ctx, client.Command{Argv: []string{"uptime"}})
	fmt.Println(result.Target, err)
	// Output:
}
