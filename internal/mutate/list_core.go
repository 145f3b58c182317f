package main

func ofState() []mutation {
	return []mutation{
		{
			Name: "state: a lost lease still writes", File: "state/commit.go",
			Old:     "if l == nil || l.Epoch != w.Epoch {",
			New:     "if l == nil {",
			Package: "./state/bolt", Test: "TestAHolderWhoseLockFileWasDeletedIsFenced",
		},
		{
			Name: "state: a commit on an old serial is taken", File: "state/commit.go",
			Old:     "if w.Base != 0 && w.Base != h.Serial {",
			New:     "if false {",
			Package: "./state", Test: "TestMemory",
		},
		{
			Name: "state: anyone commits without a base", File: "state/commit.go",
			Old:     "if w.Base == 0 && h.Serial != 0 && !w.Taking {",
			New:     "if false {",
			Package: "./state", Test: "TestMemory",
		},
		{
			Name: "state: a newer format is read all the same", File: "state/commit.go",
			Old:     "if n > Format {",
			New:     "if n > Format+1000 {",
			Package: "./state/bolt", Test: "TestZ7ANewerFormatIsRefusedAndLeftAlone",
		},
		{
			Name: "state: the first failed sync is forgotten", File: "state/bolt/commit.go",
			Old:     "failed.LoadOrStore(s.failKey(), err)",
			New:     "_ = err",
			Package: "./state/bolt", Test: "TestTheFirstFailedSyncEndsWriting",
		},
		{
			Name: "state: a failed sync is acknowledged", File: "state/bolt/commit.go",
			Old:     "fault.Point(fault.StateCommitAfter)\n\treturn s.writeError(err)",
			New:     "fault.Point(fault.StateCommitAfter)\n\treturn nil",
			Package: "./state/bolt", Test: "TestAFailedSyncIsNotAcknowledged|TestTheFirstFailedSyncEndsWriting",
		},
		{
			Name: "state: checksums are not compared", File: "state/bolt/seal.go",
			Old:     "if sealSum(bucket, key, value[sealSize:]) != [sha256.Size]byte(value[1:sealSize]) {",
			New:     "if false {",
			Package: "./state/bolt", Test: "TestASealIsForOneKeyOnly|TestZ4RandomDamage",
		},
		{
			Name: "state: a checksum is for every key", File: "state/bolt/seal.go",
			Old:     "b = append(append(b, bucket...), key...)",
			New:     "b = append(b, bucket...)",
			Package: "./state/bolt", Test: "TestASealIsForOneKeyOnly",
		},
		{
			Name: "state: the root hash is not compared", File: "state/bolt/read.go",
			Old:     "if covered(b) && *sums[b] != *want[b] {",
			New:     "if covered(b) && sums[b] == nil && want[b] == nil {",
			Package: "./state/bolt", Test: "TestAPageFromThePastIsFound",
		},
		{
			Name: "state: an old copy is taken", File: "state/bolt/witness.go",
			Old:     "\tif h.Serial < w.Serial {",
			New:     "\tif false {",
			Package: "./state/bolt", Test: "TestZ5AnOldCopyIsRefusedUntilAccepted",
		},
		{
			Name: "state: another project's state is taken", File: "state/bolt/witness.go",
			Old:     "if w.Lineage != h.Lineage {",
			New:     "if false {",
			Package: "./state/bolt", Test: "TestZ6AStateOfAnotherLineageIsRefused",
		},
		{
			Name: "state: a lost file is made anew", File: "state/bolt/witness.go",
			Old:     "if err != nil || w.Lineage == \"\" {\n\t\treturn err\n\t}\n\treturn fmt.Errorf(\"%w: %s is gone",
			New:     "if true {\n\t\treturn err\n\t}\n\treturn fmt.Errorf(\"%w: %s is gone",
			Package: "./state/bolt", Test: "TestZ11TheFileGoesWhileWeRun",
		},
		{
			Name: "state: a broken structure is written into", File: "state/bolt/commit.go",
			Old:     "return checkStructure(p)",
			New:     "return nil",
			Package: "./state/bolt", Test: "TestAFreeListThatNamesALivePageStopsAWrite",
		},
		{
			Name: "state: two hold the lease", File: "state/bolt/lease.go",
			Old:     "lock.TryLock()",
			New:     "lock.TryRLock()",
			Package: "./state/bolt", Test: "TestTwoStoresOneLease",
		},
	}
}

