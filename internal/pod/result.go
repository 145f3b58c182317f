package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/runner"
)

// The files of a result.
const (
	reportFile  = "result.json"
	statusFile  = "status.json"
	metricsFile = "metrics.json"
	logFile     = "stdout.log" // the end of the log
	outputsDir  = "outputs"    // files of the working folder, by their paths
	outputDir   = "output"     // what ML_OUTPUT was
)

const (
	maxRecord  = 16 << 20 // bytes of a JSON file that is read back
	maxMetrics = 1 << 20
	maxOutput  = 256 << 20 // bytes of one of Task.Outputs
	maxLog     = 4 << 20
)

// Report is what a pod says of a run that is over.
type Report struct {
	V        int          `json:"v"`
	ID       string       `json:"id"`
	Address  string       `json:"address,omitempty"`
	Phase    runner.Phase `json:"phase"`
	ExitCode int          `json:"exit_code"`
	Message  string       `json:"message,omitempty"`
	Model    *Model       `json:"model,omitempty"`
	Output   *Artifact    `json:"output,omitempty"`  // what ML_OUTPUT was, if it has a repository of its own
	Outputs  []string     `json:"outputs,omitempty"` // those of Task.Outputs that the command wrote
}

// Result is a report with what belongs to it.
type Result struct {
	Report
	Ref     string        // by digest
	Status  runner.Status // as the runner recorded it
	Metrics []byte        // what the command wrote, not checked; nil if nothing
	// Dir holds the files, if they were asked for: stdout.log (its end), outputs/ and output/.
	Dir string
}

// OutputPath is where the file that the command left under p in its working folder lies; p is one of Outputs.
func (r Result) OutputPath(p string) string {
	return filepath.Join(r.Dir, outputsDir, filepath.FromSlash(p))
}

// OutputDir is the folder of what ML_OUTPUT was.
func (r Result) OutputDir() string { return filepath.Join(r.Dir, outputDir) }

// LogPath is the end of the command's log.
func (r Result) LogPath() string { return filepath.Join(r.Dir, logFile) }

func (r Result) termination() Termination {
	return Termination{
		Phase: r.Phase, ExitCode: r.ExitCode, Message: r.Message, Result: r.Ref, Model: r.Model, Tail: r.Status.LastLogLines, code: codeOf(r.Phase),
	}
}

