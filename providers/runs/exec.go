package runs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/resource"
)

// stage is how a stage calls the block's command; the caller adds what its kind gives besides.
func (o *op) stage(name string, x config.Exec) Stage {
	id := o.req.OpID
	if name != mainStage {
		id += "." + name
	}
	return Stage{Exec: x, Request: o.req, Spec: runner.Spec{
		ID: id, Address: o.req.Address.String(), Command: x.Command, Dir: o.env.Root,
		Env: x.Env, PassEnv: x.PassEnv, Timeout: x.Timeout, Grace: x.Grace,
	}}
}

// inputs resolves a block's `inputs`: data sets and splits are frozen files, models are versions.
func (e *Workspace) inputs(values map[string]any) (map[string]Input, error) {
	out := make(map[string]Input, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p, err := e.input(values[name])
		if err != nil {
			return nil, fmt.Errorf("inputs.%s: %w", name, err)
		}
		out[name] = p
	}
	return out, nil
}

func (e *Workspace) input(v any) (Input, error) {
	switch v := v.(type) {
	case map[string]any:
		if p, ok := v["path"].(string); ok && p != "" {
			at, err := e.InputPath(p)
			return Input{Path: at}, err
		}
		if d, ok := v["digest"].(string); ok && d != "" {
			uri, _ := v["uri"].(string)
			return Input{Model: Made{Digest: resource.Digest(d), URI: uri}}, nil
		}
	case string:
		// `dataset.x.path` is a string too; any other file would be read without being digested.
		if p := e.Abs(v); strings.HasPrefix(p, e.dataDir()+string(filepath.Separator)) {
			at, err := e.InputPath(v)
			return Input{Path: at}, err
		}
	}
	return Input{}, fmt.Errorf("is neither a dataset, a split nor a model; name one, such as dataset.x or dataset.x.split.train")
}

func (e *Workspace) InputPath(p string) (string, error) {
	p = e.Abs(p)
	ok, err := exists(p)
	if err == nil && !ok {
		err = fmt.Errorf("%s is gone; apply its dataset again, which freezes it anew", e.Rel(p))
	}
	return p, err
}

// params turns a block's `params` into the object that the command gets.
func params(v any) (map[string]any, error) {
	switch v := v.(type) {
	case nil:
		return map[string]any{}, nil
	case map[string]any:
		return v, nil
	}
	return nil, fmt.Errorf("params: is %T; write an object such as params = { epochs = 300 }", v)
}

// merged is base with what over holds in its place.
func merged(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	maps.Copy(out, base)
	maps.Copy(out, over)
	return out
}

// progress turns the command's progress lines into events. what names the stage, or is "".
func (o *op) progress(what string) func(runner.Progress) {
	return func(p runner.Progress) {
		o.emit(resource.Event{
			Type: resource.EventProgress, Message: progressText(what, p),
			Step: p.Step, Of: p.Of, Values: p.Values,
		})
	}
}

func progressText(what string, p runner.Progress) string {
	var b strings.Builder
	if what != "" {
		b.WriteString(what + ": ")
	}
	num := func(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }
	b.WriteString("step " + num(p.Step))
	if p.Of > 0 {
		b.WriteString(" of " + num(p.Of))
	}
	for _, k := range slices.Sorted(maps.Keys(p.Values)) {
		b.WriteString(", " + k + " " + num(p.Values[k]))
	}
	return b.String()
}

// warn tells of a virtual environment that the command will not see.
func (o *op) warn(x config.Exec) {
	if o.env.LookupEnv == nil || slices.ContainsFunc(x.PassEnv, func(p string) bool {
		ok, err := path.Match(p, "VIRTUAL_ENV")
		return ok && err == nil
	}) {
		return
	}
	if v, ok := o.env.LookupEnv("VIRTUAL_ENV"); ok && v != "" {
		o.log("the virtual environment %s is active but not passed on; add pass_env = [\"VIRTUAL_ENV\"] if the command needs it", v)
	}
}

// checkout puts the files of a model where commands can read them, and returns the folder. The folder is a cache: one that holds
// something else, because a command wrote into it, is made anew.
func (e *Workspace) checkout(ctx context.Context, m Made) (string, error) {
	d := m.Digest
	s, err := e.Models(ctx, m)
	if err != nil {
		return "", fmt.Errorf("model %s: %w", d.Short(), err)
	}
	dir := e.checkedOut(d)
	err = s.Checkout(d.Hex(), dir)
	if errors.Is(err, files.ErrOccupied) {
		if err = os.RemoveAll(dir); err == nil {
			err = s.Checkout(d.Hex(), dir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("model %s: %w", d.Short(), err)
	}
	return dir, nil
}
