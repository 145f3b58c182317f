package remote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Names of the objects. Parts are "parts/SHA-RANDOM", snapshots
// "snapshots/SERIAL".
const (
	headName       = "head"
	partPrefix     = "parts/"
	snapshotPrefix = "snapshots/"
)

const (
	headMagic  = "continuo-state"
	headFormat = 1
	// keepWrites is how many write ids a head remembers: whoever lost an answer
	// looks for its own among them, at once or not at all.
	keepWrites = 100
)

// head is the object that all of a state hangs on.
type head struct {
	// Lineage, Serial and Epoch repeat what the entries say, for those who look
	// at the head alone.
	state.Head
	// Write is the id of the write that made this head, Writes those before it,
	// the newest first: by them a writer without an answer finds out.
	Write   string    `json:"write"`
	Writes  []string  `json:"writes,omitempty"`
	Written time.Time `json:"written"` // by the writer's clock, for people
	// Alive rises with each write of the holder of the lease. Its standing still
	// is how others see that the holder is gone.
	Alive uint64 `json:"alive,omitempty"`
	// Place is the folder that the holder works in while it holds the OS lock there, else "".
	Place string `json:"place,omitempty"`
	// Home is the folder that last held the lease: what lives on one machine only is there.
	Home *Home `json:"home,omitempty"`
	// Key tells the key that sensitive values are hashed with; "" while there are none.
	Key string `json:"key,omitempty"`
	// Parts hold the entries, in order; Tail the changes since, packed.
	Parts []partRef `json:"parts,omitempty"`
	Tail  []byte    `json:"tail,omitempty"`
	// Moved says where to the state went, "" while it is here.
	Moved string `json:"moved,omitempty"`
}

// Home is a folder on a machine.
type Home struct {
	ID  string `json:"id"`
	Who string `json:"who"` // user@host
	Dir string `json:"dir"`
}

// partRef names a part.
type partRef struct {
	// First is the first of the keys that it is for, "" of the first part.
	First []byte `json:"first,omitempty"`
	// Name is "SHA256-RANDOM": the digest is over the packed bytes, and the rest
	// makes the name one that was never used, so that nobody removes it as old.
	Name string `json:"name"`
	// Pieces is how many objects it is cut into; 0 is one.
	Pieces int `json:"pieces,omitempty"`
	Bytes  int `json:"bytes"` // unpacked
	// Runs says that it holds runs in full, which few look at.
	Runs bool `json:"runs,omitempty"`
}

func (p partRef) digest() string {
	sum, _, _ := strings.Cut(p.Name, "-")
	return sum
}

// encodeHead writes a line with the format and the digest of what follows.
func encodeHead(h *head) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write the head: %w", err)
	}
	return append(fmt.Appendf(nil, "%s %d %s\n", headMagic, headFormat, resource.DigestOf(body)), body...), nil
}

func decodeHead(data []byte) (*head, error) {
	line, body, _ := bytes.Cut(data, []byte("\n"))
	word, rest, _ := strings.Cut(string(line), " ")
	number, sum, _ := strings.Cut(rest, " ")
	format, err := strconv.Atoi(number)
	switch {
	case word != headMagic || err != nil:
		return nil, fmt.Errorf("%w: the object is no head of a state", state.ErrCorrupt)
	case format > headFormat:
		return nil, state.UnknownTo(fmt.Sprintf("the format %d of a head", format))
	case resource.DigestOf(body) != resource.Digest(sum):
		return nil, fmt.Errorf("%w: the head does not match its checksum", state.ErrCorrupt)
	}
	h := &head{}
	if err := json.Unmarshal(body, h); err != nil {
		return nil, fmt.Errorf("%w: read the head: %w", state.ErrCorrupt, err)
	}
	for i, p := range h.Parts {
		if p.Bytes < 0 || p.Bytes > maxPart || p.Pieces < 0 || p.Pieces > maxPart || i > 0 && bytes.Compare(h.Parts[i-1].First, p.First) >= 0 {
			return nil, fmt.Errorf("%w: the head names the part %s out of order or beyond measure", state.ErrCorrupt, p.Name)
		}
	}
	return h, nil
}

// root is a digest over all entries: it moves when any does.
func (h *head) root() resource.Digest {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d\n", h.Lineage, h.Serial)
	for _, p := range h.Parts {
		fmt.Fprintln(&b, p.digest())
	}
	b.Write(h.Tail)
	return resource.DigestOf(b.Bytes())
}

// has says whether the head was made by a write, or by one after it.
func (h *head) has(write string) bool {
	if h.Write == write {
		return true
	}
	for _, w := range h.Writes {
		if w == write {
			return true
		}
	}
	return false
}
