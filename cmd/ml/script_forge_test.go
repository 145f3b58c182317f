package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdForge starts what answers as the API of Gitea does about the repository lab/churn and its pull request 7, whose head is forty ones; a
// name behind it makes it a fork's. Its address is in FORGE from then on. Each comment is kept in the file commentN, each status is a line of
// the file statuses. It is no forge: the tests of e2e/gitops have one.
func cmdForge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: forge [fork]")
	}
	var mu sync.Mutex
	comments := 0
	dir := ts.MkAbs(".")
	head := `{"ref": "data", "sha": "` + strings.Repeat("1", 40) + `", "repo": {"id": 1}}`
	if len(args) == 1 {
		head = strings.Replace(head, `"id": 1`, `"id": 2`, 1)
	}
	put := func(w http.ResponseWriter, id int, body []byte) {
		var in struct{ Body string }
		if err := json.Unmarshal(body, &in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := os.WriteFile(path.Join(dir, fmt.Sprintf("comment%d", id)), []byte(in.Body), 0o644); err != nil {
			panic(err)
		}
		if _, err := fmt.Fprintf(w, `{"id": %d}`, id); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			http.Error(w, `{"message": "token is required"}`, http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		at, out := strings.TrimPrefix(r.URL.Path, "/api/v1/"), ""
		switch key := r.Method + " " + strings.TrimPrefix(at, "repos/lab/churn/"); {
		case key == "GET user":
			out = `{"login": "robot"}`
		case key == "GET pulls/7":
			out = `{"number": 7, "state": "open", "head": ` + head + `, "base": {"ref": "main", "repo": {"id": 1}}}`
		case key == "GET issues/7/comments":
			var all []string
			for i := range comments {
				text, err := os.ReadFile(path.Join(dir, fmt.Sprintf("comment%d", i+1)))
				if err != nil {
					panic(err)
				}
				quoted, err := json.Marshal(string(text))
				if err != nil {
					panic(err)
				}
				all = append(all, fmt.Sprintf(`{"id": %d, "user": {"login": "robot"}, "body": %s}`, i+1, quoted))
			}
			out = "[" + strings.Join(all, ",") + "]"
		case key == "POST issues/7/comments":
			comments++
			put(w, comments, body)
			return
		case strings.HasPrefix(key, "PATCH issues/comments/"):
			put(w, whole(path.Base(key)), body)
			return
		case strings.HasPrefix(key, "POST statuses/"):
			f, err := os.OpenFile(path.Join(dir, "statuses"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				panic(err)
			}
			if _, err := fmt.Fprintf(f, "%s %s", path.Base(key), body); err != nil {
				panic(err)
			}
			if err := f.Close(); err != nil {
				panic(err)
			}
			out = "{}"
		default:
			w.WriteHeader(http.StatusNotFound)
			out = `{"message": "The target couldn't be found."}`
		}
		if _, err := io.WriteString(w, out); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv("FORGE", s.URL)
}
