package progress

import (
	"context"
	"io"
)

// Reader returns a reader that counts what is read, and ends with the context. It says how
// many bytes are expected, from which sftp chooses how many requests to have under way.
func (m *Meter) Reader(ctx context.Context, in io.Reader, size int64) io.Reader {
	return &counting{ctx: ctx, meter: m, in: in, size: size}
}

// Writer returns a writer that counts what is written, and ends with the context.
func (m *Meter) Writer(ctx context.Context, out io.Writer) io.Writer {
	return &counting{ctx: ctx, meter: m, out: out}
}

// counting tells the meter what passes in either direction, and ends with its context.
type counting struct {
	ctx   context.Context
	meter *Meter
	in    io.Reader
	out   io.Writer
	size  int64
}

// Read implements io.Reader.
func (c *counting) Read(buffer []byte) (int, error) { return c.count(c.in.Read, buffer) }

// Write implements io.Writer.
func (c *counting) Write(data []byte) (int, error) { return c.count(c.out.Write, data) }

// Size lets sftp choose how many requests to have in flight.
func (c *counting) Size() int64 { return c.size }

func (c *counting) count(pass func([]byte) (int, error), data []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := pass(data)
	c.meter.Add(n)
	return n, err
}
