package daemon

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/forge"
)

// maxHook caps the body of a webhook, and of every request.
const maxHook = forge.MaxHook

// deliveries remembers the webhooks that came last, to pass over those that come
// again. A webhook is only a hint: what slips through costs a look.
type deliveries struct {
	mu   sync.Mutex
	seen map[[32]byte]bool
	ring [1024][32]byte
	next int
}

// first says whether a body comes for the first time.
func (d *deliveries) first(body [32]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[body] {
		return false
	}
	if d.seen == nil {
		d.seen = map[[32]byte]bool{}
	}
	delete(d.seen, d.ring[d.next])
	d.ring[d.next], d.seen[body] = body, true
	d.next = (d.next + 1) % len(d.ring)
	return true
}

// hook takes a webhook: it checks the signature before it reads anything, makes
// the loops look, and answers at once.
func (d *Daemon) hook(r *repo, w http.ResponseWriter, req *http.Request) {
	if r.conf.Forge == nil || !r.conf.Forge.Webhook.Set() {
		http.Error(w, "this repository takes no webhook: its forge block has no webhook_secret_env", http.StatusNotFound)
		return
	}
	refuse := func(result, says string, code int) {
		d.meter.hook(r.conf.Name, result)
		http.Error(w, says, code)
	}
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(d.times.body)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return // it is gone
	}
	body, err := io.ReadAll(req.Body) // capped by harden
	if err != nil {
		refuse("unread", "the body is longer than 1 MiB, or did not come", http.StatusRequestEntityTooLarge)
		return
	}
	secret, err := r.conf.Forge.Webhook.Read()
	if err != nil {
		r.log.Error("webhook secret", "error", err)
		refuse("no_secret", "the webhook's secret cannot be read; the daemon's log says why", http.StatusInternalServerError)
		return
	}
	kind, err := forge.ParseKind(r.conf.Forge.Kind)
	if err != nil {
		refuse("no_forge", err.Error(), http.StatusInternalServerError)
		return
	}
	hint, err := forge.Verify(kind, secret, req.Header, body)
	switch {
	case errors.Is(err, forge.ErrIgnored):
		d.meter.hook(r.conf.Name, "ignored")
	case errors.Is(err, forge.ErrSignature), errors.Is(err, forge.ErrNoSecret):
		refuse("forged", "the signature does not fit", http.StatusUnauthorized)
		return
	case err != nil:
		refuse("broken", err.Error(), http.StatusBadRequest)
		return
	case !strings.EqualFold(hint.Repo, r.conf.Forge.Repo):
		d.meter.hook(r.conf.Name, "other_repository")
	case !r.hooked.first(hint.Body):
		d.meter.hook(r.conf.Name, "again")
	case hint.Kind == forge.HintPush && hint.Ref != r.branch():
		d.meter.hook(r.conf.Name, "other_branch")
		r.nudgePulls() // of a pull request, perhaps
	case hint.Kind == forge.HintPush:
		d.meter.hook(r.conf.Name, "push")
		r.nudge()
	default:
		d.meter.hook(r.conf.Name, string(hint.Kind))
		r.nudgePulls()
	}
	w.WriteHeader(http.StatusAccepted)
}
