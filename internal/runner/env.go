package runner

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// The values for the command reach the detached process under these prefixes. Bare names would also steer that
	// process itself (GODEBUG, GOMAXPROCS).
	carryPrefix = "ML_RUNNER_ENV_"
	extraPrefix = "ML_RUNNER_SET_"
	// handshakeVar tells the detached process that file descriptor 3 is the pipe to its starter.
	handshakeVar = "ML_RUNNER_HANDSHAKE"

	defaultPath = "/usr/local/bin:/usr/bin:/bin"
)

// baseNames are the only variables that a command gets without naming them.
var baseNames = []string{"HOME", "LANG", "LC_ALL", "PATH", "TMPDIR"}

// preloadNames make the loader run foreign code in every program. A glob like `LD_*` usually means LD_LIBRARY_PATH, so it does not
// bring them along.
var preloadNames = []string{"DYLD_INSERT_LIBRARIES", "LD_AUDIT", "LD_PRELOAD"}

var contractNames = []string{"ML_CHECKPOINT_DIR", "ML_METRICS", "ML_MODEL_DIR", "ML_PARAMS", "ML_PROGRESS", "ML_RUN_ID", "ML_SEED"}

func isContractName(name string) bool {
	return slices.Contains(contractNames, name) ||
		strings.HasPrefix(name, "ML_INPUT_") || strings.HasPrefix(name, "ML_PARAM_") || strings.HasPrefix(name, "ML_RUNNER_")
}

// envSuffix turns a name into the end of a variable's name: upper case, with `_` for whatever is no letter, digit or `_`.
func envSuffix(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, name)
}

// userEnv returns what the command gets besides the contract: the base, what PassEnv takes from environ, then Env.
func (s *Spec) userEnv(environ []string) map[string]string {
	env := map[string]string{"PATH": defaultPath}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || isContractName(name) {
			continue
		}
		if slices.Contains(baseNames, name) || passes(s.PassEnv, name) {
			env[name] = value
		}
	}
	maps.Copy(env, s.Env)
	return env
}

func passes(patterns []string, name string) bool {
	for _, p := range patterns {
		if p == name {
			return true
		}
		// Validate has seen every pattern, so Match cannot fail here.
		if ok, err := path.Match(p, name); err == nil && ok && !slices.Contains(preloadNames, name) {
			return true
		}
	}
	return false
}

// carried is the environment of the detached process.
func (s *Spec) carried(environ []string) []string {
	var out []string
	for name, v := range s.userEnv(environ) {
		out = append(out, carryPrefix+name+"="+v)
	}
	for name, v := range s.ExtraEnv {
		out = append(out, extraPrefix+name+"="+v)
	}
	slices.Sort(out)
	return out
}

// commandEnv is the command's environment but for the variables of its rank, made from the detached process's own.
func (s *Spec) commandEnv(f folder, environ []string) (map[string]string, error) {
	env, extra := map[string]string{}, map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if n, ok := strings.CutPrefix(name, carryPrefix); ok {
			env[n] = value
		} else if n, ok := strings.CutPrefix(name, extraPrefix); ok {
			extra[n] = value
		}
	}
	if _, ok := env["PYTHONUNBUFFERED"]; !ok {
		env["PYTHONUNBUFFERED"] = "1" // The log would otherwise lag by a buffer, and lose it when the command is killed.
	}
	for name, p := range s.Inputs {
		env["ML_INPUT_"+envSuffix(name)] = p
	}
	for name, v := range s.Params {
		text, err := paramValue(v)
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", name, err)
		}
		env["ML_PARAM_"+envSuffix(name)] = text
	}
	env["ML_PARAMS"] = f.path(paramsFile)
	env["ML_METRICS"] = f.path(metricsFile)
	env["ML_PROGRESS"] = f.path(progressFile)
	env["ML_CHECKPOINT_DIR"] = s.CheckpointDir
	env["ML_RUN_ID"] = s.ID
	env["ML_SEED"] = strconv.FormatInt(s.Seed, 10)
	if s.ModelDir != "" {
		env["ML_MODEL_DIR"] = s.ModelDir
	}
	if s.ModelReadOnly {
		env["PYTHONDONTWRITEBYTECODE"] = "1" // A model with code in it must not get a __pycache__ for being loaded.
	}
	maps.Copy(env, extra)
	return env, nil
}

// distributed reports whether the command has more than one rank.
func (s *Spec) distributed() bool { return s.Processes > 1 || s.Nodes > 1 }

// rankOf is the rank of the n-th process on this machine among those of all machines.
func (s *Spec) rankOf(n int) int { return s.NodeRank*s.Processes + n }

// rankEnv adds torchrun's variables for the n-th process on this machine.
func (s *Spec) rankEnv(env map[string]string, n int) map[string]string {
	env = maps.Clone(env)
	env["MASTER_ADDR"] = s.MasterAddr
	env["MASTER_PORT"] = strconv.Itoa(s.MasterPort)
	env["WORLD_SIZE"] = strconv.Itoa(max(s.Nodes, 1) * s.Processes)
	env["LOCAL_WORLD_SIZE"] = strconv.Itoa(s.Processes)
	env["RANK"] = strconv.Itoa(s.rankOf(n))
	env["LOCAL_RANK"] = strconv.Itoa(n)
	return env
}

func envList(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for name, v := range env {
		out = append(out, name+"="+v)
	}
	slices.Sort(out)
	return out
}

// findProgram looks name up as execvp would with the command's own PATH and working folder. Unlike exec.LookPath it does not use ours.
func findProgram(name, pathVar, dir string) (string, error) {
	if strings.Contains(name, "/") {
		p := name
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		return p, executable(p)
	}
	for _, d := range filepath.SplitList(pathVar) {
		if !filepath.IsAbs(d) {
			continue // An empty or relative entry would run whatever lies in the working folder.
		}
		if p := filepath.Join(d, name); executable(p) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program not found in PATH=%s; install it, or set PATH in env or pass_env", pathVar)
}

func executable(p string) error {
	info, err := os.Stat(p)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder", p)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not executable; run chmod +x, or name its interpreter first", p)
	}
	return nil
}
