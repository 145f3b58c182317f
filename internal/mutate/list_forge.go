package main

func ofForge() []mutation {
	return []mutation{
		{
			Name: "forge: a webhook is read without a signature", File: "internal/forge/webhook.go",
			Old:     "case !authentic(kind, secret, header[names.signature], body):",
			New:     "case kind == \"\":",
			Package: "./internal/forge", Test: "TestW1SignaturesThatAreNone|TestW2ABodyThatChanged",
		},
		{
			Name: "forge: an endpoint without a secret takes webhooks", File: "internal/forge/webhook.go",
			Old:     "case secret == \"\":",
			New:     "case kind == \"\":",
			Package: "./internal/forge", Test: "TestNoSecretNoWebhook",
		},
		{
			Name: "forge: of two signatures one is enough", File: "internal/forge/webhook.go",
			Old:     "if len(given) != 1 {",
			New:     "if len(given) < 1 {",
			Package: "./internal/forge", Test: "TestW1SignaturesThatAreNone",
		},
		{
			Name: "forge: a name may stand in a webhook twice", File: "internal/forge/webhook.go",
			Old:     "if low := strings.ToLower(name); folded[low] {",
			New:     "if low := strings.ToLower(name); low == \"\\x00\" {",
			Package: "./internal/forge", Test: "TestW6NamesThatDifferInCase",
		},
		{
			Name: "forge: a webhook may be of any length", File: "internal/forge/webhook.go",
			Old:     "case len(body) > MaxHook:",
			New:     "case len(body) < 0:",
			Package: "./internal/forge", Test: "TestW3ABodyThatIsTooLong",
		},
		{
			Name: "forge: whoever has our marker is us", File: "internal/forge/pulls.go",
			Old:     "if !strings.EqualFold(old.Author, me) || !begins(old.Body, marker) {",
			New:     "if me == \"\" || !begins(old.Body, marker) {",
			Package: "./internal/forge", Test: "TestOneCommentIsKeptUpToDate",
		},
		{
			Name: "forge: each push gets a comment of its own", File: "internal/forge/pulls.go",
			Old:     "edited, err := c.write(ctx, number, old.ID, body)",
			New:     "edited, err := c.write(ctx, number, 0, body)",
			Package: "./internal/forge", Test: "TestOneCommentIsKeptUpToDate",
		},
		{
			Name: "forge: a fork that is gone counts as none", File: "internal/forge/hub.go",
			Old:     "Ref: fmt.Sprintf(\"refs/pull/%d/head\", p.Number), Fork: true,",
			New:     "Ref: fmt.Sprintf(\"refs/pull/%d/head\", p.Number),",
			Package: "./internal/forge", Test: "TestPullRequestsTellForksOverAllPages",
		},
		{
			Name: "forge: an answer about somebody else counts", File: "internal/forge/hub.go",
			Old:     "if err != nil || found.User.Login != \"\" && !strings.EqualFold(found.User.Login, user) {",
			New:     "if err != nil || strings.HasPrefix(user, \"/\") {",
			Package: "./internal/forge", Test: "TestPermissionIsAskedAtThatMoment",
		},
		{
			Name: "forge: an account of GitLab that is blocked may go on", File: "internal/forge/lab.go",
			Old:     "if !strings.EqualFold(u.Username, user) || u.State != \"active\" {",
			New:     "if !strings.EqualFold(u.Username, user) {",
			Package: "./internal/forge", Test: "TestPermissionOnGitLab",
		},
		{
			Name: "forge: a redirect leads anywhere", File: "internal/forge/remote.go",
			Old:     "case req.URL.Scheme != base.Scheme || req.URL.Host != base.Host:",
			New:     "case req.URL.Host == \"\":",
			Package: "./internal/forge", Test: "TestTheTokenGoesNowhereElse",
		},
		{
			Name: "forge: a long answer is cut and passes for whole", File: "internal/forge/remote.go",
			Old:     "return 0, errTooLong",
			New:     "return 0, io.EOF",
			Package: "./internal/forge", Test: "TestAnAnswerWithoutAnEndIsNotRead",
		},
		{
			Name: "forge: the token is told in an error", File: "internal/forge/errors.go",
			Old:     "if token, err := m.token(); err == nil && token != \"\" {",
			New:     "if token, err := m.token(); err == nil && token == \"\\x00\" {",
			Package: "./internal/forge", Test: "TestErrorsSayWhatToDo",
		},
		{
			Name: "comment: code ends at a backtick in it", File: "report/markdown_text.go",
			Old:     "ticks := strings.Repeat(\"`\", longestRun(text, '`')+1)",
			New:     "ticks := \"`\"",
			Package: "./report", Test: "TestCommentsLookAsTheyShould",
		},
		{
			Name: "comment: a fence ends at a fence in it", File: "report/markdown_text.go",
			Old:     "fence := strings.Repeat(\"`\", max(3, longestRun(lines, '`')+1))",
			New:     "fence := \"```\"",
			Package: "./report", Test: "TestCommentsLookAsTheyShould",
		},
		{
			Name: "comment: names are shown as they are", File: "report/markdown_steps.go",
			Old:     "line := \"- \" + mdCode(b.sign) + \" **\" + mdCode(b.address) + \"** \" + m.phraseOf(b) + \"\\n\"",
			New:     "line := \"- \" + mdCode(b.sign) + \" **\" + b.address + \"** \" + m.phraseOf(b) + \"\\n\"",
			Package: "./report", Test: "TestCommentsLookAsTheyShould",
		},
		{
			Name: "comment: a stranger's pull request shows the whole plan", File: "report/markdown_steps.go",
			Old:     "if m.o.Foreign || len(m.p.Steps)+len(m.p.Drift) == 0 {",
			New:     "if len(m.p.Steps)+len(m.p.Drift) == 0 {",
			Package: "./report", Test: "TestAStrangersCommentHoldsNoValue",
		},
		{
			Name: "comment: a stranger's pull request shows keys", File: "report/markdown_steps.go",
			Old:     "mdCode(withoutKeys(g.block))",
			New:     "mdCode(g.block.String())",
			Package: "./report", Test: "TestAStrangersCommentHoldsNoValue",
		},
		{
			Name: "comment: the whole plan is as long as it is", File: "report/markdown_steps.go",
			Old:     "if limit := room - frame; len(text) > limit {",
			New:     "if limit := room - frame; limit < 0 {",
			Package: "./report", Test: "TestCommentsLookAsTheyShould",
		},
		{
			Name: "comment: a secret is shown where it stood before", File: "report/markdown.go",
			Old:     "mdPair(m.changeText(c.Old, c.Sensitive), m.changeText(c.New, c.Sensitive))",
			New:     "mdPair(m.changeText(c.Old, false), m.changeText(c.New, false))",
			Package: "./report", Test: "TestSecretsAreMaskedWhereverTheyStand",
		},
	}
}
