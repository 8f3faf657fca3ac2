// Package web shows pools on a page in a browser: the command web.
//
// New makes the command. It serves a page on this machine, which the package feed
// fills with what the cluster says to the caller. The page is plain HTML, CSS and
// modules of JavaScript, embedded as they are.
//
// Who reads the link gets in: it holds a token that is taken once. From then on a
// cookie opens the page, under a path that only the browser was told. Cookies do not
// know ports, so without the secret path a server on another port of this machine
// could make the browser send it the cookie.
//
// Trade-off: the page asks once a second, instead of being told. So a page that is
// hidden or closed costs nothing, without another word between the two.
package web

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/listen"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/web/feed"
)

type options struct {
	*plugin.Factory
	port int
	open bool
}

// New returns the command web.
func New(f *plugin.Factory) *cobra.Command {
	o := &options{Factory: f}
	command := &cobra.Command{
		Use:   "web",
		Short: "Watch pools on a page in your browser",
		Long: "Watch pools on a page in your browser: which targets fail and what to do about it,\n" +
			"how busy each target is, its connections, and who uses them now.\n\n" +
			"The page is served on this machine only and shows only what you may read. Its link\n" +
			"can be opened once. Nothing is stored, and the cluster is asked only while the page\n" +
			"is visible.",
		Example: f.Examples(
			"the pools of the namespace, in the browser", "web --open",
			"those of all namespaces, at a port of your choice", "web -A --port 8080"),
		Args: plugin.Args(0, 0),
		RunE: f.LiveE(nil, o.validate, o.run),
	}
	plugin.RegisterAllNamespaces(f, command)
	flags := command.Flags()
	flags.IntVar(&o.port, "port", 0, "Port of "+listen.Loopback+" to serve on; 0 is any free port")
	flags.BoolVar(&o.open, "open", false, "Open the page in the browser")
	return command
}

func (o *options) validate() error {
	if o.port < 0 || o.port > 65535 {
		return fmt.Errorf("--port %d is not a valid port (0-65535)", o.port)
	}
	return nil
}

func (o *options) run(ctx context.Context, live *client.Client) error {
	objects, err := o.Cluster.Objects()
	if err != nil {
		return err
	}
	listener, err := listen.TCP(ctx, listen.Loopback, strconv.Itoa(o.port))
	if err != nil {
		return err
	}
	pools := feed.New(feed.Source{Cluster: o.Cluster, Objects: objects, Live: live}, o.Namespace, o.Now)
	server := newServer(pools, scope{Context: o.Cluster.Context(), Namespace: o.Namespace, Program: o.Name})
	stop := server.serve(listener, pools) //nolint:contextcheck // it answers until it is stopped, whatever ctx does
	defer stop()
	link := "http://" + listener.Addr().String() + server.entry()
	fmt.Fprintf(o.Out, "Showing %s until Ctrl-C at\n\n  %s\n\nThe link can be opened once, on this machine.\n", o.subject(), link)
	if o.open {
		remove, err := openBrowser(link)
		defer remove()
		if err != nil {
			exit.PrintNote(o.ErrOut, fmt.Sprintf("no browser was opened (%v): open the link yourself", err))
		}
	}
	<-ctx.Done()
	return nil
}

func (o *options) subject() string {
	if o.AllNamespaces {
		return "the pools of all namespaces"
	}
	return "the pools of namespace " + o.Namespace
}
