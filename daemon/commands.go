package daemon

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// command is what somebody asks for in a comment.
type command struct {
	verb string // plan, apply, approve or explain
	arg  string // a plan's id, or an address
}

// commandLine is the whole grammar: a comment that is one line, and nothing of
// it is passed on to anything.
var commandLine = regexp.MustCompile(`^ml (?:(plan|apply)|(approve)(?: ([0-9a-f]{4,12}))?|(explain) ([a-z0-9_.\-\["\]]{1,200}))$`)

// parseCommand reads a comment; ok is false when it holds no command.
func parseCommand(body string) (c command, ok bool) {
	m := commandLine.FindStringSubmatch(strings.TrimSpace(body))
	if m == nil {
		return c, false
	}
	return command{verb: m[1] + m[2] + m[4], arg: m[3] + m[5]}, true
}

// needs is what somebody must be allowed to in the repository.
func (c command) needs() forge.Permission {
	if c.verb == "apply" || c.verb == "approve" {
		return forge.Write
	}
	return forge.Read
}

// commands answers what was asked for in comments since the last time, each once.
func (r *repo) commands(ctx context.Context, p forge.Pull) error {
	k := r.recall().Pulls[p.Number]
	list, err := r.forge.Comments(ctx, p.Number, r.opts.Now().AddDate(0, 0, -7))
	if err != nil {
		return err
	}
	me, err := r.forge.Login(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.ID <= k.Seen {
			continue
		}
		cmd, ok := parseCommand(c.Body)
		ok = ok && !strings.EqualFold(c.Author, me)
		has := forge.None
		var asked error
		if ok {
			if has, asked = r.forge.Permission(ctx, c.Author); away(asked) {
				return asked // nothing was done for it yet: it is looked at again
			}
		}
		// Noted first: a command that a crash cut off is asked for again by a person, never done twice.
		if err := r.keepPull(p.Number, func(kp *keptPull) { kp.Seen = max(kp.Seen, c.ID) }); err != nil {
			return err
		}
		if !ok {
			continue
		}
		if _, err := r.forge.Reply(ctx, p.Number, r.obey(ctx, p, request{who: c.Author, has: has, asked: asked, command: cmd})); err != nil {
			return err
		}
	}
	return nil
}

// request is a command with who gave it, and what they may, asked from the forge at this moment.
type request struct {
	command
	who   string
	has   forge.Permission
	asked error // why it is not known
}

// obey does what was asked for and says what came of it.
func (r *repo) obey(ctx context.Context, p forge.Pull, req request) string {
	who, cmd := req.who, req.command
	if req.asked != nil {
		r.log.Warn("permission", "user", who, "error", req.asked)
		return "The forge does not say what you may here just now. Try again."
	}
	if req.has < cmd.needs() {
		r.log.Info("refused", "user", who, "command", cmd.verb, "pull", p.Number)
		return fmt.Sprintf("`ml %s` needs the right to %s this repository.", cmd.verb, strings.ToLower(cmd.needs().String()))
	}
	r.log.Info("command", "user", who, "command", cmd.verb, "pull", p.Number)
	switch cmd.verb {
	case "plan":
		if err := r.comment(ctx, p); err != nil {
			return "The plan cannot be made: " + quoted(worded(err).Error())
		}
		return "Planned again at `" + status.Short(p.Head) + "`: see the comment above."
	case "explain":
		return r.explain(ctx, p, cmd.arg)
	default: // approve, apply
		return r.allow(ctx, p, who, cmd)
	}
}

func quoted(text string) string { return "\n\n" + report.Fenced(text) }

func (r *repo) explain(ctx context.Context, p forge.Pull, arg string) string {
	a, err := resource.ParseAddress(arg)
	if err != nil {
		return "That is no address:" + quoted(err.Error())
	}
	if p.Fork {
		return "Plans of forks show no values, and so they are not explained here."
	}
	planned, _, err := r.planPull(ctx, p)
	if err != nil {
		return "The plan cannot be made:" + quoted(worded(err).Error())
	}
	var b bytes.Buffer
	if err := report.Explain(&b, planned.Plan, a, report.History{}, report.Style{}); err != nil {
		return "It cannot be explained:" + quoted(err.Error())
	}
	return report.Fenced(b.String())
}

// allow approves. A plan that waits is named by its id; without one it is this
// pull request's, for when it is merged.
func (r *repo) allow(ctx context.Context, p forge.Pull, who string, cmd command) string {
	if r.conf.Mode != Apply {
		return "This repository is not applied by the daemon (mode = " + string(r.conf.Mode) + ")."
	}
	if cmd.arg != "" {
		if _, err := r.approve(ctx, cmd.arg, who); err != nil {
			return "Not approved:" + quoted(err.Error())
		}
		return "Approved; it runs in a moment."
	}
	planned, behind, err := r.planPull(ctx, p)
	switch {
	case err != nil:
		return "Not approved, for there is no plan:" + quoted(worded(err).Error())
	case report.Failed(planned.Plan):
		return "Not approved: the plan has errors."
	case behind:
		return "Not approved: this branch lacks commits of `" + r.conf.Branch + "`, so what would be merged is not what was planned. Update it and approve again."
	}
	tree, err := r.mirror.Tree(p.Head, r.conf.Path)
	if err != nil {
		return "Not approved:" + quoted(err.Error())
	}
	al := &allowed{Head: p.Head, Tree: tree, Who: who, When: r.opts.Now(), Steps: map[string]resource.Action{}}
	for _, st := range planned.Plan.Steps {
		al.Steps[st.Address.String()] = st.Action
	}
	if err := r.keepPull(p.Number, func(kp *keptPull) { kp.Allowed = al }); err != nil {
		return "Not approved:" + quoted(err.Error())
	}
	return fmt.Sprintf("Approved at `%s`: it runs when this is merged as it is. A new commit needs a new approval.", status.Short(p.Head))
}
