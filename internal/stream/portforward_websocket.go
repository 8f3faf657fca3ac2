package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/connpool/connpool/internal/kubestream"
)

const (
	tunnelProtocol = kubestream.ForwardProtocol

	// maxPorts is for how many pairs of channels one byte has numbers.
	maxPorts = 127
)

// forwardSubprotocols are the forms of the port-forward protocol on WebSockets, best
// first: SPDY in a tunnel, and a pair of channels for each port.
var forwardSubprotocols = []string{
	tunnelProtocol,
	remotecommand.StreamProtocolV4Name,
	"v4." + wsstream.Base64ChannelWebSocketProtocol,
}

func (l limits) serveForwardWebSocket(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		l.serveTunnel(w, r, dial)
		return
	}
	ports, err := parsePorts(r.URL.Query()["ports"])
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if socket, ok := l.upgradeWebSocket(w, r, forwardSubprotocols[1:]); ok {
		forwardChannels(r.Context(), socket, ports, dial)
	}
}

// serveTunnel forwards ports by SPDY in a WebSocket.
func (l limits) serveTunnel(w http.ResponseWriter, r *http.Request, dial DialFunc) {
	socket, ok := l.upgradeWebSocket(w, r, forwardSubprotocols[:1])
	if !ok {
		return
	}
	reader, writer := websocket.JoinMessages(socket.conn, ""), messageWriter{socket.conn}
	l.forward(r.Context(), &frames{transport: socket.transport, reader: reader, writer: writer}, dial)
}

// messageWriter sends each piece of data as one message.
type messageWriter struct{ conn *websocket.Conn }

func (w messageWriter) Write(p []byte) (int, error) {
	if err := w.conn.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// parsePorts reads the ports query parameter: repeated, or separated by commas.
func parsePorts(values []string) ([]uint16, error) {
	var ports []uint16
	for text := range strings.SplitSeq(strings.Join(values, ","), ",") {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("query parameter ports must list ports from 1 to 65535, not %q", text)
		}
		ports = append(ports, uint16(port))
	}
	if len(ports) > maxPorts {
		return nil, fmt.Errorf("query parameter ports lists %d ports: at most %d can be forwarded at once", len(ports), maxPorts)
	}
	return ports, nil
}

// forwardChannels connects each port once. Channel 2n carries the data of port
// n and channel 2n+1 its errors; both begin with the port's number.
func forwardChannels(ctx context.Context, socket *webSocket, ports []uint16, dial DialFunc) {
	defer socket.close()
	defer socket.expireWith(ctx)()
	from := channels{}
	inputs := make([]*inbox, len(ports))
	for n := range ports {
		inputs[n] = newInbox()
		from[dataChannel(n)] = inputs[n]
	}
	socket.start(ctx, func() error {
		err := socket.receive(from)
		for _, input := range inputs {
			input.close(io.ErrUnexpectedEOF)
		}
		return err
	})
	lived, cancel := endWith(ctx, socket.running)
	defer cancel()
	var workers sync.WaitGroup
	for n, port := range ports {
		workers.Go(func() { forwardChannel(lived, socket, n, port, inputs[n], dial) })
	}
	workers.Wait()
	socket.finish(ctx)
}

func dataChannel(n int) byte { return byte(2 * n) }

// forwardChannel serves one port to its end.
func forwardChannel(ctx context.Context, socket *webSocket, n int, port uint16, input *inbox, dial DialFunc) {
	defer input.discard()
	number := binary.LittleEndian.AppendUint16(nil, port)
	data, problems := dataChannel(n), dataChannel(n)+1
	_, _ = socket.send(data, number), socket.send(problems, number)
	defer context.AfterFunc(ctx, input.discard)()
	side{
		in:       input,
		out:      channelWriter{socket, data},
		problems: channelWriter{socket, problems},
		ended:    input.discard, // the protocol has no message for it
	}.connect(ctx, dial, port)
}
