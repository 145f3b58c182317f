package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/report"
)

// dotML is the folder of state and caches.
const dotML = workspace.DotML

// diagError carries diagnostics as an error, with the sources for snippets.
type diagError = workspace.DiagError

// sources reads the files that diagnostics point into, for their snippets.
func sources(dir string, diags hcl.Diagnostics) map[string]*hcl.File {
	return workspace.Sources(dir, diags)
}

// project is an opened project: configuration, state and engine.
type project struct{ *workspace.Workspace }

// projectDir is the project folder, absolute.
func (a *app) projectDir() (string, error) {
	dir := a.chdir
	if dir == "" {
		dir = "."
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("-chdir: %w", err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("-chdir: %s is not a folder", abs)
	}
	return abs, nil
}

// workspace says which project the command is about.
func (a *app) workspace() (workspace.Options, error) {
	dir, err := a.projectDir()
	if err != nil {
		return workspace.Options{}, err
	}
	vars, err := a.vars.inputs(environ())
	return workspace.Options{
		Root: dir, Vars: vars, Version: toolVersion(), Exe: []string{exe()}, Environ: environ, LockTimeout: a.lockTimeout,
	}, err
}

// load reads the configuration, and says what it warns of.
func (a *app) load(ctx context.Context) (*config.Project, string, error) {
	o, err := a.workspace()
	if err != nil {
		return nil, "", err
	}
	conf, warnings, err := workspace.Load(ctx, o)
	if err != nil {
		return nil, "", err
	}
	return conf, o.Root, a.warnOf(o.Root, warnings)
}

func (a *app) warnOf(dir string, diags hcl.Diagnostics) error {
	if len(diags) == 0 {
		return nil
	}
	return report.Diagnostics(a.Err, diags, sources(dir, diags), a.errStyle())
}

// open loads the project and makes its engine ready.
func (a *app) open(ctx context.Context) (*project, error) {
	o, err := a.workspace()
	if err != nil {
		return nil, err
	}
	w, err := workspace.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	boundMemory(len(w.Conf.Blocks))
	w.Engine.VirtualEnv = os.Getenv("VIRTUAL_ENV")
	return &project{w}, a.warnOf(w.Root, w.Warnings)
}

// exe is this program's own path, for detached helpers.
func exe() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}
