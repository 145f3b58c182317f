package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
)

// commentFlags say where the comment goes. What is not said is found in the environment of the CI.
type commentFlags struct {
	where             pullRequest
	tokenEnv          string
	project           string
	printOnly, hidden bool
	detailed, refresh bool
}

func (a *app) commentCmd() *cobra.Command {
	var f commentFlags
	cmd := &cobra.Command{
		Use: "comment [PLAN]", Short: "Post the plan as the comment of a pull request", Args: cobra.MaximumNArgs(1),
		Long: `comment plans, or takes a plan that was saved, and writes it as the one comment of the
pull request, which it edits from then on, and as the commit's status. It changes
nothing else. The exit codes are those of ml plan.

Where the pull request is comes from the environment of GitHub, GitLab, Gitea or
Forgejo Actions, and of Jenkins (CHANGE_ID, CHANGE_URL); flags say it elsewhere. The
token is in GITHUB_TOKEN, GITLAB_TOKEN or GITEA_TOKEN, or where -token-env says. It
needs to write comments and statuses. On a pull request from a fork, the comment names
what would change and shows no value. When a newer commit was pushed meanwhile, the
comment is left to that one's job.`,
		Example:           "  ml comment plan.bin\n  ml comment -print\n  ml comment -forge gitea -url https://git.example.com -repo lab/churn -pull 7",
		ValidArgsFunction: a.completePlans(cobra.ShellCompDirectiveDefault),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.comment(cmd.Context(), f, args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.printOnly, "print", false, "print the text and post nothing")
	fl.StringVar(&f.where.forge, "forge", "", "github, gitlab or gitea")
	fl.StringVar(&f.where.url, "url", "", "where the forge is, such as https://git.example.com")
	fl.StringVar(&f.where.repo, "repo", "", "the repository, OWNER/NAME")
	fl.IntVar(&f.where.number, "pull", 0, "the number of the pull request")
	fl.StringVar(&f.where.head, "commit", "", "the commit that is planned (default: the pull request's head)")
	fl.StringVar(&f.where.page, "link", "", "a page with the whole plan (default: the CI's own)")
	fl.StringVar(&f.tokenEnv, "token-env", "", "the environment variable that holds the token")
	fl.StringVar(&f.project, "project", "", "the project's name in the comment (default: its folder in the repository)")
	fl.BoolVar(&f.hidden, "no-values", false, "show no values, as on a pull request from a fork")
	fl.BoolVar(&f.refresh, "refresh", true, "read live state and sources first")
	fl.BoolVar(&f.detailed, "detailed-exitcode", false, "exit 2 when there are changes")
	a.complete(cmd, "forge", cobra.FixedCompletions([]string{"github", "gitlab", "gitea"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// poster is what a comment needs of a forge.
type poster interface {
	Pull(ctx context.Context, number int) (forge.Pull, error)
	PutComment(ctx context.Context, number int, marker, body string) (forge.Comment, error)
	SetStatus(ctx context.Context, commit string, s forge.Status) error
}

func (a *app) comment(ctx context.Context, f commentFlags, args []string) error {
	if f.project == "" {
		dir, err := a.projectDir()
		if err != nil {
			return err
		}
		f.project, _ = belowCheckout(dir)
	}
	if f.printOnly {
		c, err := a.commentPlan(ctx, f, args)
		if err != nil {
			return err
		}
		return errors.Join(c.write(a, f.hidden, f.where.page), a.commentEnd(c, f))
	}
	where, err := a.findPullRequest(f.where)
	if err != nil {
		return err
	}
	client, err := a.forgeClient(where, f.tokenEnv)
	if err != nil {
		return err
	}
	return a.post(ctx, client, where, f, args)
}

// post plans and tells the forge: that it is being planned, what came out, and if nothing did, why.
func (a *app) post(ctx context.Context, client poster, where pullRequest, f commentFlags, args []string) error {
	pull, err := client.Pull(ctx, where.number)
	if err != nil {
		return err
	}
	head := where.head
	if head == "" {
		head = pull.Head
	}
	status := forge.Status{State: forge.Pending, Context: statusContext(f.project), Text: "planning", URL: where.page}
	if err := client.SetStatus(ctx, head, status); err != nil {
		return err
	}
	c, err := a.commentPlan(ctx, f, args)
	if err != nil {
		status.State, status.Text = forge.Failure, "no plan could be made"
		return errors.Join(err, client.SetStatus(ctx, head, status))
	}
	var b bytes.Buffer
	o := c.options(f.hidden || pull.Fork, where.page)
	if err := report.Markdown(&b, c.plan, o); err != nil {
		return err
	}
	note := ""
	if pull.Head == head {
		if _, err := client.PutComment(ctx, where.number, report.Marker(o.Project), b.String()); err != nil {
			return err
		}
	} else {
		note = fmt.Sprintf(" The comment is left to the newer commit %.12s.", pull.Head)
	}
	status.State, status.Text = forge.Success, report.Counts(c.plan.Summary)
	if report.Failed(c.plan) {
		status.State, status.Text = forge.Failure, "the plan has errors"
	}
	if err := client.SetStatus(ctx, head, status); err != nil {
		return err
	}
	if err := a.done("Pull request %d of %s: %s.%s", where.number, where.repo, status.Text, note); err != nil {
		return err
	}
	return a.commentEnd(c, f)
}

// statusContext names the status, one for each project of a repository.
func statusContext(project string) string {
	if project == "" || project == "." {
		return "ml plan"
	}
	return "ml plan " + project
}

// commentEnd gives the exit code of ml plan.
func (a *app) commentEnd(c planComment, f commentFlags) error {
	switch {
	case c.cause != nil:
		return c.cause
	case report.Failed(c.plan):
		return exitCode{code: exitError}
	case f.detailed && report.Changes(c.plan):
		return exitCode{code: exitChanges}
	}
	return nil
}

// planComment is a plan with what its comment shows beside it.
type planComment struct {
	plan    *planner.Plan
	project string
	asOf    time.Time
	metrics []report.MetricChange
	nodes   []report.Node
	edges   []report.Edge
	cause   error // why the plan holds nothing but errors
}

func (c planComment) options(hidden bool, page string) report.MarkdownOptions {
	return report.MarkdownOptions{Project: c.project, URL: page, AsOf: c.asOf, Foreign: hidden, Metrics: c.metrics, Nodes: c.nodes, Edges: c.edges}
}

func (c planComment) write(a *app, hidden bool, page string) error {
	return report.Markdown(a.Out, c.plan, c.options(hidden, page))
}

// commentPlan plans, or reads a saved plan. Files with errors are a plan that holds these: who reads the pull request wants to see them.
func (a *app) commentPlan(ctx context.Context, f commentFlags, args []string) (c planComment, err error) {
	c.project = f.project
	if len(args) == 1 {
		saved, _, err := a.readSaved(args[0])
		if err != nil {
			return c, err
		}
		c.plan = saved.Plan
		conf, _, err := a.load(ctx)
		if err != nil {
			return c, err
		}
		c.draw(conf)
		return c, nil
	}
	p, err := a.open(ctx)
	var diags diagError
	if errors.As(err, &diags) {
		c.cause, c.plan = err, diags.Plan()
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer func() { err = joinClose(err, p.Close()) }()
	planned, err := p.Engine.Plan(ctx, engine.PlanOptions{NoRefresh: !f.refresh})
	if err != nil {
		return c, err
	}
	c.plan, c.metrics = planned.Plan, workspace.Candidates(planned)
	c.draw(p.Conf)
	if !f.refresh {
		c.asOf = planned.Input.Live.AsOf
	}
	return c, nil
}

func (c *planComment) draw(conf *config.Project) { c.nodes, c.edges = graphOf(conf) }

// belowCheckout is the folder's path in the git checkout that it is in; "." and false outside of one.
func belowCheckout(dir string) (string, bool) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			rel, err := filepath.Rel(at, dir)
			if err != nil {
				return ".", false
			}
			return filepath.ToSlash(rel), true
		}
		if at == filepath.Dir(at) {
			return ".", false
		}
	}
}