// ReadResult fetches the result of a run. One that is not there matches oci.ErrNotFound: the run is not over, or its pod could not store it.
func ReadResult(ctx context.Context, c *oci.Client, repo, runID string) (_ Result, err error) {
	tmp, err := os.MkdirTemp("", "ml-result-*")
	if err != nil {
		return Result{}, fmt.Errorf("read the result of run %s: %w", runID, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	res, err := FetchResult(ctx, c, repo, runID, filepath.Join(tmp, "result"))
	res.Dir = ""
	return res, err
}

// FetchResult is ReadResult that leaves the files in dir, which must not exist or be empty.
func FetchResult(ctx context.Context, c *oci.Client, repo, runID, dir string) (Result, error) {
	wrap := func(err error) error { return fmt.Errorf("read the result of run %s: %w", runID, err) }
	img, err := c.Resolve(ctx, repo+":"+runID)
	if err != nil {
		return Result{}, wrap(err)
	}
	if err := c.PullDir(ctx, img.Ref, ResultPrefix, dir); err != nil {
		return Result{}, wrap(err)
	}
	res, err := readResult(dir)
	if err == nil && res.ID != runID {
		err = fmt.Errorf("%s is the result of run %s", img.Ref, res.ID)
	}
	if err != nil {
		return Result{}, wrap(err)
	}
	res.Ref, res.Dir = img.Ref, dir
	return res, nil
}

func readResult(dir string) (res Result, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	text, err := readRegular(root, reportFile, maxRecord)
	if err != nil {
		return res, err
	}
	if err := decode(text, &res.Report); err != nil {
		return res, fmt.Errorf("%s: %w", reportFile, err)
	}
	if !res.Phase.Over() {
		return res, fmt.Errorf("%s: %q is no outcome", reportFile, res.Phase)
	}
	if text, err = readRegular(root, statusFile, maxRecord); err != nil {
		return res, err
	}
	if err := json.Unmarshal(text, &res.Status); err != nil {
		return res, fmt.Errorf("%s: %w", statusFile, err)
	}
	res.Metrics, err = readRegular(root, metricsFile, maxMetrics)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return res, err
}

// store sends model, output and result. What the command made and nobody can store makes the run a failed one.
func (r *run) store(ctx context.Context, a attempt, st runner.Status) (Result, error) {
	rep := Report{V: TaskVersion, ID: r.Task.ID, Address: r.Task.Address}
	spoilt := func(err error) {
		if st.Phase != runner.Succeeded {
			st.Message += "; also, " + err.Error()
			return
		}
		st.Phase, st.Message = runner.Failed, err.Error()
	}
	if r.Task.NeedModel && st.Phase == runner.Succeeded {
		var m Model
		err := r.persist(ctx, func() (err error) { m, err = PushModel(ctx, r.Client, *r.Task.Models, a.model()); return err })
		if ofRegistry(err) {
			return Result{}, fmt.Errorf("its model could not be stored: %w", err)
		} else if err != nil {
			spoilt(err)
		} else {
			rep.Model = &m
		}
	}
	if out := r.Task.Output; out != nil && out.Repo != "" && st.Phase == runner.Succeeded {
		err := r.persist(ctx, func() error {
			got, err := PushData(ctx, r.Client, out.Repo, filepath.Join(r.output(a), out.Name))
			rep.Output = &got
			return err
		})
		if ofRegistry(err) {
			return Result{}, fmt.Errorf("its output could not be stored: %w", err)
		} else if err != nil {
			rep.Output = nil
			spoilt(fmt.Errorf("ML_OUTPUT: %w", err))
		}
	}
	var err error
	if rep.Outputs, err = r.gather(a); err != nil {
		spoilt(err)
	}
	rep.Phase, rep.ExitCode, rep.Message = st.Phase, st.ExitCode, st.Message
	if err := r.stage(a, rep, st); err != nil {
		return Result{}, fmt.Errorf("its result could not be gathered: %w", err)
	}
	img, err := r.send(ctx, a)
	if err != nil && !ofRegistry(err) && r.Task.Output != nil {
		// ML_OUTPUT holds what no image can: the run has failed, and that must be told all the same.
		spoilt(fmt.Errorf("ML_OUTPUT: %w", err))
		rep.Phase, rep.Message = st.Phase, st.Message
		if err = errors.Join(os.RemoveAll(r.output(a)), r.stage(a, rep, st)); err == nil {
			img, err = r.send(ctx, a)
		}
	}
	if err != nil {
		return Result{}, fmt.Errorf("its result could not be stored: %w", err)
	}
	return Result{Report: rep, Ref: img.Ref, Status: st}, nil
}

func (r *run) send(ctx context.Context, a attempt) (img oci.Image, err error) {
	err = r.persist(ctx, func() error {
		img, err = r.Client.PushDir(ctx, oci.PushRequest{Dir: a.result(), Prefix: ResultPrefix, Repo: r.Task.Results, Tag: r.Task.ID})
		return err
	})
	return img, err
}

// ofRegistry reports whether it was the registry that failed, not the files.
func ofRegistry(err error) bool {
	var e *oci.Error
	return errors.As(err, &e) && !errors.Is(err, files.ErrChanged)
}

// gather copies Task.Outputs into the result, and returns those that are there.
func (r *run) gather(a attempt) (got []string, err error) {
	if err := os.RemoveAll(filepath.Join(a.result(), outputsDir)); err != nil || len(r.Task.Outputs) == 0 {
		return nil, err
	}
	dir := a.code()
	if r.Task.Code == nil {
		dir = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, p := range r.Task.Outputs {
		p = path.Clean(filepath.ToSlash(p))
		err := copyRegular(root, p, filepath.Join(a.result(), outputsDir, filepath.FromSlash(p)), maxOutput)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return got, fmt.Errorf("output %s: %w", p, err)
		}
		got = append(got, p)
	}
	return got, nil
}

// stage writes the result's own files.
func (r *run) stage(a attempt, rep Report, st runner.Status) (err error) {
	if err := os.MkdirAll(a.result(), 0o755); err != nil {
		return err
	}
	for name, v := range map[string]any{reportFile: rep, statusFile: st} {
		b, err := json.MarshalIndent(v, "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(a.result(), name), append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(a.run())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	err = copyRegular(root, metricsFile, filepath.Join(a.result(), metricsFile), maxMetrics)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.complain(fmt.Errorf("metrics: %w", err)) // a run that needs them has failed for it already
	}
	return copyEnd(runner.LogPath(a.run(), st.Rank), filepath.Join(a.result(), logFile), maxLog)
}

// openRegular opens what a command may have made: a pipe would block for ever.
func openRegular(root *os.Root, name string, limit int64) (*os.File, error) {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is no regular file", name)
	case info.Size() > limit:
		err = fmt.Errorf("%s has %d bytes; %d are allowed", name, info.Size(), limit)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

func readRegular(root *os.Root, name string, limit int64) (_ []byte, err error) {
	f, err := openRegular(root, name, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit))
}

func copyRegular(root *os.Root, name, to string, limit int64) (err error) {
	f, err := openRegular(root, name, limit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return copyTo(io.LimitReader(f, limit), to)
}

// copyEnd copies the last limit bytes of a file, if there is one.
func copyEnd(from, to string, limit int64) (err error) {
	f, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at := max(0, info.Size()-limit)
	return copyTo(io.NewSectionReader(f, at, info.Size()-at), to)
}

func copyFile(from, to string) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return copyTo(f, to)
}

func copyTo(r io.Reader, to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}
