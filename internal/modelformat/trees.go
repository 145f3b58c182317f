package modelformat

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
)

var xgboostLearner = []string{"attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param", "objective"}

// xgboost recognises its three forms: JSON and UBJSON by their first keys, the old binary by the names behind its
// parameters.
func (d *detector) xgboost(in *input) (bool, error) {
	switch {
	case xgboostJSON(in.head):
		d.is(in, XGBoost, "JSON with a learner")
	case xgboostUBJ(in.head):
		d.is(in, XGBoost, "UBJSON with a learner")
	default:
		objective := xgboostBinary(in.head)
		if objective == "" {
			return false, nil
		}
		d.is(in, XGBoost, "the old binary form with objective %s", objective)
	}
	return true, nil
}

// xgboostJSON looks for {"learner": {KNOWN KEY …; a version may come first.
func xgboostJSON(head []byte) bool {
	if b := bytes.TrimLeft(head, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	next := func() any {
		t, err := dec.Token()
		if err != nil {
			return nil
		}
		return t
	}
	if next() != json.Delim('{') {
		return false
	}
	key := next()
	if key == "version" {
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return false
		}
		key = next()
	}
	if key != "learner" || next() != json.Delim('{') {
		return false
	}
	inner, is := next().(string)
	return is && slices.Contains(xgboostLearner, inner)
}

// xgboostUBJ looks for the object {learner: {… of UBJSON, whose lengths are big-endian numbers after a letter.
func xgboostUBJ(head []byte) bool {
	if len(head) < 3 || head[0] != '{' {
		return false
	}
	width := map[byte]int{'i': 1, 'U': 1, 'I': 2, 'l': 4, 'L': 8}[head[1]]
	if width == 0 || len(head) < 2+width+8 {
		return false
	}
	var b [8]byte
	copy(b[8-width:], head[2:2+width])
	return binary.BigEndian.Uint64(b[:]) == 7 && string(head[2+width:2+width+8]) == "learner{"
}

var objective = regexp.MustCompile(`^[a-z]+:[a-z0-9_]+$`)

// xgboostBinary returns the objective of the old binary form: 136 bytes of parameters, then the names of objective and
// booster, each with its length before it.
func xgboostBinary(head []byte) string {
	b := bytes.TrimPrefix(head, []byte("binf"))
	const params = 136
	if len(b) < params+8 {
		return ""
	}
	b = b[params:]
	text := func() string {
		if len(b) < 8 {
			return ""
		}
		n := binary.LittleEndian.Uint64(b)
		if n > 64 || uint64(len(b)-8) < n {
			return ""
		}
		t := string(b[8 : 8+n])
		b = b[8+n:]
		return t
	}
	obj, booster := text(), text()
	if !objective.MatchString(obj) || !slices.Contains([]string{"gbtree", "dart", "gblinear"}, booster) {
		return ""
	}
	return obj
}

// lightgbm recognises the text that Booster.save_model writes.
func (d *detector) lightgbm(in *input) (bool, error) {
	lines := strings.SplitN(string(in.head[:min(len(in.head), 64)]), "\n", 3)
	if len(lines) < 3 || strings.TrimRight(lines[0], "\r") != "tree" || !strings.HasPrefix(lines[1], "version=v") {
		return false, nil
	}
	d.is(in, LightGBM, "text that begins with tree and %s", strings.TrimRight(lines[1], "\r"))
	return true, nil
}

// maxTensorHeader is the greatest header that the safetensors library reads.
const maxTensorHeader = 100_000_000

// safetensors recognises a length and a JSON object of that length.
func (d *detector) safetensors(in *input) (bool, error) {
	named := in.ext() == ".safetensors"
	if len(in.head) < 10 {
		if named {
			return true, in.damaged("it has %d bytes, too few for its header", in.size)
		}
		return false, nil
	}
	n := binary.LittleEndian.Uint64(in.head)
	fits := n >= 2 && n <= maxTensorHeader && n <= uint64(min(in.size, math.MaxInt64)-8) && in.head[8] == '{'
	if !named {
		if !fits || !bytes.HasPrefix(bytes.TrimLeft(in.head[9:], " "), []byte(`"`)) {
			return false, nil
		}
	} else if !fits {
		return true, in.damaged("its header of %d bytes is no JSON object inside the file", n)
	}
	last := make([]byte, 1)
	if _, err := in.r.ReadAt(last, 8+int64(n)-1); err != nil || last[0] != '}' && last[0] != ' ' {
		if named {
			return true, in.damaged("its header of %d bytes does not end as a JSON object", n)
		}
		return false, nil
	}
	d.is(in, SafeTensors, "tensors behind a header of %d bytes; nothing in it runs", n)
	return true, nil
}
