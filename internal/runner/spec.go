package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	defaultGrace = 10 * time.Second
	maxProcesses = 1024
	maxNodes     = 65536
	// maxEnvValue keeps NAME=VALUE below the 128 KiB that Linux allows one string of an environment (MAX_ARG_STRLEN).
	maxEnvValue = 120 << 10
	// DefaultLogLimit is the size in bytes at which a log is cut in its middle.
	DefaultLogLimit = 256 << 20
)

// Spec says what to run. It is stored in the run folder as spec.json, except for the values of environment variables: those travel to
// the detached process in its own environment and touch no disk.
type Spec struct {
	// ID is the run's id, ML_RUN_ID; Address the block it belongs to, for messages.
	ID      string `json:"id"`
	Address string `json:"address,omitempty"`
	// Command is the argument list; there is no shell. A name without a slash is looked up in the command's own PATH.
	Command []string `json:"command"`
	// Dir is the working folder. Relative inputs and folders of this Spec are taken from it.
	Dir string `json:"dir"`

	// Env holds variables as the user declared them. Names that the contract owns are refused.
	Env map[string]string `json:"-"`
	// PassEnv names variables, or globs of names, that [Start] takes from its own environment. LD_PRELOAD and its like
	// are taken only when named in full, never by a glob.
	PassEnv []string `json:"pass_env,omitempty"`
	// ExtraEnv holds what the calling provider adds to the contract (PORT, for instance). It wins over everything else.
	ExtraEnv map[string]string `json:"-"`

	// Timeout ends the run; 0 means none. Grace lies between SIGTERM and SIGKILL; 0 means 10 s.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
	Grace   time.Duration `json:"grace_ns,omitempty"`

	// Inputs maps names to files or folders, which must exist when the command starts. A run that changed one is a failed one.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Params maps names to values that JSON can hold.
	Params map[string]any `json:"params,omitempty"`

	// NeedModel makes a run that ends well without a regular file in ModelDir a failed one; ModelDir is then created, must be empty at the start, and
	// is `model` in the run folder if not given. ModelReadOnly makes a run that changed ModelDir a failed one.
	ModelDir      string `json:"model_dir,omitempty"`
	NeedModel     bool   `json:"need_model,omitempty"`
	ModelReadOnly bool   `json:"model_read_only,omitempty"`
	// CheckpointDir is created if missing and never emptied; `checkpoint` in the run folder if not given.
	CheckpointDir string `json:"checkpoint_dir,omitempty"`
	Seed          int64  `json:"seed"`
	// NeedMetrics makes a run that ends well without valid metrics a failed one.
	NeedMetrics bool `json:"need_metrics,omitempty"`
	// Processes above 1 starts the command that many times with torchrun's variables. The first that fails ends all.
	Processes int `json:"processes,omitempty"`
	// Nodes above 1 says that the same run is started on so many machines, of which this is number NodeRank, from 0. Rank 0 listens at
	// MasterAddr and MasterPort (1 to 65535) then; on one machine a free port of it is taken. This package starts nothing elsewhere.
	Nodes      int    `json:"nodes,omitempty"`
	NodeRank   int    `json:"node_rank,omitempty"`
	MasterAddr string `json:"master_addr,omitempty"`
	MasterPort int    `json:"master_port,omitempty"`
	// LogLimit is the size in bytes at which a log is cut; 0 means [DefaultLogLimit].
	LogLimit int64 `json:"log_limit,omitempty"`
}

// Validate reports everything that is wrong with the spec, each error naming the field.
func (s *Spec) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if s.ID == "" || len(s.ID) > 128 || strings.ContainsAny(s.ID, "\x00\n\r") {
		bad("run id %q: give 1 to 128 characters without line breaks", s.ID)
	}
	if len(s.Command) == 0 || s.Command[0] == "" {
		bad("command: is empty; give a program and its arguments")
	}
	for i, a := range s.Command {
		if strings.ContainsRune(a, 0) {
			bad("command: argument %d holds a NUL byte", i)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"timeout", s.Timeout}, {"grace", s.Grace}} {
		if d.value < 0 {
			bad("%s: %s is negative", d.name, d.value)
		}
	}
	if s.Processes < 0 || s.Processes > maxProcesses {
		bad("processes: %d is outside 0 to %d", s.Processes, maxProcesses)
	}
	if s.Nodes < 0 || s.Nodes > maxNodes {
		bad("nodes: %d is outside 0 to %d", s.Nodes, maxNodes)
	} else if s.NodeRank < 0 || s.NodeRank >= max(s.Nodes, 1) {
		bad("node rank: %d is outside 0 to %d", s.NodeRank, max(s.Nodes, 1)-1)
	}
	if s.Nodes > 1 && (s.MasterAddr == "" || s.MasterPort < 1 || s.MasterPort > 65535) {
		bad("master: %q and port %d; several nodes need the address and port of the first", s.MasterAddr, s.MasterPort)
	}
	if s.LogLimit < 0 {
		bad("log limit: %d is negative", s.LogLimit)
	}
	if s.NeedModel && s.ModelReadOnly {
		bad("model: cannot be both written by the command and read-only")
	}
	if s.ModelReadOnly && s.ModelDir == "" {
		bad("model: is to be read-only, but no folder is given")
	}
	errs = append(errs, s.checkEnv()...)
	errs = append(errs, s.checkNames()...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("run %s: %w", s.ID, err)
	}
	return nil
}

