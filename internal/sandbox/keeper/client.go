package keeper

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// errGone says that nobody serves an environment any more.
var errGone = errors.New("its keeper is not there any more")

func goneFrom(dir string) error {
	return fault.New(fault.Unavailable, "delete the environment and create it again", "environment %s: %w", filepath.Base(dir), errGone)
}

// call sends one request to the keeper in dir and decodes the answer into out, if
// that is not nil. Every call has a connection of its own: it ends with ctx.
func call(ctx context.Context, dir, name string, in, out any) error {
	c, resp, err := send(ctx, dir, name, in)
	if err != nil {
		return err
	}
	defer c.close()
	if out == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	return c.errorf(err)
}

// isGone reports that nobody listens where a keeper did.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// exchange is a request that was answered well, with the body unread.
type exchange struct {
	conn *net.UnixConn
	r    *bufio.Reader
	dir  string
	name string
	ctx  context.Context
	stop func() bool
}

// send sends a request and reads the head of the answer. A failure that the keeper
// answers is the error.
func send(ctx context.Context, dir, name string, in any) (*exchange, *http.Response, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, nil, err
	}
	c, err := connect(ctx, dir)
	if isGone(err) {
		err = goneFrom(dir)
	}
	if err != nil {
		return nil, nil, cmp.Or(context.Cause(ctx), fault.Wrap(err, fault.Unavailable, "", "reach environment "+filepath.Base(dir)))
	}
	x := &exchange{conn: c, r: bufio.NewReader(c), dir: dir, name: name, ctx: ctx}
	x.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	req, err := http.NewRequest(http.MethodPost, "http://keeper"+version+name, bytes.NewReader(body))
	if err != nil {
		x.close()
		return nil, nil, err
	}
	req.Close = true
	var resp *http.Response
	if err = req.Write(c); err == nil {
		resp, err = http.ReadResponse(x.r, req)
	}
	if err != nil {
		x.close()
		return nil, nil, x.errorf(err)
	}
	if err := refusal(resp); err != nil {
		x.close()
		return nil, nil, err
	}
	return x, resp, nil
}

// refusal is the failure that a keeper answers.
func refusal(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusSwitchingProtocols:
		return nil
	case http.StatusNotFound:
		return fault.New(fault.Unavailable, "delete the environment and create it again", "the keeper of this environment is of another version of this program")
	}
	var f failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&f); err != nil {
		return fault.Wrap(err, fault.Internal, "", "read the keeper's answer, "+resp.Status)
	}
	return f.err()
}

// errorf says why an exchange failed: the context, the keeper, or its end.
func (x *exchange) errorf(err error) error {
	switch {
	case err == nil:
		return nil
	case x.ctx.Err() != nil:
		return context.Cause(x.ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return goneFrom(x.dir)
	}
	return fault.Wrap(err, fault.Unavailable, "", "environment "+filepath.Base(x.dir)+": "+x.name)
}

func (x *exchange) close() {
	x.stop()
	x.conn.Close()
}

// open sends a request whose answer is a link, and waits for its first frame: a
// failure, or what is decoded into started. Frames before it go to early. The link
// outlives ctx.
func open(ctx context.Context, dir, name string, in, started any, early func(kind byte, b []byte)) (*link, error) {
	x, _, err := send(ctx, dir, name, in)
	if err != nil {
		return nil, err
	}
	l := newLink(x.conn, x.r)
	for {
		kind, b, err := l.receive()
		switch {
		case err != nil:
			x.close()
			return nil, x.errorf(err)
		case kind == frameEnded:
			x.close()
			var e ended
			if err := json.Unmarshal(b, &e); err != nil {
				return nil, x.errorf(err)
			}
			return nil, e.Failure.err()
		case kind != frameStarted:
			early(kind, b)
			continue
		}
		if err := json.Unmarshal(b, started); err != nil {
			x.close()
			return nil, x.errorf(err)
		}
		if !x.stop() { // ctx ended just now, and closed it
			x.close()
			return nil, context.Cause(ctx)
		}
		return l, nil
	}
}
