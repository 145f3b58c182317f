package syntax

import (
	"context"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"golang.org/x/sync/errgroup"
)

// Source is one file to parse.
type Source struct {
	Name string // as it stands in diagnostics
	Data []byte
	JSON bool
}

// File is one parsed file: Native bodies, one per piece, or a JSON body.
type File struct {
	Source
	Native []*hclsyntax.Body
	Body   hcl.Body // of a JSON file
}

// Parse scans and parses the files, in parallel, and returns them in the order
// given. A file that a limit refuses has diagnostics and no bodies.
func Parse(ctx context.Context, sources []Source, lim Limits) ([]File, hcl.Diagnostics) {
	files := make([]File, len(sources))
	var jobs []*job
	var diags hcl.Diagnostics
	for i, src := range sources {
		files[i].Source = src
		if src.JSON {
			jobs = append(jobs, &job{file: i})
			continue
		}
		pieces, d := scanFile(src.Data, src.Name, lim)
		diags = append(diags, d...)
		for _, p := range pieces {
			jobs = append(jobs, &job{file: i, piece: p})
		}
	}
	if err := parseAll(ctx, jobs, files, lim); err != nil {
		return files, append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Loading was interrupted", Detail: "The files were not read to the end: " + err.Error() + ". Run the command again.",
		})
	}
	for _, j := range jobs {
		diags = append(diags, j.diags...)
		f := &files[j.file]
		if j.body != nil {
			f.Native = append(f.Native, j.body)
		}
		if j.json != nil {
			f.Body = j.json
		}
	}
	return files, diags
}

type job struct {
	file  int
	piece piece
	body  *hclsyntax.Body
	json  hcl.Body
	diags hcl.Diagnostics
}

func parseAll(ctx context.Context, jobs []*job, files []File, lim Limits) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(jobs) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				jobs[i].parse(files[jobs[i].file].Source, lim)
			}
		})
	}
	return g.Wait()
}

func (j *job) parse(src Source, lim Limits) {
	if src.JSON {
		j.json, j.diags = ParseJSON(src.Data, src.Name, lim)
		return
	}
	f, diags := hclsyntax.ParseConfig(src.Data[j.piece.start.Byte:j.piece.end], src.Name, j.piece.start)
	j.diags = diags
	if f == nil {
		return
	}
	if b, ok := f.Body.(*hclsyntax.Body); ok {
		j.body = b
	}
}

// ParseJSON scans and parses one JSON file. The body is nil with errors.
func ParseJSON(data []byte, filename string, lim Limits) (hcl.Body, hcl.Diagnostics) {
	if diags := ScanJSON(data, filename, lim); diags.HasErrors() {
		return nil, diags
	}
	f, diags := hcljson.Parse(data, filename)
	if f == nil || diags.HasErrors() {
		return nil, diags
	}
	return f.Body, diags
}
