package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/controlplane"
)

// The contenders of the live API.
const (
	direct    = "JSON exec, direct"
	throughK8 = "JSON exec, through kube-apiserver"
	websocket = "WebSocket exec, direct"
)

// livePool is the pool of the measurements, and user is the user who may use it.
const (
	livePool = "web"
	liveUser = "bench"
)

// measureLive compares a command through the live API with one on a bare warm
// connection to the same sshd.
func measureLive(ctx context.Context, s settings) ([]row, error) {
	bed, err := newTestbed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close()
	r, err := bed.reach(ctx, bed.server.Addr)
	if err != nil {
		return nil, err
	}
	defer r.close()
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	both, err := c.open(ctx, endpoint{r.address, r.server.User, r.server.PrivateKey, r.server.HostKey}, 1)
	if err != nil {
		return nil, err
	}
	s.say("race the bare library, the operator's port and kube-apiserver")
	took, err := race(ctx, of(s, 40*time.Second, 2*time.Second), r.library(),
		both.direct.exec(direct), both.cluster.exec(throughK8), both.direct.stream(websocket))
	if err != nil {
		return nil, err
	}
	return slices.Concat(
		beyond(took, direct, library, 50, 1), beyond(took, direct, library, 99, 2),
		beyond(took, throughK8, library, 50, 5), beyond(took, websocket, direct, 50, 5),
	), nil
}

// beyond is a row with how much longer one contender takes than another, with a
// goal in milliseconds.
func beyond(took map[string][]float64, name, other string, percent int, limit float64) []row {
	ours, theirs := percentile(took[name], percent), percentile(took[other], percent)
	return []row{
		compared(fmt.Sprintf("%s, p%d", name, percent), ours, "ms", other, theirs),
		figure(fmt.Sprintf("%s, p%d: more than %s", name, percent, other), ours-theirs, "ms").atMost(limit),
	}
}

// endpoint is an SSH server that a target leads to.
type endpoint struct {
	address, user string
	privateKey    []byte
	hostKey       ssh.PublicKey
}

// users are two clients of the same user: through kube-apiserver, and directly.
type users struct{ direct, cluster user }

// user is a client of the pool.
type user struct {
	pool   *client.Pool
	config *rest.Config
}

func (u user) exec(name string) contender {
	return contender{name, func(ctx context.Context) error {
		_, err := u.pool.Exec(ctx, client.Command{Argv: []string{"true"}})
		return err
	}, 1}
}

func (u user) stream(name string) contender {
	return contender{name, func(ctx context.Context) error {
		_, err := u.pool.Stream(ctx, client.Command{Argv: []string{"true"}}, client.Streams{})
		return err
	}, 1}
}

// open makes a warm pool to the endpoint, and clients of a ServiceAccount that
// may run commands in it and nothing else.
func (c *cluster) open(ctx context.Context, to endpoint, connections int32) (users, error) {
	if err := c.create(ctx, append(poolTo(to, connections), permission()...)); err != nil {
		return users{}, err
	}
	if err := c.await(ctx, 1, "", metav1.ConditionTrue); err != nil {
		return users{}, errors.Join(err, c.operator.Err())
	}
	cluster, err := c.plane.ServiceAccount(ctx, namespace, liveUser)
	if err != nil {
		return users{}, err
	}
	var certificates corev1.Secret
	key := kube.ObjectKey{Namespace: controlplane.APINamespace, Name: controlplane.APIService + "-certs"}
	if err := c.client.Get(ctx, key, &certificates); err != nil {
		return users{}, fmt.Errorf("find the authority of the live API: %w", err)
	}
	here := &rest.Config{
		Host: "https://" + c.live, BearerToken: cluster.BearerToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: certificates.Data["ca.crt"]},
	}
	u := users{}
	if u.direct, err = newUser(here); err != nil {
		return users{}, err
	}
	if u.cluster, err = newUser(cluster); err != nil {
		return users{}, err
	}
	return u, c.awaitPermission(ctx, u)
}

func newUser(config *rest.Config) (user, error) {
	c, err := client.New(config)
	if err != nil {
		return user{}, err
	}
	return user{c.Pool(namespace, livePool), config}, nil
}

// awaitPermission waits until both clients work: kube-apiserver learns of the API,
// and RBAC of the permission, a little later.
func (c *cluster) awaitPermission(ctx context.Context, u users) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := errors.Join(u.direct.exec("").do(ctx), u.cluster.exec("").do(ctx))
		if err == nil {
			return nil
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("the live API does not work: %w", err)
		}
	}
}

// poolTo is a pool with one target, and its Secret.
func poolTo(to endpoint, connections int32) []kube.Object {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: livePool,
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"ssh-privatekey": to.privateKey},
	}
	host, port := splitAddress(to.address)
	target := &v1alpha1.ConnectionTarget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: livePool},
		Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
			Host: host, Port: &port, User: to.user, CredentialsRef: v1alpha1.SecretRef{Name: livePool},
			HostKeys: v1alpha1.HostKeys{KnownHosts: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(to.hostKey)))}},
		}},
	}
	pool := &v1alpha1.ConnectionPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: livePool},
		Spec: v1alpha1.ConnectionPoolSpec{
			TargetRef: &v1alpha1.TargetRef{Name: livePool},
			Size:      v1alpha1.PoolSize{MinWarm: &connections, Max: &connections},
		},
	}
	if connections > 1 {
		pool.Spec.SessionsPerConnection = new(int32(100))
	}
	return []kube.Object{secret, target, pool}
}

func permission() []kube.Object {
	meta := metav1.ObjectMeta{Namespace: namespace, Name: liveUser}
	return []kube.Object{
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{live.GroupName}, Resources: []string{"connectionpools/exec"},
			ResourceNames: []string{livePool}, Verbs: []string{"create", "get"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: liveUser},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: liveUser}},
		},
	}
}

// discard reads to the end.
func discard(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
