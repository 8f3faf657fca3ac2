package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/connpool/connpool/test/netfault"
)

const (
	pluginCopy = "connpool cp"
	// pluginBare does what the others do: it takes no digests of both sides.
	pluginBare = "connpool cp --verify=false"
	bare       = ", not verified"
	// The small files of a tree, and its directories.
	treeFiles, treeDirectories = 1000, 20
)

// measureCopies compares `connpool cp` with the programs that copy over ssh, whole
// processes. All of them pass the same proxy, which adds the delay.
func measureCopies(
	roundTrip time.Duration, measure func(*copies, context.Context) ([]row, error),
) func(context.Context, settings) ([]row, error) {
	return func(ctx context.Context, s settings) ([]row, error) {
		bed, err := newTestbed(ctx)
		if err != nil {
			return nil, err
		}
		defer bed.close()
		c := &copies{settings: s, bed: bed}
		defer c.close() //nolint:contextcheck // it cleans up whatever became of ctx
		if err := c.open(ctx, roundTrip); err != nil {
			return nil, err
		}
		return measure(c, ctx)
	}
}

// copies are a host at some distance, a warm pool of four connections to it, and a
// directory with what is copied.
type copies struct {
	settings
	bed     *testbed
	proxy   *netfault.Proxy
	route   *route
	cluster *cluster
	plugin  []string // how a command line of the plugin begins
	dir     string
	remote  string
	runs    int
}

func (c *copies) open(ctx context.Context, roundTrip time.Duration) (err error) {
	if c.dir, err = os.MkdirTemp("", "connpool-bench-"); err != nil {
		return err
	}
	address := c.bed.server.Addr
	if roundTrip > 0 {
		if c.proxy, err = netfault.Start(address, netfault.Options{RoundTrip: roundTrip}); err != nil {
			return err
		}
		address = c.proxy.Addr
	}
	if c.route, err = c.bed.reach(ctx, address); err != nil {
		return err
	}
	made, err := c.route.ssh(ctx, "mktemp -d").Output()
	if err != nil {
		return fmt.Errorf("make a directory on the host: %w", err)
	}
	c.remote = strings.TrimSpace(string(made))
	return c.startPool(ctx)
}

func (c *copies) startPool(ctx context.Context) (err error) {
	program, err := buildProgram(ctx, "kubectl-connpool")
	if err != nil {
		return err
	}
	if c.cluster, err = startCluster(ctx, c.say); err != nil {
		return err
	}
	to := endpoint{c.route.address, c.bed.server.User, c.bed.server.PrivateKey, c.bed.server.HostKey}
	if _, err := c.cluster.open(ctx, to, 4); err != nil {
		return err
	}
	text, err := c.cluster.plane.Kubeconfig()
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(c.dir, "kubeconfig")
	c.plugin = []string{program, "--kubeconfig=" + kubeconfig, "cp", "-q"}
	return os.WriteFile(kubeconfig, text, 0o600)
}

func (c *copies) close() {
	if c.cluster != nil {
		c.cluster.stop()
	}
	if c.remote != "" {
		_ = c.route.ssh(context.Background(), "rm -rf "+c.remote).Run()
	}
	if c.route != nil {
		c.route.close()
	}
	if c.proxy != nil {
		c.proxy.Close()
	}
	_ = os.RemoveAll(c.dir)
}

// near copies a file in both directions, beside the operator.
func (c *copies) near(ctx context.Context) ([]row, error) {
	file, err := c.file(of(c.settings, 300, 3))
	if err != nil {
		return nil, err
	}
	put := c.route.ssh(ctx, "cat >"+c.remote+"/file")
	if put.Stdin, err = os.Open(file); err != nil {
		return nil, err
	}
	if err := put.Run(); err != nil {
		return nil, fmt.Errorf("put a file on the host: %w", err)
	}
	var rows []row
	for name, up := range map[string]bool{"300 MB to a host": true, "300 MB from a host": false} {
		took, err := c.alternate(ctx, of(c.settings, 3, 1), c.transfers(file, up, pluginCopy, pluginBare, "scp"))
		if err != nil {
			return rows, err
		}
		rows = append(rows, compared(name, median(took[pluginCopy]), "s", "scp", median(took["scp"])).ratioAtMost(1),
			compared(name+bare, median(took[pluginBare]), "s", "scp", median(took["scp"])))
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return strings.Compare(strings.TrimSuffix(b.Name, bare), strings.TrimSuffix(a.Name, bare))
	})
	return rows, nil
}

// large copies a large file over a long way. The rate of a window is the limit there.
func (c *copies) large(ctx context.Context) ([]row, error) {
	megabytes := of(c.settings, 1000, 10)
	file, err := c.file(megabytes)
	if err != nil {
		return nil, err
	}
	took, err := c.alternate(ctx, 1, c.transfers(file, true, pluginCopy, pluginBare, "scp", "rsync", "sftp"))
	if err != nil {
		return nil, err
	}
	rate := func(name string) float64 { return float64(megabytes) / median(took[name]) }
	var rows []row
	for _, other := range []string{"scp", "rsync", "sftp"} {
		if len(took[other]) == 0 {
			rows = append(rows, figure("1 GB, 50 ms away, 4 connections ("+other+" is not installed)", rate(pluginCopy), "MB/s"))
			continue
		}
		r := compared("1 GB, 50 ms away, 4 connections", rate(pluginCopy), "MB/s", other, rate(other))
		rows = append(rows, r.ratioAtLeast(3.5),
			compared("1 GB, 50 ms away, 4 connections"+bare, rate(pluginBare), "MB/s", other, rate(other)))
	}
	return rows, nil
}