func (s *Spec) checkEnv() []error {
	var errs []error
	for field, env := range map[string]map[string]string{"env": s.Env, "extra env": s.ExtraEnv} {
		for _, name := range slices.Sorted(maps.Keys(env)) {
			if err := checkEnvName(name); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", field, err))
			} else if strings.ContainsRune(env[name], 0) {
				errs = append(errs, fmt.Errorf("%s %s: the value holds a NUL byte", field, name))
			} else if len(env[name]) > maxEnvValue {
				errs = append(errs, fmt.Errorf("%s %s: the value has %d bytes, a variable can hold %d; put it into a file", field, name, len(env[name]), maxEnvValue))
			} else if field == "env" && isContractName(name) {
				errs = append(errs, fmt.Errorf("env %s: this variable belongs to the runner contract; choose another name", name))
			}
		}
	}
	for _, p := range s.PassEnv {
		if err := checkEnvName(p); err != nil {
			errs = append(errs, fmt.Errorf("pass_env: %w", err))
		} else if _, err := path.Match(p, ""); err != nil {
			errs = append(errs, fmt.Errorf("pass_env %q: %w", p, err))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

func checkEnvName(name string) error {
	if name == "" {
		return errors.New("a variable has an empty name")
	}
	if strings.ContainsAny(name, "=\x00\n\r") {
		return fmt.Errorf("variable %q: a name cannot hold '=', NUL or a line break", name)
	}
	return nil
}

// checkNames looks for inputs and parameters that would share a variable, or would not fit into one.
func (s *Spec) checkNames() []error {
	var errs []error
	seen := map[string]string{}
	claim := func(what, prefix, name string) {
		v := prefix + envSuffix(name)
		if name == "" {
			errs = append(errs, fmt.Errorf("%s: a name is empty", what))
		} else if other, ok := seen[v]; ok {
			errs = append(errs, fmt.Errorf("%s %q and %q would both be %s; rename one", what, other, name, v))
		}
		seen[v] = name
	}
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		claim("input", "ML_INPUT_", name)
		if p := s.Inputs[name]; p == "" || strings.ContainsRune(p, 0) {
			errs = append(errs, fmt.Errorf("input %q: the path %q is not usable", name, p))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Params)) {
		claim("parameter", "ML_PARAM_", name)
		v, err := paramValue(s.Params[name])
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("parameter %q: %w", name, err))
		case len(v) > maxEnvValue:
			errs = append(errs, fmt.Errorf("parameter %q: has %d bytes, a variable can hold %d; make it an input", name, len(v), maxEnvValue))
		case strings.ContainsRune(v, 0):
			errs = append(errs, fmt.Errorf("parameter %q: the value holds a NUL byte", name))
		}
	}
	return errs
}

// paramValue is what stands in ML_PARAM_<NAME>: a string as it is, anything else as JSON.
func paramValue(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot be written as JSON: %w", err)
	}
	return string(b), nil
}

// resolve makes every path absolute and fills in defaults, so that the stored spec means the same to any reader.
func (s Spec) resolve(dir string) (Spec, error) {
	var err error
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return s, fmt.Errorf("run %s: working folder: %w", s.ID, err)
	}
	at := func(p string) string {
		if filepath.IsAbs(p) {
			return filepath.Clean(p)
		}
		return filepath.Join(s.Dir, p)
	}
	inputs := make(map[string]string, len(s.Inputs))
	for name, p := range s.Inputs {
		inputs[name] = at(p)
	}
	s.Inputs = inputs
	switch {
	case s.ModelDir != "":
		s.ModelDir = at(s.ModelDir)
	case s.NeedModel:
		s.ModelDir = filepath.Join(dir, "model")
	}
	if s.CheckpointDir == "" {
		s.CheckpointDir = filepath.Join(dir, "checkpoint")
	}
	s.CheckpointDir = at(s.CheckpointDir)
	if s.Grace == 0 {
		s.Grace = defaultGrace
	}
	s.Processes = max(s.Processes, 1)
	if s.LogLimit == 0 {
		s.LogLimit = DefaultLogLimit
	}
	return s, nil
}