func ofEngine() []mutation {
	return []mutation{
		{
			Name: "journal: an act without an intent", File: "engine/apply.go",
			Old:     "if err := s.commit(ctx, state.Op{PutIntent: w.intent}); err != nil {",
			New:     "if err := ctx.Err(); err != nil {",
			Package: "./engine", Test: "TestEveryActIsInTheJournalBeforeItHappens",
		},
		{
			Name: "alerts: one that was not delivered is forgotten", File: "engine/alerts.go",
			Old:     "told.Owed = append(told.Owed, to)",
			New:     "_ = told",
			Package: "./engine", Test: "TestANotifierThatIsDownIsToldLater",
		},
		{
			Name: "secrets: what a command printed is recorded as it is", File: "engine/work.go",
			Old:     "s.hideIn(w.intent.Address, rec.Verdict)",
			New:     "_ = s.hideIn",
			Package: "./cmd/ml", Test: "TestScripts/of/secret",
		},
		{
			Name: "alerts: a crash loses one", File: "engine/alerts.go",
			Old:     "ops = append(ops, state.Op{PutSignal: &now})",
			New:     "later := now\n\t\t\tlater.Owed = nil\n\t\t\tdefer func() { _ = s.alert(ctx, &now) }()\n\t\t\tops = append(ops, state.Op{PutSignal: &later})",
			Package: "./engine", Test: "TestAnAlertIsOwedBeforeItIsSent",
		},
		{
			Name: "alerts: a turn is told again after an error", File: "engine/alerts.go",
			Old:     "(old == nil || old.Epoch != now.Epoch)",
			New:     "(old == nil || old.State != resource.SignalBad)",
			Package: "./engine", Test: "TestEveryTurnIsToldOnceToEach",
		},
		{
			Name: "journal: a deletion without an intent", File: "engine/act.go",
			Old:     "if err := a.s.commit(ctx, state.Op{PutIntent: in}); err != nil {",
			New:     "if err := ctx.Err(); err != nil {",
			Package: "./engine", Test: "TestEveryActIsInTheJournalBeforeItHappens",
		},
		{
			Name: "journal: a replacement deletes without an intent", File: "engine/act.go",
			Old:     "if err := s.commit(ctx, state.Op{PutIntent: old}); err != nil {",
			New:     "if err := ctx.Err(); err != nil {",
			Package: "./engine", Test: "TestEveryActIsInTheJournalBeforeItHappens",
		},
		{
			Name: "journal: a result that cannot be recorded stays open", File: "engine/work.go",
			Old:     "\t\trec, ops, failure = s.succeeded(w, res)\n",
			New:     "\t\tif rec, ops, failure = s.succeeded(w, res); failure != nil {\n\t\t\treturn nil, nil, failure\n\t\t}\n",
			Package: "./engine", Test: "TestAResultThatCannotBeRecordedIsAFailureAndClosesItsIntent",
		},
		{
			Name: "journal: what no store takes stays open", File: "engine/work.go",
			Old:     "if ended == nil && errors.Is(err, state.ErrUnwritable) {",
			New:     "if false {",
			Package: "./engine", Test: "TestAMeasureThatIsNoNumberIsAFailureAndClosesItsIntent",
		},
		{
			Name: "journal: what can be finished is given up", File: "engine/status.go",
			Old:     "if cannot == nil {",
			New:     "if false {",
			Package: "./engine", Test: "TestForgettingFinishesWhatCanBeFinished",
		},
		{
			Name: "journal: intents stay open", File: "engine/work.go",
			Old:     "ops = append(ops, state.Op{CloseIntent: w.intent.OpID})",
			New:     "",
			Package: "./engine", Test: "TestPlanAfterAnyApplyIsEmpty|TestEveryActIsInTheJournalBeforeItHappens",
		},
		{
			Name: "journal: an interrupted run counts as failed", File: "engine/work.go",
			Old:     "interrupted(ctx, failure) || errors.As(failure, &open) ||",
			New:     "errors.As(failure, &open) ||",
			Package: "./cmd/ml", Test: "TestScripts/of/interrupt",
		},
		{
			Name: "leader: a term that was not renewed goes on", File: "internal/leader/leader.go",
			Old:     "if !t.over && t.clock() < t.end {",
			New:     "if !t.over {",
			Package: "./internal/leader", Test: "TestATermEndsByTheClockAndForGood",
		},
		{
			Name: "leader: the state takes commits of an earlier term", File: "state/commit.go",
			Old:     "if w.Term != 0 && w.Term < h.Term {",
			New:     "if false {",
			Package: "./state/bolt", Test: "TestALaterLeaderTakesTheLease",
		},
		{
			Name: "leader: nobody asks inside of the transaction", File: "state/bolt/commit.go",
			Old:     "if err := group.Allowed(commits); err != nil {",
			New:     "if err := error(nil); err != nil {",
			Package: "./state/bolt", Test: "TestACommitAsksAtTheLastMoment",
		},
		{
			Name: "gate: a bad verdict replaces the held outputs", File: "engine/work.go",
			Old:     "if res.Verdict.Bad() {\n\t\tw.hold(attrs)",
			New:     "if false {\n\t\tw.hold(attrs)",
			Package: "./engine", Test: "TestABadVerdictKeepsWhatServes|TestPlanAfterAnyApplyIsEmpty",
		},
		{
			Name: "gate: a failed postcondition passes", File: "engine/work.go",
			Old:     "if w.post != nil && !rec.Verdict.Bad() {",
			New:     "if false {",
			Package: "./engine", Test: "TestAFailedPostconditionClosesTheGate",
		},
		{
			Name: "rollback: a version that never passed is served", File: "engine/manual.go",
			Old:     "if !good {",
			New:     "if false {",
			Package: "./cmd/ml", Test: "TestScripts/of/rollback",
		},
	}
}

