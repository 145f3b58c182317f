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
