package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// probeTimeout bounds one question to a server that is starting.
const probeTimeout = 2 * time.Second

// probe asks the server on port once. With no path any HTTP answer to GET /
// will do, since a model server need not serve anything there.
func probe(ctx context.Context, port int, path string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	target := path
	if target == "" {
		target = "/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(port)+target, nil)
	if err != nil {
		return err
	}
	req.Close = true
	if err := req.Write(c); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return err
	}
	if path != "" && (resp.StatusCode < 200 || resp.StatusCode > 299) {
		return fmt.Errorf("GET %s answered with status %d", path, resp.StatusCode)
	}
	return nil
}
