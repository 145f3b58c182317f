package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// TaskVersion is the version of [Task] that this program understands.
const TaskVersion = 1

// Variables of a container that say what is to be done.
const (
	TaskVar     = "ML_TASK"      // the Task as JSON
	TaskFileVar = "ML_TASK_FILE" // or a file that holds it
	FetchVar    = "ML_FETCH"     // a FetchTask as JSON
	WorkVar     = "ML_WORK"      // folder to work in; it outlives the container, not the pod
	MessageVar  = "ML_TERMINATION_LOG"
)

// Folders of an image below which the files lie.
const (
	CodePrefix       = "code"
	DataPrefix       = "data"
	ModelPrefix      = "models" // where KServe looks for a model
	ResultPrefix     = "result"
	CheckpointPrefix = "checkpoint"
)

// Task is one run of one command. What differs between the nodes of a run comes from each container's environment.
type Task struct {
	V int `json:"v"` // TaskVersion

	ID      string        `json:"id"`
	Address string        `json:"address,omitempty"`
	Command []string      `json:"command"`
	Timeout time.Duration `json:"timeout_ns,omitempty"` // 0: none
	Grace   time.Duration `json:"grace_ns,omitempty"`   // between SIGTERM and SIGKILL; 0: the runner's own

	Params      map[string]any `json:"params,omitempty"`
	Seed        int64          `json:"seed"`
	NeedModel   bool           `json:"need_model,omitempty"`
	NeedMetrics bool           `json:"need_metrics,omitempty"`
	Processes   int            `json:"processes,omitempty"` // on each node; 0: one
	Nodes       int            `json:"nodes,omitempty"`     // 0: one

	// Settle is how long a node of several whose command failed waits before it says so: a command fails as well because another node
	// was lost, and whoever begins again with all of them ends this one in that time. 0: nobody does.
	Settle time.Duration `json:"settle_ns,omitempty"`

	// Env holds values that anybody may see. EnvFrom names variables, or globs of names, of the container that the command gets too; values
	// that are secret reach it this way. ExtraEnv wins over both.
	Env      map[string]string `json:"env,omitempty"`
	EnvFrom  []string          `json:"env_from,omitempty"`
	ExtraEnv map[string]string `json:"extra_env,omitempty"`

	// Code becomes the working folder; without it that is the container's own.
	Code   *Artifact           `json:"code,omitempty"`
	Inputs map[string]Artifact `json:"inputs,omitempty"`
	Model  *Artifact           `json:"model,omitempty"` // to read; a model to write needs NeedModel

	// Results is the repository for the result, Models that for the model. Only the first node writes there.
	Results    string      `json:"results"`
	Models     *ModelPlace `json:"models,omitempty"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	// Outputs are files of the working folder that are part of the result if the command writes them, such as a report of tests.
	Outputs []string `json:"outputs,omitempty"`
	Output  *Output  `json:"output,omitempty"` // what ML_OUTPUT is
	Trial   *Trial   `json:"trial,omitempty"`  // the command is one candidate of a search

	// Insecure lists registries that may be spoken to without TLS.
	Insecure []string `json:"insecure,omitempty"`
}

// Artifact is files in a registry.
type Artifact struct {
	Ref string `json:"ref"` // by digest, or by a tag if Digest is given
	// Digest is our own digest of the content, with or without "sha256:": that of a model's manifest, or that of a dataset's source.
	Digest string `json:"digest,omitempty"`
	// File is the name if the input is that one file; else it is the folder.
	File string `json:"file,omitempty"`
	// Prefix is the folder in the image, "/" for its root; "" means the one that is usual for what it is.
	Prefix string `json:"prefix,omitempty"`
}

// ModelPlace is where a new model goes: an image with the model in /models.
type ModelPlace struct {
	Repo string `json:"repo"`
	Base string `json:"base,omitempty"` // image below; "" means none
}

// Checkpoint is where ML_CHECKPOINT_DIR is kept.
type Checkpoint struct {
	Repo     string        `json:"repo"`
	Tag      string        `json:"tag,omitempty"`         // "" means the run's id
	Interval time.Duration `json:"interval_ns,omitempty"` // between two looks whether it changed; 0 means 1 min
}

// Output is what a command finds in ML_OUTPUT: a file of that name to write, or a folder if there is none.
type Output struct {
	Name string `json:"name,omitempty"`
	// Repo, if given, is where the content goes by its digest; else it is part of the result.
	Repo string `json:"repo,omitempty"`
}

// ParseTask reads a task from the environment.
func ParseTask(getenv func(string) string, readFile func(string) ([]byte, error)) (Task, error) {
	text := []byte(getenv(TaskVar))
	if len(text) == 0 {
		name := getenv(TaskFileVar)
		if name == "" {
			return Task{}, fmt.Errorf("read the task: neither %s nor %s is set; this command is for pods that ml makes", TaskVar, TaskFileVar)
		}
		var err error
		if text, err = readFile(name); err != nil {
			return Task{}, fmt.Errorf("read the task: %w", err)
		}
	}
	var t Task
	if err := decode(text, &t); err != nil {
		return Task{}, fmt.Errorf("read the task: %w", err)
	}
	if err := errors.Join(t.validate(), t.candidate(getenv)); err != nil {
		return Task{}, fmt.Errorf("task of run %s: %w", t.ID, err)
	}
	return t, nil
}

// decode reads JSON that a program of this or another version wrote. Of another version nothing is read: a field that is not understood
// might be the one that matters.
func decode(text []byte, v any) error {
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return err
	}
	if head.V != TaskVersion {
		return fmt.Errorf("it is of version %d, and this ml understands %d; give the pod the runner image of the ml that made it", head.V, TaskVersion)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	d.UseNumber() // a parameter must reach the command digit for digit
	return d.Decode(v)
}

// isTag reports whether a registry takes s as a tag.
func isTag(s string) bool {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	return s != "" && len(s) <= 128 && strings.Trim(s, first+".-") == "" && strings.ContainsRune(first, rune(s[0]))
}

func (t *Task) validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if !isTag(t.ID) {
		bad("id: %q cannot be a tag of the result; give at most 128 letters, digits, '_', '.' and '-'", t.ID)
	}
	if t.Results == "" {
		bad("results: name the repository that the result goes to")
	}
	if t.NeedModel && t.Models == nil {
		bad("models: a model is to be written, and no repository is named for it")
	}
	if t.NeedModel && t.Model != nil {
		bad("model: cannot be both read and written")
	}
	if t.Trial != nil {
		errs = append(errs, t.Trial.check())
	}
	if t.Code != nil {
		errs = append(errs, t.Code.check("code"))
	}
	if t.Model != nil {
		errs = append(errs, t.Model.check("model"))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Inputs)) {
		a := t.Inputs[name]
		errs = append(errs, a.check("input "+name))
		if !isName(name) {
			bad("input %q: the name cannot be that of a folder", name)
		}
	}
	for _, p := range t.Outputs {
		if !filepath.IsLocal(p) {
			bad("output %q: must lie in the working folder", p)
		}
	}
	if t.Output != nil && t.Output.Name != "" && !isName(t.Output.Name) {
		bad("output %q: the name cannot be that of a file", t.Output.Name)
	}
	return errors.Join(errs...)
}

func (a *Artifact) check(what string) error {
	switch {
	case a.Ref == "":
		return fmt.Errorf("%s: no reference", what)
	case a.Digest == "" && !strings.Contains(a.Ref, "@sha256:"):
		return fmt.Errorf("%s: %s names no fixed content; give its digest", what, a.Ref)
	case a.File != "" && !isName(a.File):
		return fmt.Errorf("%s: %q cannot be the name of a file", what, a.File)
	}
	return nil
}

// isName reports whether a text is one element of a path.
func isName(s string) bool {
	return s != "" && s != "." && filepath.IsLocal(s) && !strings.ContainsAny(s, `/\`)
}
