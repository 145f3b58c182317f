package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/daemon/internal/outbox"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/local"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// The news.
const (
	NewsWaits     outbox.News = "waits"     // a plan waits for an approval
	NewsRefused   outbox.News = "refused"   // a commit is not signed as it must be
	NewsFailing   outbox.News = "failing"   // cycles failed in a row
	NewsRecovered outbox.News = "recovered" // and one is done again
	NewsBad       outbox.News = "bad"       // a verdict or a signal turned bad
	NewsApplied   outbox.News = "applied"   // a plan that did something was applied
)

var allNews = []outbox.News{NewsWaits, NewsRefused, NewsFailing, NewsRecovered, NewsBad, NewsApplied}

// Notifier is where news go.
type Notifier struct {
	Name, Type string // webhook or log
	URL        Secret // of a webhook; it often holds a token
	Key        Secret // its signature's; not set = none
}

// Notify says who is told what about a repository.
type Notify struct {
	To    []string
	On    []outbox.News
	After int // cycles that must fail in a row
}

type notifierBlock struct {
	Name       string   `hcl:"name,label"`
	Type       string   `hcl:"type"`
	URLEnv     string   `hcl:"url_env,optional"`
	URLFile    string   `hcl:"url_file,optional"`
	SecretEnv  string   `hcl:"secret_env,optional"`
	SecretFile string   `hcl:"secret_file,optional"`
	At         hcl.Body `hcl:",body"`
}

type notifyBlock struct {
	To    []string `hcl:"to"`
	On    []string `hcl:"on,optional"`
	After *int     `hcl:"after,optional"`
}

func (c *checker) notifiers(list []*notifierBlock) []*Notifier {
	var out []*Notifier
	for _, b := range list {
		at := b.At.MissingItemRange()
		n := &Notifier{
			Name: b.Name, Type: b.Type, URL: c.secret(b.URLEnv, b.URLFile, &at, "the notifier's address"),
			Key: c.secret(b.SecretEnv, b.SecretFile, &at, "the notifier's secret"),
		}
		switch {
		case !repoName.MatchString(b.Name) || slices.ContainsFunc(out, func(o *Notifier) bool { return o.Name == n.Name }):
			c.fail(&at, "A name cannot be used", "notifier %q: names are letters, digits, - and _, at most 40, begin with a letter, and stand once.", b.Name)
		case n.Type != "webhook" && n.Type != "log":
			c.fail(&at, "No such notifier", "type = %q: choose webhook or log.", b.Type)
		case n.Type == "webhook" && !n.URL.Set():
			c.fail(&at, "A webhook needs an address", "Add url_env or url_file to notifier %q: an address often holds a token, and so stands in no file of settings.", b.Name)
		}
		out = append(out, n)
	}
	return out
}

func (c *checker) notify(b *notifyBlock, known []*Notifier, at *hcl.Range) *Notify {
	if b == nil {
		return nil
	}
	n := &Notify{To: b.To, On: allNews, After: 3}
	for _, to := range b.To {
		if !slices.ContainsFunc(known, func(k *Notifier) bool { return k.Name == to }) {
			c.fail(at, "No such notifier", "notify.to: no block notifier %q stands in this file.", to)
		}
	}
	if b.On != nil {
		n.On = nil
		for _, on := range b.On {
			if !slices.Contains(allNews, outbox.News(on)) {
				c.fail(at, "No such news", "notify.on: %q is none; choose from %s.", on, join(allNews))
			}
			n.On = append(n.On, outbox.News(on))
		}
	}
	if b.After != nil {
		if n.After = *b.After; n.After < 1 {
			c.fail(at, "No number of failures", "notify.after = %d: write 1 or more.", n.After)
		}
	}
	return n
}

// news notes what the end of a cycle is news of, durably, and each once: what was
// told is compared, so neither a restart nor the next cycle tells it again.
func (r *repo) news(err error) {
	if r.box == nil {
		return
	}
	s := r.look()
	oops := r.box.Change(func(b *outbox.Kept) {
		if s.Held != nil && s.Held.Approved == "" && b.IsNews(NewsWaits, s.Held.ID) {
			r.add(b, NewsWaits, s.Held.Commit, fmt.Sprintf("plan %s waits for an approval: %s", s.Held.ID, strings.Join(s.Held.Why, "; ")))
		}
		switch {
		case s.Refused == nil:
			delete(b.Told, NewsRefused)
		case b.IsNews(NewsRefused, s.Refused.Head+" "+s.Refused.Commit):
			r.add(b, NewsRefused, s.Refused.Commit, s.Refused.Error())
		}
		switch failing := b.Told[NewsFailing] != ""; {
		case errors.Is(err, errSuperseded):
		case err != nil && !failing && s.Failures >= r.conf.Notify.After:
			b.IsNews(NewsFailing, s.Attempted.Commit+" at "+r.opts.Now().UTC().Format(time.RFC3339))
			r.add(b, NewsFailing, s.Observed.Commit, fmt.Sprintf("%s in a row failed: %s", report.Plural(s.Failures, "cycle", "cycles"), status.FirstLines(s.Message, 1)))
		case err == nil && failing:
			delete(b.Told, NewsFailing)
			r.add(b, NewsRecovered, s.Observed.Commit, "a cycle is done again: "+s.Message)
		}
		r.addBad(b, s)
	})
	if oops != nil {
		r.log.Error("news cannot be kept", "error", oops)
	}
}

