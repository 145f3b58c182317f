package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePullRequestIsFoundInTheEnvironment(t *testing.T) {
	event := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(event, []byte(`{"number": 7, "pull_request": {"number": 7, "head": {"sha": "abc", "ref": "data"}}, "repository": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	actions := map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "lab/churn", "GITHUB_RUN_ID": "5", "GITHUB_REF": "refs/pull/7/merge", "GITHUB_SHA": "merge", "GITHUB_EVENT_PATH": event}
	gitlab := map[string]string{"GITLAB_CI": "true", "CI_SERVER_URL": "https://gitlab.example.com", "CI_PROJECT_PATH": "eve/churn", "CI_MERGE_REQUEST_PROJECT_PATH": "lab/sub/churn", "CI_MERGE_REQUEST_IID": "7", "CI_COMMIT_SHA": "abc", "CI_JOB_URL": "https://gitlab.example.com/jobs/5"}
	jenkins := func(change string) map[string]string {
		return map[string]string{"JENKINS_URL": "x", "CHANGE_ID": "7", "CHANGE_URL": change, "GIT_COMMIT": "merge", "BUILD_URL": "https://ci/5"}
	}
	with := func(m map[string]string, kv ...string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			out[k] = v
		}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	hub := pullRequest{forge: "github", url: "https://github.com", repo: "lab/churn", number: 7, head: "abc", page: "https://github.com/lab/churn/actions/runs/5", login: "github-actions[bot]"}
	tea := hub
	tea.forge, tea.login = "gitea", "gitea-actions"
	noEvent := hub
	noEvent.head = ""
	lab := pullRequest{forge: "gitlab", url: "https://gitlab.example.com", repo: "lab/sub/churn", number: 7, head: "abc", page: "https://gitlab.example.com/jobs/5"}
	other := hub
	other.number, other.head = 8, ""
	ofJenkins := func(kind, url, repo string) pullRequest {
		return pullRequest{forge: kind, url: url, repo: repo, number: 7, page: "https://ci/5"}
	}
	for name, tt := range map[string]struct {
		env   map[string]string
		flags pullRequest
		want  pullRequest
		err   string
	}{
		"GitHub":                         {env: actions, want: hub},
		"GitHub without an event":        {env: with(actions, "GITHUB_EVENT_PATH", ""), want: noEvent},
		"GitHub, another pull request":   {env: actions, flags: pullRequest{number: 8}, want: other},
		"GitHub, another forge":          {env: actions, flags: pullRequest{forge: "gitea", url: "https://git.example.com"}, want: pullRequest{forge: "gitea", url: "https://git.example.com", repo: "lab/churn", number: 7, head: "abc", page: hub.page}},
		"GitHub on main":                 {env: with(actions, "GITHUB_REF", "refs/heads/main", "GITHUB_EVENT_PATH", ""), err: "for no pull request"},
		"Gitea":                          {env: with(actions, "GITEA_ACTIONS", "true"), want: tea},
		"Forgejo":                        {env: with(actions, "FORGEJO_ACTIONS", "true"), want: tea},
		"GitLab":                         {env: gitlab, want: lab},
		"GitLab, merged result":          {env: with(gitlab, "CI_COMMIT_SHA", "merge", "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "abc"), want: lab},
		"GitLab, a branch's pipeline":    {env: with(gitlab, "CI_MERGE_REQUEST_IID", "", "CI_OPEN_MERGE_REQUESTS", "lab/sub/churn!7,lab/sub/churn!9"), want: lab},
		"GitLab on main":                 {env: with(gitlab, "CI_MERGE_REQUEST_IID", ""), err: "for no pull request"},
		"Jenkins with GitHub":            {env: jenkins("https://github.com/lab/churn/pull/7"), want: ofJenkins("github", "https://github.com", "lab/churn")},
		"Jenkins with Gitea below":       {env: jenkins("https://x.example/git/lab/churn/pulls/7"), want: ofJenkins("gitea", "https://x.example/git", "lab/churn")},
		"Jenkins with GitLab":            {env: jenkins("https://gitlab.com/lab/sub/churn/-/merge_requests/7"), want: ofJenkins("gitlab", "https://gitlab.com", "lab/sub/churn")},
		"Jenkins with something else":    {env: jenkins("https://bitbucket.org/lab/churn/pull-requests/7"), err: "give -forge"},
		"Jenkins on main":                {env: map[string]string{"JENKINS_URL": "x"}, err: "give -forge"},
		"flags alone":                    {flags: pullRequest{forge: "gitea", url: "https://g", repo: "a/b", number: 3, head: "f"}, want: pullRequest{forge: "gitea", url: "https://g", repo: "a/b", number: 3, head: "f"}},
		"nothing":                        {err: "give -forge"},
		"no repository":                  {flags: pullRequest{forge: "gitea", number: 3}, err: "-repo OWNER/NAME"},
		"an event that cannot be parsed": {env: with(actions, "GITHUB_EVENT_PATH", "/dev/null"), err: "read the event"},
	} {
		a := &app{Streams: Streams{Env: func(k string) string { return tt.env[k] }}}
		got, err := a.findPullRequest(tt.flags)
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProjectIsNamedByItsFolderInTheCheckout(t *testing.T) {
	top := t.TempDir()
	below := filepath.Join(top, "models", "churn")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, in := belowCheckout(below); got != "." || in {
		t.Errorf("outside of one: %q", got)
	}
	if err := os.WriteFile(filepath.Join(top, ".git"), []byte("gitdir: elsewhere\n"), 0o600); err != nil { // a worktree's
		t.Fatal(err)
	}
	if got, in := belowCheckout(below); got != "models/churn" || !in {
		t.Errorf("%q", got)
	}
	if got, in := belowCheckout(top); got != "." || !in {
		t.Errorf("at its top: %q", got)
	}
}
