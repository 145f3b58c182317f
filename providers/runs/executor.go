package runs

import (
	"context"
	"io"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Executor brings the stages of operations to their end at one place. A stage is known by its folder on this machine, where its
// log, progress, metrics and status stand once Wait has returned; before anything happens elsewhere the folder says so, so that a
// stage happens at most once whoever asks for it. It is safe for concurrent use on different folders.
type Executor interface {
	// Admit looks at a step before anything of it runs. It errors when it cannot run here, and tells through the request's Emit
	// what of it is not used.
	Admit(req providers.ApplyRequest) error
	// Read says what is known of the stage in dir; of none it is runner.Absent.
	Read(ctx context.Context, dir string) (runner.Status, error)
	// Start begins a stage unless it has begun, and then does nothing. When it returns nil the stage goes on without this process. One of
	// which it is not known whether it will begin is a *providers.OpenError: the next call of Start goes on with it.
	Start(ctx context.Context, dir string, s Stage) error
	// Wait returns the outcome of a stage that was started. onProgress, which may be nil, gets every line of progress from the
	// first on. It errors if ctx ends before; the stage goes on. So does one that cannot be looked at any more: that is a
	// *providers.OpenError.
	Wait(ctx context.Context, dir string, onProgress func(runner.Progress)) (runner.Status, error)
	// Cancel ends a stage and returns when nothing of it runs any more; one that has not begun never will. grace 0 is the
	// stage's own. One that is over is left as it is.
	Cancel(ctx context.Context, dir string, grace time.Duration) error
	// Follow writes the log of a stage as it comes, until the stage is over.
	Follow(ctx context.Context, dir string, w io.Writer) error
	// Reports is the folder below which the reports of a stage that is over stand by the names that the command gave them.
	Reports(dir string) string
	// Store keeps the model that a stage which succeeded has made.
	Store(ctx context.Context, addr resource.Address, dir string) (Made, error)
	// Import keeps the files of folder dir as a model.
	Import(ctx context.Context, addr resource.Address, dir string) (Made, error)
	// Stored errors if the model is not kept any more; the error then matches fs.ErrNotExist.
	Stored(ctx context.Context, m Made) error
}

// Made is a model as it is kept.
type Made struct {
	Digest resource.Digest `json:"digest"` // of the content, the same wherever it is kept
	Bytes  int64           `json:"bytes"`
	URI    string          `json:"uri"`
}

// Stage is one call of a block's command.
type Stage struct {
	// Spec says what is run. Its inputs and a model that is only read are those of Inputs and Model.
	Spec runner.Spec
	// Exec is the command as declared: its code, and the policy of the run.
	Exec config.Exec
	// Inputs are what ML_INPUT_<NAME> names.
	Inputs map[string]Input
	// Model, when not nil, is what ML_MODEL_DIR names, read-only.
	Model *Input
	// Output, when not "", is the file or folder on this machine that ends up with what the command writes to ML_OUTPUT. A
	// folder exists before.
	Output string
	// Report, when not "", is a file below the working folder that the command writes besides, such as a JUnit report.
	Report string
	// Request is the step that the stage belongs to: its spec holds what only one provider understands.
	Request providers.ApplyRequest
}

// Input is data or a model that a command reads.
type Input struct {
	// Path is the file or folder on this machine; "" for a model.
	Path string
	// Model is a version's content and where it is kept.
	Model Made
}

// modelInput is a version as an input.
func modelInput(m config.Model) *Input {
	return &Input{Model: Made{Digest: resource.Digest(m.Digest), URI: m.URI}}
}

// IsModel says whether the input is a model version.
func (i Input) IsModel() bool { return i.Path == "" }
