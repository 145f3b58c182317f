//go:build linux

package gitea

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// User is an account with a token of its own.
type User struct {
	Name  string
	Token string

	server   *Server
	password string
}

// User makes an account. Its name gets an ending, so that each test has its own.
func (s *Server) User(ctx context.Context, name string) (User, error) {
	u := User{Name: name + "-" + random(4), server: s, password: random(16)}
	in := map[string]any{"username": u.Name, "email": u.Name + "@example.com", "password": u.password, "must_change_password": false}
	if err := s.Admin.Do(ctx, http.MethodPost, "admin/users", in, nil); err != nil {
		return User{}, err
	}
	var token struct {
		SHA1 string `json:"sha1"`
	}
	err := u.Do(ctx, http.MethodPost, "users/"+u.Name+"/tokens", map[string]any{"name": "test", "scopes": []string{"all"}}, &token)
	u.Token = token.SHA1
	return u, err
}

// Do calls Gitea's API as this user; path is below /api/v1/.
func (u User) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.server.URL+"/api/v1/"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if u.Token != "" {
		req.Header.Set("Authorization", "token "+u.Token)
	} else {
		req.SetBasicAuth(u.Name, u.password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return fmt.Errorf("gitea %s %s: %w", method, path, err)
	case resp.StatusCode >= 300:
		return fmt.Errorf("gitea %s %s: %s: %s", method, path, resp.Status, raw)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("gitea %s %s: %w", method, path, err)
	}
	return nil
}

// Repo makes an empty repository of this user's and returns owner/name.
func (u User) Repo(ctx context.Context, name string) (string, error) {
	return u.Name + "/" + name, u.Do(ctx, http.MethodPost, "user/repos", map[string]any{"name": name, "default_branch": "main"}, nil)
}

// Fork makes a fork of a repository in this user's name and returns owner/name.
func (u User) Fork(ctx context.Context, repo string) (string, error) {
	var out struct {
		FullName string `json:"full_name"`
	}
	err := u.Do(ctx, http.MethodPost, "repos/"+repo+"/forks", map[string]any{}, &out)
	return out.FullName, err
}

// Collaborate lets another user read, write or administrate a repository.
func (u User) Collaborate(ctx context.Context, repo, other, permission string) error {
	return u.Do(ctx, http.MethodPut, "repos/"+repo+"/collaborators/"+other, map[string]string{"permission": permission}, nil)
}

// Pull opens a pull request; head is a branch, or OWNER:BRANCH of a fork.
func (u User) Pull(ctx context.Context, repo, head, base, title string) (int, error) {
	var out struct{ Number int }
	err := u.Do(ctx, http.MethodPost, "repos/"+repo+"/pulls", map[string]string{"head": head, "base": base, "title": title}, &out)
	return out.Number, err
}

// Comment writes a comment on a pull request and returns its id.
func (u User) Comment(ctx context.Context, repo string, number int, body string) (int64, error) {
	var out struct{ ID int64 }
	err := u.Do(ctx, http.MethodPost, fmt.Sprintf("repos/%s/issues/%d/comments", repo, number), map[string]string{"body": body}, &out)
	return out.ID, err
}

// Said is a comment as Gitea has it.
type Said struct {
	ID   int64
	Body string
	User struct{ Login string }
}

// Comments are those of a pull request.
func (u User) Comments(ctx context.Context, repo string, number int) ([]Said, error) {
	var out []Said
	err := u.Do(ctx, http.MethodGet, fmt.Sprintf("repos/%s/issues/%d/comments", repo, number), nil, &out)
	return out, err
}

// Merge merges a pull request. Gitea refuses it for as long as it looks whether that can be done.
func (u User) Merge(ctx context.Context, repo string, number int) error {
	var last error
	err := Until(ctx, func() bool {
		last = u.Do(ctx, http.MethodPost, fmt.Sprintf("repos/%s/pulls/%d/merge", repo, number), map[string]string{"Do": "merge"}, nil)
		return last == nil || !strings.Contains(last.Error(), "try again later")
	})
	return errors.Join(err, last)
}