func ofPlanFiles() []mutation {
	return []mutation{
		{
			Name: "approval: one plan's is good for another", File: "engine/approve.go",
			Old:     "case a == nil || a.Plan != p.Digest:",
			New:     "case a == nil:",
			Package: "./engine", Test: "TestAnApprovedPlanRunsOnceAndNoOtherDoes",
		},
		{
			Name: "approval: none is needed", File: "engine/approve.go",
			Old:     "if err := CheckApproval(p, a, s.e.Commit, now); err != nil {\n\t\treturn nil, err",
			New:     "if a == nil {\n\t\ta = &state.Approval{Plan: p.Digest}",
			Package: "./engine", Test: "TestAnApprovedPlanRunsOnceAndNoOtherDoes",
		},
		{
			Name: "approval: a used one is taken", File: "engine/approve.go",
			Old:     "case a.Used != nil:",
			New:     "case false:",
			Package: "./engine", Test: "TestAnApprovedPlanRunsOnceAndNoOtherDoes",
		},
		{
			Name: "approval: its use is not written", File: "engine/approve.go",
			Old:     "return planned, s.commit(ctx, state.Op{PutApproval: &used})",
			New:     "return planned, nil",
			Package: "./engine", Test: "TestAnApprovedPlanRunsOnceAndNoOtherDoes",
		},
		{
			Name: "approval: none expires", File: "engine/approve.go",
			Old:     "case !now.Before(a.Expires):",
			New:     "case false:",
			Package: "./engine", Test: "TestAnApprovalExpires",
		},
		{
			Name: "approval: it is good at every commit", File: "engine/approve.go",
			Old:     "if strings.TrimSuffix(p.Plan.Commit, dirtySuffix) != commit {",
			New:     "if false {",
			Package: "./engine", Test: "TestAnApprovalIsForOneCommit",
		},
		{
			Name: "approval: a stale plan is approved", File: "engine/approve.go",
			Old:     "if _, err := s.Resume(ctx, p); err != nil {\n\t\treturn nil, err\n\t}\n\ta :=",
			New:     "a :=",
			Package: "./engine", Test: "TestAStalePlanIsNeitherApprovedNorUsedUp",
		},
		{
			Name: "approval: a used one comes back", File: "state/apply.go",
			Old:     "if found && old.Used != nil {",
			New:     "if found && false {",
			Package: "./state", Test: "TestMemory",
		},
		{
			Name: "plan file: the signature is not compared", File: "engine/planfile.go",
			Old:     "if !hmac.Equal(",
			New:     "if false && !hmac.Equal(",
			Package: "./engine", Test: "TestP1EveryChangedByteIsRefused",
		},
		{
			Name: "plan file: a secret variable is saved", File: "internal/workspace/plans.go",
			Old:     "return w.Conf.SensitiveVar(v.Name) })",
			New:     "return false })",
			Package: "./cmd/ml", Test: "TestScripts/of/saved_variables",
		},
		{
			Name: "plan file: no key is a key", File: "engine/planfile.go",
			Old:     "if len(key) == 0 {\n\t\treturn nil, fmt.Errorf(\"read plan",
			New:     "if false {\n\t\treturn nil, fmt.Errorf(\"read plan",
			Package: "./engine", Test: "TestP2APlanOfAnotherProjectOrVersionIsRefused",
		},
		{
			Name: "plan file: another version's is taken", File: "engine/planfile.go",
			Old:     "case p.Tool != tool:",
			New:     "case false:",
			Package: "./engine", Test: "TestP2APlanOfAnotherProjectOrVersionIsRefused",
		},
		{
			Name: "plan file: another state's is taken", File: "engine/planfile.go",
			Old:     `if p.Lineage != "" && p.Lineage != snap.Lineage {`,
			New:     "if false {",
			Package: "./engine", Test: "TestP2APlanOfAnotherProjectOrVersionIsRefused",
		},
		{
			Name: "plan file: none expires", File: "engine/planfile.go",
			Old:     "case age > PlanLifetime:",
			New:     "case false:",
			Package: "./engine", Test: "TestP9AnExpiredOrFuturePlanIsRefused",
		},
		{
			Name: "plan file: the future is taken", File: "engine/planfile.go",
			Old:     "case age < -time.Minute:",
			New:     "case false:",
			Package: "./engine", Test: "TestP9AnExpiredOrFuturePlanIsRefused",
		},
		{
			Name: "plan file: moved files do not matter", File: "engine/planfile.go",
			Old:     "if p.ConfigDigest != s.e.Project.Digest {",
			New:     "if false {",
			Package: "./engine", Test: "TestP5APlanIsStaleWhenTheFilesOrVariablesMoved",
		},
		{
			Name: "plan file: moved records do not matter", File: "engine/planfile.go",
			Old:     `now != st.Exec.Record && st.Exec.Record+now != "" {`,
			New:     `now == "never" {`,
			Package: "./engine", Test: "TestP3AReplayedPlanIsStale|TestP4APlanIsStaleWhenItsRecordsMoved",
		},
		{
			Name: "plan file: moved sources do not matter", File: "engine/planfile.go",
			Old:     "now != planned {",
			New:     `now == "never" {`,
			Package: "./engine", Test: "TestP4NewSourcesMakeThePlanStale",
		},
		{
			Name: "plan file: moved objects do not matter", File: "engine/planfile.go",
			Old:     "now != st.Exec.Live {",
			New:     `now == "never" {`,
			Package: "./engine", Test: "TestP6APlanIsStaleWhenItsLiveObjectWasEdited",
		},
		{
			Name: "plan file: a folder or FIFO is opened", File: "engine/planfile.go",
			Old:     "if !st.Mode().IsRegular() {",
			New:     "if false {",
			Package: "./engine", Test: "TestP8ADirectoryIsNoPlan",
		},
		{
			Name: "plan file: a FIFO in its place blocks", File: "engine/planfile.go",
			Old:     "os.O_RDONLY|syscall.O_NONBLOCK",
			New:     "os.O_RDONLY|0*syscall.O_NONBLOCK",
			Package: "./engine", Test: "TestP8APlanReplacedBetweenCheckAndUseIsNeverTakenForTheOther",
		},
	}
}
