// Package capture keeps what a model was asked and what it answered, one JSON
// line per request, in size-rotated segments (000001.jsonl, 000002.jsonl …).
//
// A Writer takes entries from the request path through a bounded queue: it
// never blocks a request, and what does not fit is dropped and counted. Each
// Record carries a sequence number that rises by one for ever, also across
// restarts, so that a monitor can cut windows by it. Records and Reader read
// the lines back while they are being written; Instances understands the
// bodies of KServe v1 and of the Open Inference Protocol v2; a Sink sends the
// records on, at least once. The package never interprets a prediction and
// never stores request headers or query strings.
package capture

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Record is one captured request with its answer: one line of a segment.
type Record struct {
	// Seq counts the records of one deployment from 1, without gaps.
	Seq uint64 `json:"seq"`
	// ID is the prediction id that the client was given.
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Version is the number of the model version that answered.
	Version int    `json:"version"`
	Method  string `json:"method"`
	// Path is the escaped path of the request, without its query.
	Path   string `json:"path"`
	Status int    `json:"status"`
	// LatencyMS is the time from the choice of a server to the last byte of its answer.
	LatencyMS float64 `json:"latency_ms"`
	Request   Body    `json:"request"`
	Response  Body    `json:"response"`
}

// Body is a captured body. A complete JSON body is kept as JSON; anything
// else is kept as bytes, and Truncated says that the end is missing.
type Body struct {
	// JSON is the body when it was complete and valid JSON, else nil.
	JSON json.RawMessage
	// Bytes is the body, or its beginning, when JSON is nil.
	Bytes     []byte
	Truncated bool
}

// rawBody is the wire form of a Body that is not JSON.
type rawBody struct {
	Base64    *string `json:"$base64"`
	Truncated bool    `json:"$truncated,omitempty"`
}

// base64Mark starts a body that is not JSON; a JSON object that a client sent
// with the same first key is kept as bytes too, so the two cannot be confused.
var base64Mark = []byte(`{"$base64":`)

// UnmarshalJSON reads either form of a body.
func (b *Body) UnmarshalJSON(data []byte) error {
	*b = Body{}
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if !bytes.HasPrefix(data, base64Mark) {
		b.JSON = bytes.Clone(data)
		return nil
	}
	var raw rawBody
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if raw.Base64 == nil {
		return errors.New(`body: "$base64" is null`)
	}
	decoded, err := base64.StdEncoding.DecodeString(*raw.Base64)
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	b.Bytes, b.Truncated = decoded, raw.Truncated
	return nil
}

// MarshalJSON writes the form that UnmarshalJSON reads.
func (b Body) MarshalJSON() ([]byte, error) {
	if b.JSON != nil {
		return b.JSON, nil
	}
	if len(b.Bytes) == 0 && !b.Truncated {
		return []byte("null"), nil
	}
	return appendRaw(nil, b.Bytes, b.Truncated), nil
}

// Content returns the bytes of the body as they were, up to white space.
func (b Body) Content() []byte {
	if b.JSON != nil {
		return b.JSON
	}
	return b.Bytes
}

// appendBody appends body in its wire form.
func appendBody(dst, body []byte, truncated bool) []byte {
	if len(body) == 0 && !truncated {
		return append(dst, "null"...)
	}
	if truncated || !json.Valid(body) {
		return appendRaw(dst, body, truncated)
	}
	// A line must stay a line: white space goes, but only when there is a
	// line break, because most bodies have none and need no second pass.
	if bytes.IndexByte(body, '\n') >= 0 || bytes.IndexByte(body, '\r') >= 0 || isSpace(body[0]) {
		var buf bytes.Buffer
		if err := json.Compact(&buf, body); err != nil {
			return appendRaw(dst, body, truncated)
		}
		body = buf.Bytes()
	}
	if looksRaw(body) {
		return appendRaw(dst, body, false)
	}
	return append(dst, body...)
}

// looksRaw reports whether a client's JSON could be taken for a raw body.
func looksRaw(body []byte) bool {
	return bytes.HasPrefix(body, base64Mark) || bytes.Equal(body, []byte("null"))
}

func appendRaw(dst, body []byte, truncated bool) []byte {
	dst = append(dst, base64Mark...)
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, body)
	dst = append(dst, '"')
	if truncated {
		dst = append(dst, `,"$truncated":true`...)
	}
	return append(dst, '}')
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