// small copies a tree of many small files.
func (c *copies) small(ctx context.Context) ([]row, error) {
	tree := filepath.Join(c.dir, "tree")
	for i := range of(c.settings, treeFiles, 20) {
		name := filepath.Join(tree, strconv.Itoa(i%treeDirectories), strconv.Itoa(i))
		err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o750), os.WriteFile(name, bytes.Repeat([]byte("x"), 2000), 0o600))
		if err != nil {
			return nil, err
		}
	}
	took, err := c.alternate(ctx, 1, c.transfers(tree, true, pluginCopy, "scp", "rsync"))
	if err != nil {
		return nil, err
	}
	// Ansible takes two seconds for each file.
	part, err := c.alternate(ctx, 1, c.transfers(filepath.Join(tree, "0"), true, "ansible"))
	if err != nil {
		return nil, err
	}
	const partly = "ansible, by a twentieth"
	for _, seconds := range part["ansible"] {
		took[partly] = []float64{treeDirectories * seconds}
	}
	ours := median(took[pluginCopy])
	rows := []row{figure("1,000 small files, 26 ms away", ours, "s").atMost(2)}
	for _, other := range []string{"scp", "rsync", partly} {
		name := "1,000 small files, 26 ms away"
		if len(took[other]) == 0 {
			rows = append(rows, figure(name+" ("+other+" is not installed)", ours, "s"))
			continue
		}
		r := compared(name, ours, "s", other, median(took[other]))
		if other == "scp" {
			r = r.ratioAtMost(0.05)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// file makes a file of so many megabytes that cannot be compressed.
func (c *copies) file(megabytes int) (string, error) {
	name := filepath.Join(c.dir, "file")
	out, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer out.Close() //nolint:errcheck // written below
	_, err = io.CopyN(out, rand.Reader, int64(megabytes)*1e6)
	return name, err
}

// transfers are the same copy by several programs. One that is not installed is left out.
func (c *copies) transfers(source string, up bool, programs ...string) map[string]func(context.Context) *exec.Cmd {
	all := map[string]func(context.Context) *exec.Cmd{}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil && program != pluginCopy && program != pluginBare {
			c.say("%s is not installed", program)
			continue
		}
		all[program] = func(ctx context.Context) *exec.Cmd { return c.command(ctx, program, source, up) }
	}
	return all
}

// command copies to a name that nothing has yet.
func (c *copies) command(ctx context.Context, program, source string, up bool) *exec.Cmd {
	c.runs++
	away, here := fmt.Sprintf("%s/%d", c.remote, c.runs), fmt.Sprintf("%s/%d", c.dir, c.runs)
	host, port, _ := net.SplitHostPort(c.route.address)
	options := []string{
		"-F", "none", "-i", filepath.Join(c.route.dir, "key"), "-o", "UserKnownHostsFile=" + filepath.Join(c.route.dir, "known_hosts"),
		"-o", "GlobalKnownHostsFile=none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
	}
	account := c.bed.server.User + "@" + host
	sides := func(prefix string) []string {
		if up {
			return []string{source, prefix + away}
		}
		return []string{prefix + c.remote + "/file", here}
	}
	switch program {
	case "scp":
		return exec.CommandContext(ctx, "scp", slices.Concat(options, []string{"-q", "-r", "-P", port}, sides(account+":"))...)
	case "rsync":
		ssh := "ssh -p " + port + " " + strings.Join(options, " ")
		return exec.CommandContext(ctx, "rsync", slices.Concat([]string{"-r", "-e", ssh}, sides(account+":"))...)
	case "sftp":
		batch := exec.CommandContext(ctx, "sftp", slices.Concat(options, []string{"-q", "-P", port, "-b", "-", account})...)
		batch.Stdin = strings.NewReader("put " + source + " " + away + "\n")
		return batch
	case "ansible":
		return c.ansible(ctx, options, source, away)
	}
	words := slices.Concat(c.plugin[1:], []string{"-r"}, sides(livePool+":"))
	if program == pluginBare {
		words = append(words, "--verify=false")
	}
	return exec.CommandContext(ctx, c.plugin[0], words...)
}

func (c *copies) ansible(ctx context.Context, options []string, source, away string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(c.route.address)
	command := exec.CommandContext(ctx, "ansible", "all", "-i", host+",", "-u", c.bed.server.User, "-m", "copy",
		"-a", "src="+source+" dest="+away+"/", "--ssh-common-args", "-p "+port+" "+strings.Join(options, " "))
	command.Env = append(os.Environ(), "ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_LOCAL_TEMP="+c.dir, "ANSIBLE_HOME="+c.dir)
	return command
}

// alternate runs all programs in turn, and returns how long each took, in seconds.
func (c *copies) alternate(
	ctx context.Context, rounds int, commands map[string]func(context.Context) *exec.Cmd,
) (map[string][]float64, error) {
	took := map[string][]float64{}
	for range rounds {
		for name, command := range commands {
			c.say("copy with %s", name)
			run, begin := command(ctx), time.Now()
			if output, err := run.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, output)
			}
			took[name] = append(took[name], time.Since(begin).Seconds())
			if err := c.cleanUp(ctx); err != nil {
				return nil, err
			}
		}
	}
	return took, nil
}

// cleanUp removes what the last program has copied.
func (c *copies) cleanUp(ctx context.Context) error {
	last := strconv.Itoa(c.runs)
	return errors.Join(os.RemoveAll(filepath.Join(c.dir, last)), c.route.ssh(ctx, "rm -rf "+c.remote+"/"+last).Run())
}
