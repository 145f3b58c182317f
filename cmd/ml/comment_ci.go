package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/internal/forge"
)

// pullRequest says which pull request is meant. forge is a kind's name, head the commit that is planned, page where the job's log is.
type pullRequest struct {
	forge, url, repo string
	number           int
	head, page       string
	login            string // who the CI's own token acts as
}

// findPullRequest fills in what the flags left out from the environment of the CI.
func (a *app) findPullRequest(given pullRequest) (pullRequest, error) {
	found, err := a.pullRequestOfCI()
	if err != nil {
		return given, err
	}
	for _, s := range []struct {
		to   *string
		from string
	}{{&given.forge, found.forge}, {&given.repo, found.repo}, {&given.page, found.page}} {
		if *s.to == "" {
			*s.to = s.from
		}
	}
	if given.number == 0 {
		given.number = found.number
	}
	if given.number == found.number && given.head == "" { // of another pull request, the CI's commit is not the head
		given.head = found.head
	}
	if given.url == "" && given.forge == found.forge {
		given.url = found.url
	}
	if given.forge == found.forge {
		given.login = found.login
	}
	switch {
	case given.forge == "":
		return given, errors.New("which pull request is not to be seen from the environment: give -forge, -repo and -pull (and -url), or -print to see the text")
	case given.repo == "":
		return given, errors.New("say which repository with -repo OWNER/NAME")
	case given.number <= 0:
		return given, fmt.Errorf("this job of %s is for no pull request: run ml comment on those only, or say which with -pull N", given.repo)
	}
	return given, nil
}

func (a *app) pullRequestOfCI() (pullRequest, error) {
	switch {
	case a.Env("GITHUB_ACTIONS") == "true" || a.Env("GITEA_ACTIONS") == "true" || a.Env("FORGEJO_ACTIONS") == "true":
		return a.actions()
	case a.Env("GITLAB_CI") == "true":
		return a.gitlabCI(), nil
	case a.Env("CHANGE_ID") != "" || a.Env("JENKINS_URL") != "":
		return a.jenkins(), nil
	}
	return pullRequest{}, nil
}

var pullRef = regexp.MustCompile(`^refs/pull/([0-9]+)/`)

// actions reads the environment of GitHub Actions, which Gitea's and Forgejo's follow. GITHUB_SHA is the commit of a trial merge there; the
// head is in the event.
func (a *app) actions() (pullRequest, error) {
	p := pullRequest{forge: "github", url: a.Env("GITHUB_SERVER_URL"), repo: a.Env("GITHUB_REPOSITORY"), login: "github-actions[bot]"}
	if a.Env("GITEA_ACTIONS") == "true" || a.Env("FORGEJO_ACTIONS") == "true" {
		p.forge, p.login = "gitea", "gitea-actions"
	}
	if run := a.Env("GITHUB_RUN_ID"); run != "" && p.url != "" {
		p.page = p.url + "/" + p.repo + "/actions/runs/" + run
	}
	if m := pullRef.FindStringSubmatch(a.Env("GITHUB_REF")); m != nil {
		p.number = whole(m[1])
	}
	path := a.Env("GITHUB_EVENT_PATH")
	if path == "" {
		return p, nil
	}
	raw, err := readAtMost(path, 4<<20)
	if err != nil {
		return p, fmt.Errorf("read the event of this job: %w", err)
	}
	var event struct {
		PullRequest struct {
			Number int `json:"number"`
			Head   struct {
				SHA string `json:"sha"`
			} `json:"head"`
		} `json:"pull_request"`
	}
	if err := json.Unmarshal(raw, &event); err != nil {
		return p, fmt.Errorf("read the event of this job, %s: %w", path, err)
	}
	if n := event.PullRequest.Number; n > 0 {
		p.number, p.head = n, event.PullRequest.Head.SHA
	}
	return p, nil
}

// gitlabCI reads the environment of GitLab. A merge request's pipeline may run in a fork: the project is the target's.
func (a *app) gitlabCI() pullRequest {
	p := pullRequest{forge: "gitlab", url: a.Env("CI_SERVER_URL"), repo: first(a.Env("CI_MERGE_REQUEST_PROJECT_PATH"), a.Env("CI_PROJECT_PATH")), page: a.Env("CI_JOB_URL")}
	// In a pipeline for the merged result CI_COMMIT_SHA is that of a trial merge.
	p.number, p.head = whole(a.Env("CI_MERGE_REQUEST_IID")), first(a.Env("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA"), a.Env("CI_COMMIT_SHA"))
	if open := a.Env("CI_OPEN_MERGE_REQUESTS"); p.number == 0 && open != "" { // a pipeline of a branch: "group/project!7,…"
		one, _, _ := strings.Cut(open, ",")
		if repo, number, ok := strings.Cut(one, "!"); ok {
			p.repo, p.number = repo, whole(number)
		}
	}
	return p
}

var changePath = regexp.MustCompile(`^(.*?)/(-/merge_requests|merge_requests|pulls|pull|pull-requests)/([0-9]+)/?$`)

// jenkins reads what the branch sources of Jenkins set for a change. GIT_COMMIT may be that of a trial merge, so the head is asked from the
// forge.
func (a *app) jenkins() pullRequest {
	p := pullRequest{number: whole(a.Env("CHANGE_ID")), page: a.Env("BUILD_URL")}
	u, err := url.Parse(a.Env("CHANGE_URL"))
	if err != nil || u.Host == "" {
		return p
	}
	m := changePath.FindStringSubmatch(u.Path)
	if m == nil {
		return p
	}
	p.forge = map[string]string{"pull": "github", "pulls": "gitea", "-/merge_requests": "gitlab", "merge_requests": "gitlab"}[m[2]]
	p.repo, p.url = strings.TrimPrefix(m[1], "/"), u.Scheme+"://"+u.Host
	if parts := strings.Split(p.repo, "/"); p.forge != "gitlab" && len(parts) > 2 { // the forge lies below a path
		at := len(parts) - 2
		p.url, p.repo = p.url+"/"+strings.Join(parts[:at], "/"), strings.Join(parts[at:], "/")
	}
	return p
}

// tokens are where the token of a forge is looked for.
var tokens = map[forge.Kind][]string{
	forge.GitHub: {"GITHUB_TOKEN", "GH_TOKEN"}, forge.GitLab: {"GITLAB_TOKEN"}, forge.Gitea: {"GITEA_TOKEN", "FORGEJO_TOKEN"},
}

func (a *app) forgeClient(where pullRequest, tokenEnv string) (*forge.Client, error) {
	kind, err := forge.ParseKind(where.forge)
	if err != nil {
		return nil, err
	}
	names := tokens[kind]
	if tokenEnv != "" {
		names = []string{tokenEnv}
	} else if where.login != "" && kind == forge.Gitea { // its Actions set GitHub's name
		names = append(names[:len(names):len(names)], "GITHUB_TOKEN")
	}
	token := ""
	for _, n := range names {
		if token = strings.TrimSpace(a.Env(n)); token != "" {
			break
		}
	}
	if token == "" {
		return nil, fmt.Errorf("no token for %s: put one that may write comments and statuses into %s, or name its variable with -token-env", kind, strings.Join(names, " or "))
	}
	return forge.New(forge.Config{Kind: kind, URL: where.url, Repo: where.repo, Token: forge.Static(token), Login: where.login})
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// whole reads a number; what is none is 0.
func whole(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return raw, errors.Join(err, f.Close())
}
