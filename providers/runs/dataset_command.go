package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// madeData is what a preprocessing command made, as its operation remembers it.
type madeData struct {
	Digest resource.Digest `json:"digest"`
	Path   string          `json:"path"` // relative to the project
	Files  int             `json:"files"`
	Bytes  int64           `json:"bytes"`
}

// made runs a preprocessing command; what it leaves in ML_OUTPUT is the data.
func (d *dataset) made(ctx context.Context, spec config.Dataset, req providers.ApplyRequest) (frozen, error) {
	o, err := d.begin(ctx, req)
	if err != nil {
		return frozen{}, err
	}
	var m madeData
	if ok, err := o.recall(&m); err != nil {
		return frozen{}, err
	} else if ok {
		here, err := exists(d.Abs(m.Path))
		if err == nil && !here {
			err = fmt.Errorf("%s: %s is gone; apply again, which makes it anew", req.Address, m.Path)
		}
		return frozen{m.Digest, d.Abs(m.Path), m.Files, m.Bytes}, err
	}
	f, err := d.runCommand(ctx, spec, o)
	if err != nil {
		return f, err
	}
	m = madeData{f.digest, d.Rel(f.path), f.files, f.bytes}
	if err := o.done(m); err != nil {
		return f, err
	}
	return f, os.RemoveAll(o.at("output"))
}

func (d *dataset) runCommand(ctx context.Context, spec config.Dataset, o *op) (frozen, error) {
	in, err := d.inputs(spec.Inputs)
	if err != nil {
		return frozen{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	out := o.at("output")
	if err := mkdir(out); err != nil {
		return frozen{}, err
	}
	s := o.stage(mainStage, spec.Exec)
	s.Inputs, s.Output = in, out
	st, err := o.run(ctx, mainStage, s, o.progress(""))
	if err != nil {
		return frozen{}, err
	}
	if err := o.failure("", st); err != nil {
		return frozen{}, err
	}
	f, err := d.collect(out)
	if errors.Is(err, fs.ErrNotExist) {
		return f, &providers.RunError{
			Err: fmt.Errorf("%s: the command ended with exit code 0 but wrote no data: the folder ML_OUTPUT (%s) holds no file; write the data there", o.req.Address, out),
			Log: st.LastLogLines, Ref: o.ref(),
		}
	}
	return f, err
}

// collect freezes what a command wrote. A single file is the data by itself.
func (d *dataset) collect(dir string) (f frozen, err error) {
	paths, err := FilesUnder(dir)
	if err != nil {
		return f, err
	}
	source := "."
	if len(paths) == 1 {
		rel, err := filepath.Rel(dir, paths[0])
		if err != nil {
			return f, err
		}
		source = filepath.ToSlash(rel)
	}
	x, err := files.Open(dir, "")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	return d.freeze(x, source, "")
}