// addBad tells of verdicts and signals that were not bad before.
func (r *repo) addBad(b *outbox.Kept, s status.Repository) {
	if len(s.Blocks) == 0 { // not looked at yet
		return
	}
	var now, fresh []string
	was := strings.Split(b.Told[NewsBad], "\n")
	for _, row := range s.Blocks {
		var names []string
		if row.Verdict == "failed" {
			names = append(names, row.Address)
		}
		for _, signal := range sorted(row.Signal) {
			if row.Signal[signal] == "bad" {
				names = append(names, row.Address+"."+signal)
			}
		}
		for _, name := range names {
			id := fmt.Sprintf("%s %d", name, row.Version)
			if now = append(now, id); !slices.Contains(was, id) {
				fresh = append(fresh, name)
			}
		}
	}
	if b.IsNews(NewsBad, strings.Join(now, "\n")) && len(fresh) > 0 {
		r.add(b, NewsBad, s.Applied.Commit, "the verdict is bad at "+strings.Join(fresh, ", ")+"; what serves stays as it was")
	}
}

// begins notes that a plan is about to run, so that its end is told even when
// another daemon sees it.
func (r *repo) begins(commit string, sum planner.Summary) {
	if r.box == nil {
		return
	}
	if err := r.box.Change(func(b *outbox.Kept) { b.Begun = &outbox.Begun{Commit: commit, Counts: report.Counts(sum)} }); err != nil {
		r.log.Error("news cannot be kept", "error", err)
	}
}

// ends tells of a plan that ran to its end.
func (r *repo) ends() {
	if r.box == nil {
		return
	}
	err := r.box.Change(func(b *outbox.Kept) {
		if b.Begun != nil {
			r.add(b, NewsApplied, b.Begun.Commit, "applied commit "+status.Short(b.Begun.Commit)+": "+b.Begun.Counts)
			b.Begun = nil
		}
	})
	if err != nil {
		r.log.Error("news cannot be kept", "error", err)
	}
}

// add owes a notice to all who are told such news.
func (r *repo) add(b *outbox.Kept, what outbox.News, commit, text string) {
	if !slices.Contains(r.conf.Notify.On, what) {
		return
	}
	b.Count++
	b.Owed = append(b.Owed, &outbox.Notice{
		Key: fmt.Sprintf("%s/%s/%d", r.conf.Name, what, b.Count), News: what, Commit: commit, Text: clip(text),
		At: r.opts.Now(), Owed: slices.Clone(r.conf.Notify.To),
	})
}

// notify delivers by one notifier, whose specification it adds.
type notify func(context.Context, providers.NotifyRequest) error

// senders are made of the notifiers that projects have, too: a webhook that is
// signed, and a log in the daemon's own folder.
func (d *Daemon) senders(ctx context.Context) (map[string]notify, error) {
	if len(d.conf.Notifiers) == 0 {
		return nil, nil
	}
	p, err := local.New().Connect(ctx, providers.Env{Root: d.conf.Data, Dir: d.conf.Data, Version: d.opts.Version, Now: d.opts.Now}, cty.NilVal)
	if err != nil {
		return nil, err
	}
	n, ok := providers.As[providers.Notifier](p.Drivers["notifier"])
	if !ok {
		return nil, errors.New("the local provider cannot deliver")
	}
	out := map[string]notify{}
	for _, c := range d.conf.Notifiers {
		out[c.Name] = func(ctx context.Context, req providers.NotifyRequest) error {
			spec, err := c.spec()
			if err != nil {
				return err
			}
			req.Spec = spec
			return n.Notify(ctx, req)
		}
	}
	return out, nil
}

// openBox reads what is still to be told.
func (r *repo) openBox() (*outbox.Outbox, error) {
	send := map[string]outbox.Send{}
	for name, by := range r.senders {
		send[name] = r.told(by)
	}
	return outbox.Open(r.dir, outbox.Options{Pen: r.pen, Senders: send, Log: r.log, Now: r.opts.Now})
}

// told is how notices of a repository are delivered.
func (r *repo) told(by notify) outbox.Send {
	return func(ctx context.Context, n *outbox.Notice) error {
		title := r.conf.Name + ": " + n.Text
		return by(ctx, providers.NotifyRequest{Title: title, Key: n.Key, Body: map[string]any{
			"event": string(n.News), "repository": r.conf.Name, "commit": n.Commit, "message": n.Text, "time": n.At.UTC(),
			"url": r.page(), "text": title, // the field that chats show
		}})
	}
}

// spec is the notifier as a project would declare it. Secrets are read each time.
func (n *Notifier) spec() (cty.Value, error) {
	spec := config.Notifier{Type: n.Type}
	for _, s := range []struct {
		from Secret
		to   *string
	}{{n.URL, &spec.URL}, {n.Key, &spec.Secret}} {
		if !s.from.Set() {
			continue
		}
		var err error
		if *s.to, err = s.from.Read(); err != nil {
			return cty.NilVal, err
		}
	}
	return resource.Encode(spec)
}
