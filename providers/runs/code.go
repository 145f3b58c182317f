package runs

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// requirements are the files beside a script that say what it is run with.
const requirements = "{requirements*.txt,*.lock,pyproject.toml,environment.yml,environment.yaml,conda-lock.yml,package-lock.json,pnpm-lock.yaml,go.sum}"

// named is what a block says of its code.
type named struct {
	Command []string `ml:"command"`
	Sources []string `ml:"sources"`
}

// codeDigest digests what a command depends on. A command that names no file of the project has no code: its digest is that of
// the empty set.
func codeDigest(x *files.Index, command, sources []string) (resource.Digest, error) {
	if len(sources) == 0 {
		var err error
		if sources, err = defaultSources(x, command); err != nil {
			return "", err
		}
	}
	hex, _, err := x.DigestSet(sources)
	if err != nil {
		return "", err
	}
	return resource.DigestOfHex(hex), nil
}

// defaultSources are the globs of what a command depends on: the files with the named script's extension in and below its
// folder, and the requirement and lock files there and in the project folder.
func defaultSources(x *files.Index, command []string) ([]string, error) {
	script, err := scriptOf(x, command)
	if err != nil || script == "" {
		return nil, err
	}
	dir, ext := path.Dir(script), path.Ext(script)
	globs := []string{path.Join(dir, requirements), requirements}
	if ext == "" {
		return append(globs, script), nil
	}
	return append(globs, path.Join(dir, "**", "*"+ext)), nil
}

// scriptOf is the first argument that names a file of the project. For `python -m package.module` it is the module's file; a
// module that is not the project's (unittest, pytest) looks at all of the project's Python.
func scriptOf(x *files.Index, command []string) (string, error) {
	for i, arg := range command {
		if i > 0 && command[i-1] == "-m" && isPython(command[0]) {
			return moduleFile(x, arg)
		}
		found, err := projectFile(x, arg)
		if err != nil || found != "" {
			return found, err
		}
	}
	if len(command) > 0 && path.Base(command[0]) == "pytest" {
		return "project.py", nil
	}
	return "", nil
}

func moduleFile(x *files.Index, module string) (string, error) {
	base := strings.ReplaceAll(module, ".", "/")
	for _, p := range []string{base + ".py", base + "/__main__.py"} {
		if found, err := projectFile(x, p); err != nil || found != "" {
			return found, err
		}
	}
	return "project.py", nil
}

func isPython(program string) bool { return strings.HasPrefix(path.Base(program), "python") }

// projectFile returns the clean path of arg if it names a file of the project.
func projectFile(x *files.Index, arg string) (string, error) {
	if arg == "" || strings.HasPrefix(arg, "-") || strings.ContainsAny(arg, "*?[{\\\x00\n") || !filepath.IsLocal(filepath.FromSlash(arg)) {
		return "", nil
	}
	clean := path.Clean(arg)
	if clean == "." || strings.HasPrefix(clean, "..") {
		return "", nil
	}
	found, err := x.Glob([]string{clean})
	if err != nil {
		return "", err
	}
	if len(found) == 1 && found[0] == clean {
		return clean, nil
	}
	return "", nil
}

// Unmoved errors when the code is no longer what the plan read: a run must not be recorded under inputs that it did not have.
func (e *Workspace) Unmoved(req providers.ApplyRequest, x config.Exec) error {
	want := req.Probed["code"]
	if want == "" {
		return nil
	}
	idx, err := e.now()
	if err != nil {
		return err
	}
	have, err := codeDigest(idx, x.Command, x.Sources)
	if err != nil {
		return fmt.Errorf("%s: sources: %w", req.Address, err)
	}
	if string(have) != want {
		return fmt.Errorf("%s: the source moved since the plan: its code was %s and is %s now; plan again", req.Address, resource.Digest(want).Short(), have.Short())
	}
	return nil
}

// CodeFiles lists the files that a command depends on, as slash paths in the project folder, as they are now.
func (e *Workspace) CodeFiles(x config.Exec) ([]string, error) {
	idx, err := e.now()
	if err != nil {
		return nil, err
	}
	sources := x.Sources
	if len(sources) == 0 {
		if sources, err = defaultSources(idx, x.Command); err != nil {
			return nil, err
		}
	}
	return idx.Glob(sources)
}
