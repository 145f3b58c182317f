package config

import (
	"regexp"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Package is a container image with a model, the code that serves it, or both.
type Package struct {
	Model      *Model            `ml:"model,spec=upstream" doc:"The version that the image holds in /models, such as validation.x.model."`
	Mode       string            `ml:"mode,probe,default=server" enum:"server|model" doc:"server: code in /app, which is the working folder, and the model in /models, to which ML_MODEL_DIR points. model: nothing but the model, as KServe mounts it beside a server of its own."`
	Base       string            `ml:"base" doc:"Image below, such as \"python:3.12-slim\"; by default there is none. A tag is looked up at each apply, and the digest that it stood for is recorded. A model image needs one with sh, which KServe calls in it."`
	Command    []string          `ml:"command,probe" doc:"Argument list that the image runs, in /app and without a shell; by default what the base runs."`
	Sources    []string          `ml:"sources,policy,probe" doc:"Globs of the project's files that lie in /app, at the same paths; their content is digested. Default: every file with the extension of the script that command names, under its folder, and requirements and lock files; with a dockerfile, every file that is not ignored."`
	Dockerfile string            `ml:"dockerfile,probe" doc:"Dockerfile that docker or buildctl on this machine builds, when applied. The files of sources are its context, the model the further context named model: COPY --from=model . /models. Its image is the same again only if what it runs makes the same."`
	Image      string            `ml:"image" doc:"Repository that the image goes to, such as \"registry.example.com/team/churn\". Default: packages/NAME in the artifact store."`
	Tags       []string          `ml:"tags" doc:"Aliases that point to the image. They move; other blocks use the digest."`
	Env        map[string]string `ml:"env" doc:"Environment variables in the image. Whoever may pull it can read them: no place for secrets."`
	Labels     map[string]string `ml:"labels" doc:"Labels of the image, besides those of its origin."`
	User       string            `ml:"user" doc:"User, or UID:GID, that the command runs as; by default what the base says."`
	Platform   string            `ml:"platform" doc:"Operating system and architecture. Default: that of the provider, else linux/amd64."`
	Trust      bool              `ml:"trust" doc:"Allows a model of a format that runs code when it is loaded: pickle and joblib, eager PyTorch files, MLflow's python_function, Hugging Face with code of its own."`
	Timeout    time.Duration     `ml:"timeout,policy,default=30m" doc:"How long building and pushing may take."`
}

// PackageOutputs is what other blocks may use of a package.
type PackageOutputs struct {
	Address string `ml:"address" doc:"Address of the package."`
	Image   string `ml:"image" doc:"The image by its digest, HOST/REPOSITORY@sha256:…, as a deployment takes it."`
	Digest  string `ml:"digest" doc:"Digest of the image."`
	URI     string `ml:"uri" doc:"The same with a scheme, oci://HOST/REPOSITORY@sha256:…, as KServe's storageUri takes it."`
	Format  string `ml:"format" doc:"Format of the model, as serving runtimes name it: sklearn, xgboost, lightgbm, onnx, tensorflow, pytorch, mlflow, huggingface; \"\" if it is none of them."`
	Version int    `ml:"version" doc:"Version of the model; 0 without one."`
}

func packageKind() Kind {
	return Kind{
		Name: "package", Class: resource.Object,
		Doc:  "A container image with a model, the code that serves it, or both, built without a container engine and stored in a registry. The same files and the same base make the same digest on every machine, and it is by the digest that other blocks use it.",
		Spec: Package{}, Outputs: PackageOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: checkPackage, Plan: planPackage,
	}
}

func checkPackage(v cty.Value) []Problem {
	var ps []Problem
	m, ok := known(v, "mode")
	alone := ok && m.AsString() == "model"
	if !alone && !set(v, "model") && !set(v, "sources") && !set(v, "command") && !set(v, "dockerfile") {
		ps = append(ps, Problem{"", "This package holds nothing", "Add model = training.NAME.model, or sources with a command, or a dockerfile."})
	}
	ps = append(ps, execProblems(v)...)
	if alone {
		ps = append(ps, checkModelImage(v)...)
	}
	if set(v, "dockerfile") && set(v, "base") {
		ps = append(ps, Problem{"base", "A Dockerfile names its own base", "Remove base, or dockerfile."})
	}
	if p, ok := known(v, "platform"); ok && !platformForm.MatchString(p.AsString()) {
		ps = append(ps, Problem{"platform", "This is no platform", "Write an operating system and an architecture, such as \"linux/arm64\"."})
	}
	if i, ok := known(v, "image"); ok && !repositoryForm.MatchString(i.AsString()) {
		ps = append(ps, repositoryProblem(i.AsString()))
	}
	return append(ps, checkTags(v)...)
}

// The forms of references are those of the distribution specification.
var (
	platformForm   = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9_.]+)?$`)
	repositoryForm = regexp.MustCompile(`^(oci://)?[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)
	tagForm        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

func repositoryProblem(text string) Problem {
	detail := "Write a host and a path in lower case, such as \"registry.example.com/team/churn\"."
	if strings.Contains(text, "@") || strings.Contains(text[strings.LastIndex(text, "/")+1:], ":") {
		detail = "Write it without a tag or digest: tags stand in the list tags, and the digest follows from the content."
	}
	return Problem{"image", "This is no repository", detail}
}

func checkModelImage(v cty.Value) []Problem {
	var ps []Problem
	for _, attr := range []string{"command", "sources", "dockerfile"} {
		if set(v, attr) {
			ps = append(ps, Problem{attr, "A model image holds nothing but the model", "Remove " + attr + ", or write mode = \"server\"."})
		}
	}
	if !set(v, "model") {
		ps = append(ps, Problem{"mode", "A model image needs a model", "Add model = training.NAME.model, such as that of the validation before it."})
	}
	if !set(v, "base") {
		ps = append(ps, Problem{"mode", "A model image needs a base with sh", "KServe runs sh in it to share the files. Add a small base, such as base = \"busybox:1.37\"."})
	}
	return ps
}

// checkTags refuses what is no tag, and the tags under which content is stored.
func checkTags(v cty.Value) []Problem {
	tags, ok := known(v, "tags")
	if !ok {
		return nil
	}
	for _, t := range tags.AsValueSlice() {
		if t.IsNull() || !t.IsKnown() {
			continue
		}
		switch s := t.AsString(); {
		case !tagForm.MatchString(s):
			return []Problem{{"tags", "This is no tag", "Write letters, digits, _ . and -, at most 128, such as \"latest\" or \"v1.2\"."}}
		case strings.HasPrefix(s, "sha256-"):
			return []Problem{{"tags", "This tag is taken", "Tags that begin with sha256- stand for content and never move. Choose another."}}
		}
	}
	return nil
}

// planPackage: the image is known once it is built; which version it holds is known before.
func planPackage(spec cty.Value, _ map[string]string, _ cty.Value) map[string]cty.Value {
	m := spec.GetAttr("model")
	if m.IsNull() {
		return map[string]cty.Value{"version": cty.NumberIntVal(0), "format": cty.StringVal("")}
	}
	if n, ok := known(m, "version"); ok {
		return map[string]cty.Value{"version": n}
	}
	return nil
}
