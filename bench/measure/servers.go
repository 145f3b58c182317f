package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Servers that this program is, as processes of their own.
const (
	cmdModel = "model" // model: answers every request on 127.0.0.1:$PORT with 200 bytes of JSON
	cmdProxy = "proxy" // proxy [-keep] ADDR TARGET: httputil.ReverseProxy, and nothing else
)

// Bodies of 200 bytes.
var (
	requestBody = `{"instances": [[` + strings.Repeat("0.25, ", 30) + `1]]}`
	answerBody  = `{"predictions": [` + strings.Repeat("0.25, ", 30) + `1]}`
)

func serverPart(name string, args []string) error {
	if name == cmdModel {
		l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		if err != nil {
			return err
		}
		return serveModel(l)
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	keep := flags.Bool("keep", false, "keep as many connections to the target as there are clients")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("want two addresses: measure proxy [-keep] ADDR TARGET")
	}
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: flags.Arg(1)})
	if *keep {
		p.Transport = &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64}
	}
	s := &http.Server{Addr: flags.Arg(0), Handler: p, ReadHeaderTimeout: time.Minute}
	return s.ListenAndServe()
}

// serveModel answers as fast as a socket allows, so that what is measured is
// the way to the model: it looks at nothing but where a request ends.
func serveModel(l net.Listener) error {
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answerBody), answerBody)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }() // the other side left
			r := bufio.NewReader(c)
			for skipRequest(r) == nil {
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// skipRequest reads one request with a Content-Length, or without a body.
func skipRequest(r *bufio.Reader) error {
	length := int64(0)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			_, err := io.CopyN(io.Discard, r, length)
			return err
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return err
			}
		}
	}
}
