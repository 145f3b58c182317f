package kubeflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// await looks at the run until it is over.
func (o *pipelineOp) await(ctx context.Context, timeout time.Duration) (*pipelineRun, error) {
	seen := map[string]string{}
	late := false
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		r, err := retried(ctx, o.every, func() (*pipelineRun, error) { return o.api.get(ctx, o.at.ID) })
		if err != nil {
			return nil, o.lost(ctx, err)
		}
		o.tell(seen, r)
		switch over, err := o.judge(r, late, timeout); {
		case err != nil:
			return nil, err
		case over:
			return r, nil
		}
		if timeout > 0 && !late && !r.Created.IsZero() && o.now().Sub(r.Created) > timeout {
			late = true
			if err := o.api.terminate(ctx, o.at.ID); err != nil && !passes(err) {
				return nil, o.failed(fmt.Errorf("it took longer than %s, and could not be ended: %w", timeout, err))
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// lost tells a run that nobody can look at from one that is no more.
func (o *pipelineOp) lost(ctx context.Context, err error) error {
	var answer *apiError
	if errors.As(err, &answer) && answer.status == 404 {
		return o.failed(fmt.Errorf("was lost: run %s is gone: somebody deleted it", o.at.ID))
	}
	if ctx.Err() != nil {
		return err
	}
	return &providers.OpenError{Err: fmt.Errorf("%s: run %s goes on, but cannot be followed; apply again to collect it: %w", o.req.Address, o.at.ID, err)}
}

// judge reports whether the run has ended well; it errs when it has ended otherwise.
func (o *pipelineOp) judge(r *pipelineRun, late bool, timeout time.Duration) (bool, error) {
	switch strings.ToUpper(r.State) {
	case "SUCCEEDED", "SKIPPED":
		return true, nil
	case "CANCELED":
		if late {
			return false, o.failed(fmt.Errorf("was ended: it took longer than %s", timeout))
		}
		return false, o.failed(providers.ErrCancelled)
	case "FAILED":
		return false, o.failed(errors.New(whyFailed(r)))
	}
	return false, nil
}

// whyFailed is a failed run in one line.
func whyFailed(r *pipelineRun) string {
	var parts []string
	for _, t := range r.Details.Tasks {
		if t.State == "FAILED" {
			parts = append(parts, "task "+t.Name+": "+or(t.Error.text(), "failed without a word; its log is in the pipeline's own pages"))
		}
	}
	if text := r.Error.text(); text != "" {
		parts = append(parts, text)
	}
	return fmt.Sprintf("run %s failed: %s", r.ID, or(strings.Join(parts, "; "), "the API says no more"))
}

// tell reports the tasks whose state is another than at the last look.
func (o *pipelineOp) tell(seen map[string]string, r *pipelineRun) {
	done := 0
	for _, t := range r.Details.Tasks {
		if slices.Contains([]string{"SUCCEEDED", "SKIPPED"}, t.State) {
			done++
		}
	}
	for _, t := range r.Details.Tasks {
		if t.State == "" || seen[t.Name] == t.State {
			continue
		}
		seen[t.Name] = t.State
		o.req.Emit(resource.Event{
			Time: o.now(), Type: resource.EventProgress, Address: o.req.Address.String(), Action: o.req.Action,
			Message: fmt.Sprintf("task %s: %s", t.Name, strings.ToLower(t.State)), Step: float64(done), Of: float64(len(r.Details.Tasks)),
		})
	}
}

// end terminates the run and returns when it is over.
func (o *pipelineOp) end(ctx context.Context) error {
	late := time.NewTimer(endsWithin)
	defer late.Stop()
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for told := false; ; {
		r, err := o.api.get(ctx, o.at.ID)
		var answer *apiError
		switch {
		case errors.As(err, &answer) && answer.status == 404:
			return nil
		case err != nil && !passes(err):
			return fmt.Errorf("%s: %w", o.req.Address, err)
		case err == nil && slices.Contains([]string{"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}, strings.ToUpper(r.State)):
			return nil
		case err == nil && !told:
			if err := o.api.terminate(ctx, o.at.ID); err != nil && !passes(err) {
				return fmt.Errorf("%s: %w", o.req.Address, err)
			} else if err == nil {
				told = true
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return fmt.Errorf("%s: run %s was told to end %s ago, and still goes on", o.req.Address, o.at.ID, endsWithin)
		case <-tick.C:
		}
	}
}
