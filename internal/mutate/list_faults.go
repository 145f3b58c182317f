package main

// ofFaults are what the daemon does about forges, git servers and callers that fail.
func ofFaults() []mutation {
	return []mutation{
		{
			Name: "mirror: a copy that lacks an object is kept", File: "daemon/internal/mirror/guard.go",
			Old:     "if m.doubt.Load() {",
			New:     "if false {",
			Package: "./daemon/internal/mirror", Test: "TestR14APackThatLeavesAFileOutIsFetchedAgain",
		},
		{
			Name: "mirror: a pack may announce any number of objects", File: "daemon/internal/mirror/guard.go",
			Old:     "n > p.objects {",
			New:     "n > p.objects && n == 1 {",
			Package: "./daemon/internal/mirror", Test: "TestR7AndR8APackThatClaimsTooManyObjects",
		},
		{
			Name: "mirror: what a broken transfer leaves stays", File: "daemon/internal/mirror/mirror.go",
			Old:     "	defer m.sweep()\n",
			New:     "",
			Package: "./daemon/internal/mirror", Test: "TestR14ATransferThatBreaksLeavesTheCopyWhole",
		},
		{
			Name: "mirror: a server's words are shown with what it was told", File: "daemon/internal/mirror/guard.go",
			Old:     "if m.cred.Password != nil {",
			New:     "if false {",
			Package: "./daemon/internal/mirror", Test: "TestWhatAServerSaysIsShownAsText",
		},
		{
			Name: "daemon: a forge that wants no more requests is asked", File: "daemon/tell.go",
			Old:     "return pause(ctx, left)",
			New:     "return nil",
			Package: "./daemon", Test: "TestAForgeThatLimitsIsLeftAloneUntilItsTime",
		},
		{
			Name: "daemon: a rewritten history is taken for progress", File: "daemon/apply.go",
			Old:     "rewritten = !follows",
			New:     "rewritten = false && follows",
			Package: "./daemon", Test: "TestR9AForcedPushWaitsForAnApproval",
		},
		{
			Name: "daemon: history that was set back is taken for progress", File: "daemon/apply.go",
			Old:     "rewritten = !follows",
			New:     "rewritten = false && follows",
			Package: "./daemon", Test: "TestR10AHistorySetBackWaitsForAnApproval",
		},
		{
			Name: "daemon: a repository answers to a name like its own", File: "daemon/api.go",
			Old:     "if r.conf.Name == name {",
			New:     "if strings.EqualFold(r.conf.Name, name) {",
			Package: "./daemon", Test: "TestN10NamesThatAreNone",
		},
		{
			Name: "mirror: names that differ by case are one file", File: "daemon/internal/mirror/write.go",
			Old:     "folded := strings.ToLower(name)",
			New:     "folded := name",
			Package: "./daemon/internal/mirror", Test: "TestR16NamesThatDifferByCaseAreTwoFilesOrRefused",
		},
		{
			Name: "site: any file of the folder is served", File: "daemon/internal/site/site.go",
			Old:     "if !ok || err != nil {",
			New:     "if !ok && err != nil {",
			Package: "./daemon/internal/site", Test: "TestWhatIsNotThereIsNotFound",
		},
		{
			Name: "site: who may not approve gets a button", File: "daemon/internal/site/site.go",
			Old:     "of.Mode == status.Applies && s.MayApprove(req)",
			New:     "of.Mode == status.Applies",
			Package: "./daemon/internal/site", Test: "TestWhoMayNotApproveGetsNoButton",
		},
		{
			Name: "outbox: who was not reached is asked again at once", File: "daemon/internal/outbox/outbox.go",
			Old:     "if st.next.After(now) {",
			New:     "if false {",
			Package: "./daemon/internal/outbox", Test: "TestANotifierThatIsAwayIsTriedLaterAndInOrder",
		},
		{
			Name: "daemon: a slow body is waited for", File: "daemon/hooks.go",
			Old:     "time.Now().Add(d.times.body)",
			New:     "time.Time{}",
			Package: "./daemon", Test: "TestW12SlowBodiesAreLetGo",
		},
		{
			Name: "engine: a log is shown as it is", File: "engine/logs.go",
			Old:     "hide: e.hidingLog(addr, snap)",
			New:     "hide: func(text string) string { _ = e.hidingLog; return text }",
			Package: "./daemon", Test: "TestFiftyPlantedSecretsAreFoundNowhere",
		},
		{
			Name: "files: a file takes the place of one that is read", File: "internal/files/freeze.go",
			Old:     "if err == nil || errors.Is(err, fs.ErrExist) {",
			New:     "if err == nil {",
			Package: "./internal/files", Test: "TestAFileThatAppearsMeanwhileStaysTheSameFile",
		},
	}
}
