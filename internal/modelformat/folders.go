package modelformat

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// folders looks for the formats that are whole folders, the strongest first: what MLflow or Hugging Face wrote holds
// files of other formats.
func (d *detector) folders() error {
	saved := d.whole
	d.whole = nil
	for _, find := range []func() error{d.mlflow, d.huggingFace} {
		if err := find(); err != nil {
			return err
		}
	}
	for _, e := range saved {
		vars := path.Join(path.Dir(e.File), "variables") + "/"
		if slices.ContainsFunc(d.names, func(n string) bool { return strings.HasPrefix(n, vars) }) {
			e.Why += " with variables/"
		} else {
			e.Why += " without variables/"
		}
		d.whole = append(d.whole, e)
	}
	return nil
}

// shallowest returns the file called base that lies closest to the top, or "".
func (d *detector) shallowest(base string) string {
	best := ""
	for _, n := range d.names {
		if path.Base(n) == base && (best == "" || strings.Count(n, "/") < strings.Count(best, "/")) {
			best = n
		}
	}
	return best
}

// text reads a small file whole.
func (d *detector) text(name string) (b []byte, err error) {
	err = d.open(name, func(in *input) error {
		if in.size > maxText {
			return in.damaged("it has %d bytes; at most %d are read", in.size, maxText)
		}
		b, err = io.ReadAll(io.LimitReader(in.section(0), maxText))
		return err
	})
	return b, err
}

var flavor = regexp.MustCompile(`^ +['"]?([A-Za-z0-9_.-]+)['"]?:`)

// flavors reads the names under the top key flavors of an MLmodel file, in the block style in which MLflow writes it.
func flavors(text string) ([]string, error) {
	var names []string
	in, depth := false, 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		body := strings.TrimLeft(line, " ")
		indent := len(line) - len(body)
		switch {
		case body == "" || strings.HasPrefix(body, "#"):
		case indent == 0:
			in = line == "flavors:"
		case !in || depth > 0 && indent > depth:
		default:
			m := flavor.FindStringSubmatch(line)
			if m == nil {
				return nil, fmt.Errorf("%.80q under flavors is no name", body)
			}
			depth = indent
			names = append(names, m[1])
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("it lists no flavors")
	}
	slices.Sort(names)
	return names, nil
}

// mlflow recognises a folder of MLflow by its MLmodel file.
func (d *detector) mlflow() error {
	name := d.shallowest("MLmodel")
	if name == "" {
		return nil
	}
	b, err := d.text(name)
	if err != nil {
		return err
	}
	list, err := flavors(string(b))
	if err != nil {
		return fmt.Errorf("%s %w: not as MLflow writes it: %w", name, ErrDamaged, err)
	}
	d.whole = append(d.whole, Evidence{name, MLflow, "MLflow with the flavors " + strings.Join(list, ", ")})
	if slices.Contains(list, "python_function") {
		d.code = append(d.code, Code{File: name, Why: "MLflow's python_function imports the loader module that this file names, and code that lies beside it"})
	}
	return nil
}

// weights are files with the parameters of a Hugging Face model.
var weights = regexp.MustCompile(`\.safetensors$|^pytorch_model.*\.bin$|^model.*\.bin$|^adapter_model\.bin$|^tf_model\.h5$|^flax_model\.msgpack$`)

// huggingFace recognises a folder with config.json and weights.
func (d *detector) huggingFace() error {
	name := d.shallowest("config.json")
	if name == "" {
		name = d.shallowest("adapter_config.json")
	}
	if name == "" {
		return nil
	}
	dir := path.Dir(name)
	i := slices.IndexFunc(d.names, func(n string) bool { return path.Dir(n) == dir && weights.MatchString(path.Base(n)) })
	if i < 0 {
		return nil
	}
	keys, err := d.keys(name)
	if err != nil {
		return err
	}
	what := ""
	for _, k := range []string{"model_type", "architectures", "peft_type", "auto_map"} {
		if _, has := keys[k]; has {
			what = k
			break
		}
	}
	if what == "" {
		return nil
	}
	d.whole = append(d.whole, Evidence{name, HuggingFace, fmt.Sprintf("Hugging Face: a configuration with %s beside %s", what, path.Base(d.names[i]))})
	return d.huggingFaceCode(name)
}

// huggingFaceCode finds the Python that trust_remote_code would run.
func (d *detector) huggingFaceCode(config string) error {
	for _, n := range d.names {
		switch {
		case !under(n, config):
		case strings.HasSuffix(n, ".py"):
			d.code = append(d.code, Code{File: n, Why: "Python beside a Hugging Face model, which trust_remote_code imports"})
		case path.Dir(n) == path.Dir(config) && strings.HasSuffix(n, "config.json"):
			keys, err := d.keys(n)
			if err != nil {
				return err
			}
			if _, has := keys["auto_map"]; has {
				d.code = append(d.code, Code{File: n, Why: "its auto_map names classes of the model's own Python, which trust_remote_code imports"})
			}
		}
	}
	return nil
}

func (d *detector) keys(name string) (map[string]json.RawMessage, error) {
	b, err := d.text(name)
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, fmt.Errorf("%s %w: no JSON object: %w", name, ErrDamaged, err)
	}
	return keys, nil
}