// Hook has Gitea send pushes, pull requests and comments of a repository to an address, signed with the secret.
func (u User) Hook(ctx context.Context, repo, address, secret string) error {
	return u.Do(ctx, http.MethodPost, "repos/"+repo+"/hooks", map[string]any{
		"type": "gitea", "active": true, "config": map[string]string{"url": address, "content_type": "json", "secret": secret},
		"events": []string{"push", "create", "pull_request", "pull_request_sync", "pull_request_comment", "issue_comment"},
	}, nil)
}

// Status is one status of a commit, as Gitea has it.
type Status struct {
	Status      string
	Context     string
	Description string
	TargetURL   string `json:"target_url"`
}

// Statuses are the last of each context.
func (u User) Statuses(ctx context.Context, repo, commit string) ([]Status, error) {
	var out struct{ Statuses []Status }
	err := u.Do(ctx, http.MethodGet, "repos/"+repo+"/commits/"+commit+"/status", nil, &out)
	return out.Statuses, err
}

// Render is a comment's text as Gitea shows it.
func (u User) Render(ctx context.Context, repo, text string) (string, error) {
	raw, err := json.Marshal(map[string]any{"Text": text, "Mode": "comment", "Context": "/" + repo, "Wiki": false})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.server.URL+"/api/v1/markup", bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "token "+u.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	html, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("gitea renders nothing: %s: %s", resp.Status, html)
	}
	return string(html), err
}

// CloneURL is a repository's address with this user's credentials in it.
func (u User) CloneURL(repo string) string {
	at, err := url.Parse(u.server.URL)
	if err != nil {
		return ""
	}
	at.User, at.Path = url.UserPassword(u.Name, u.Token), "/"+repo+".git"
	return at.String()
}

// Checkout is a clone of a repository in a folder.
type Checkout struct {
	Dir string

	user User
	repo string
}

// Clone clones a repository, which may be empty, with git.
func (u User) Clone(ctx context.Context, repo, dir string) (Checkout, error) {
	c := Checkout{Dir: dir, user: u, repo: repo}
	if _, err := c.Git(ctx, "clone", "--quiet", u.CloneURL(repo), "."); err != nil {
		return c, err
	}
	for _, kv := range [][2]string{{"user.name", u.Name}, {"user.email", u.Name + "@example.com"}, {"commit.gpgsign", "false"}} {
		if _, err := c.Git(ctx, "config", kv[0], kv[1]); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Git runs git in the folder, with nobody's configuration, and returns what it said.
func (c Checkout) Git(ctx context.Context, args ...string) (string, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = c.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LANG=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Push commits files, by name, on a branch, which begins at the present commit if it is new, and pushes it. It returns the commit
// when Gitea, which looks at a push only after it, knows of it.
func (c Checkout) Push(ctx context.Context, branch string, files map[string]string, message string) (string, error) {
	to := []string{"checkout", "--quiet", branch}
	if _, err := c.Git(ctx, "rev-parse", "--verify", "--quiet", "refs/heads/"+branch); err != nil {
		to = []string{"checkout", "--quiet", "-b", branch}
	}
	if _, err := c.Git(ctx, to...); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(c.Dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			return "", err
		}
		if _, err := c.Git(ctx, "add", "--", name); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"commit", "--quiet", "-m", message}, {"push", "--quiet", "origin", branch}} {
		if _, err := c.Git(ctx, args...); err != nil {
			return "", err
		}
	}
	head, err := c.Git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	return head, Until(ctx, func() bool {
		var b struct{ Commit struct{ ID string } }
		err := c.user.Do(ctx, http.MethodGet, "repos/"+c.repo+"/branches/"+branch, nil, &b)
		return err == nil && b.Commit.ID == head
	})
}

// Until asks again and again for half a minute, and fails if it is never so.
func Until(ctx context.Context, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("gitea: what was waited for did not come: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
