package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"
)

// keepBuffer is the largest buffer, in bytes, that goes back to the pool: one
// long request must not pin its memory for ever.
const keepBuffer = 64 << 10

// Entry is a request and its answer on the way to a Writer. The request path
// fills its buffers in place, so that capturing copies nothing.
type Entry struct {
	ID      string
	Time    time.Time
	Version int
	Method  string
	Path    string
	Status  int
	Latency time.Duration
	// Request and Response are the bodies, or their beginnings when the
	// Truncated flag beside each is set.
	Request, Response                   []byte
	RequestTruncated, ResponseTruncated bool
	// RequestEncoding and ResponseEncoding are the Content-Encoding headers;
	// a gzip body is stored unpacked.
	RequestEncoding, ResponseEncoding string

	// stands gets the outcome of Commit; nil if nobody waits for it.
	stands chan error
}

// Entries is a pool of entries. The zero value is ready for use.
type Entries struct{ pool sync.Pool }

// Get returns an empty entry, with buffers from earlier use.
func (p *Entries) Get() *Entry {
	if e, ok := p.pool.Get().(*Entry); ok {
		return e
	}
	return &Entry{Request: make([]byte, 0, 4<<10), Response: make([]byte, 0, 4<<10)}
}

// Put gives an entry back; the caller must not touch it afterwards.
func (p *Entries) Put(e *Entry) {
	req, resp := e.Request[:0], e.Response[:0]
	if cap(req) > keepBuffer || cap(resp) > keepBuffer {
		return
	}
	*e = Entry{Request: req, Response: resp}
	p.pool.Put(e)
}

// size is what the entry holds in the queue, in bytes.
func (e *Entry) size() int64 { return int64(len(e.Request) + len(e.Response) + 512) }

// appendLine appends the entry as one line with sequence number seq.
func (e *Entry) appendLine(dst []byte, seq uint64, maxBody int) []byte {
	request, reqCut := clip(e.Request, e.RequestTruncated, e.RequestEncoding, maxBody)
	response, respCut := clip(e.Response, e.ResponseTruncated, e.ResponseEncoding, maxBody)
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"id":`...)
	dst = appendString(dst, e.ID)
	dst = append(dst, `,"time":"`...)
	dst = e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","version":`...)
	dst = strconv.AppendInt(dst, int64(e.Version), 10)
	dst = append(dst, `,"method":`...)
	dst = appendString(dst, e.Method)
	dst = append(dst, `,"path":`...)
	dst = appendString(dst, e.Path)
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(e.Status), 10)
	dst = append(dst, `,"latency_ms":`...)
	dst = strconv.AppendFloat(dst, float64(e.Latency.Microseconds())/1000, 'f', -1, 64)
	dst = append(dst, `,"request":`...)
	dst = appendBody(dst, request, reqCut)
	dst = append(dst, `,"response":`...)
	dst = appendBody(dst, response, respCut)
	return append(dst, '}', '\n')
}

// clip unpacks a gzip body and cuts it to max bytes.
func clip(body []byte, truncated bool, encoding string, limit int) ([]byte, bool) {
	if encoding == "gzip" && !truncated {
		if plain, err := gunzip(body, limit); err == nil {
			body = plain
		}
	}
	if len(body) > limit {
		return body[:limit], true
	}
	return body, truncated
}

// gunzip unpacks body, one byte further than limit at most, so that a bomb
// costs no more than a body that is too long.
func gunzip(body []byte, limit int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	return plain, nil
}

// appendString appends s as a JSON string; ids and paths rarely need escapes.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // not possible for a string
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
