package main

func ofSharedState() []mutation {
	const commit, here = "state/remote/commit.go", "state/remote/here.go"
	m := func(name, file, old, replaced, test string) mutation {
		return mutation{Name: "shared state: " + name, File: file, Old: old, New: replaced, Package: "./state/remote", Test: test}
	}
	return []mutation{
		m("a refused write counts as made", commit, "case now.version != at:\n\t\treturn \"\", ErrPassed", "case now.version != at:\n\t\treturn now.version, nil", "TestOfManyWritersNoneLosesACommit"),
		m("a lost answer is not read back", commit, "if err == nil || !errors.Is(err, ErrPassed) && !lost {", "if err == nil || !errors.Is(err, ErrPassed) || lost {", "TestACommitWhoseAnswerIsLostIsFoundOutAndMadeOnce"),
		m("a write under others is not found", "state/remote/head.go", "if w == write {", "if w == \"\" {", "TestACommitWhoseAnswerIsLostIsFoundUnderThoseOfOthers"),
		m("a lost lease still writes", "state/commit.go", "if l == nil || l.Epoch != w.Epoch {", "if l == nil {", "TestAHolderThatWasStoppedWritesNothingAfterAnotherTookOver"),
		m("a part is not compared with its digest", "state/remote/table.go", "hex.EncodeToString(sum[:]) != ref.digest()", "hex.EncodeToString(sum[:]) == \"\"", "TestEveryDamagedByteIsFound"),
		m("a head is not compared with its digest", "state/remote/head.go", "case resource.DigestOf(body) != resource.Digest(sum):", "case sum == \"?\":", "TestEveryDamagedByteIsFound"),
		m("a lease is taken over at once", "state/remote/lease.go", "s.opts.Now().Sub(seen.since) >= s.opts.LeaseFor", "s.opts.Now().Sub(seen.since) >= 0", "TestALeaseIsTakenOverByTheObserversClockAlone"),
		m("a renewal is no sign of life", commit, "next.Alive++", "_ = next", "TestAHolderThatLivesKeepsTheLease"),
		m("any writer is a sign of life", commit, "if s.epoch != 0 && s.epoch == next.Epoch {", "if true {", "TestOthersThatWriteAreNoSignOfLife"),
		m("an old head is taken", here, "case v.Serial < w.Serial:", "case false:", "TestAnOldHeadThatWasPutBackIsRefused"),
		m("another state is taken", here, "case w.Lineage != \"\" && w.Lineage != v.Lineage:", "case false:", "TestAStateThatIsGoneOrAnotherIsNotTakenForANewOne"),
		m("a newer snapshot says nothing", "state/remote/backup.go", "heads[i].Lineage == v.Lineage && c.Serial > v.Serial", "false", "TestASnapshotTellsThatTheHeadIsOld"),
		m("a place is not asked whether it keeps conditions", commit, "checked := s.checked", "checked := true", "TestAPlaceThatIgnoresConditionsIsRefusedBeforeAnythingIsWritten"),
		m("a rebuild does not leap", "state/remote/restore.go", "if lost {", "if false {", "TestRebuildPutsTheNewestWholeSnapshotBack"),
		m("what lives elsewhere is taken over", here, "if what := s.boundIn(snap); what != \"\" {", "if what := s.boundIn(snap); what == \"?\" {", "TestWhatLivesOnOneMachineIsLeftToIt"),
		m("young parts go", "state/remote/backup.go", "newest.Sub(p.Modified) > keepUnnamed", "true", "TestABackupNeedsWholePartsAndOldOnesGo"),
		m("a moved state is still used", "state/remote/store.go", "if v.version != \"\" && v.Moved != \"\" {", "if false {", "TestAStateMovesAndItsOldPlaceSaysWhereTo"),
		{
			Name: "shared state: a stranger's files say where the state is", File: "internal/workspace/workspace.go",
			Old: "!o.Untrusted && !want.Same(is)", New: "!want.Same(is)",
			Package: "./internal/workspace", Test: "TestAStrangersFilesDoNotSayWhereTheStateIs",
		},
	}
}
