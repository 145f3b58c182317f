package main

// ofSink takes away, one by one, what makes a deployment's sink get each answer at least once.
func ofSink() []mutation {
	gateway := func(name, file, old, new, test string) mutation {
		return mutation{Name: "sink: " + name, File: "internal/gateway/" + file, Old: old, New: new, Package: "./internal/gateway", Test: test}
	}
	capture := func(name, file, old, new, test string) mutation {
		return mutation{Name: "sink: " + name, File: "internal/gateway/capture/" + file, Old: old, New: new, Package: "./internal/gateway/capture", Test: test}
	}
	return []mutation{
		gateway("an answer does not wait for its record", "proxy.go",
			"if !x.cfg.sink || x.kept ||", "if true || x.kept ||", "TestAnAnswerForASinkIsKeptBeforeItsClientHasIt|TestEveryAnswerReachesTheSinkThoughTheGatewayIsKilled"),
		gateway("the last part of a long answer does not wait", "stream.go",
			"s.left -= int64(len(part)); s.left == 0 {", "s.left -= int64(len(part)); false {", "TestTheEndOfALongAnswerIsWrittenWhenItsRecordStands"),
		gateway("the end of the chunks does not wait", "stream.go",
			"\t\t\ts.keep()\n\t\t\ts.pass(s.held)", "\t\t\ts.pass(s.held)", "TestAnAnswerForASinkIsKeptBeforeItsClientHasIt|TestAnAnswerThatCannotBeKeptIsNotGiven"),
		gateway("a client of HTTP/1.0 has all parts at once", "stream.go",
			"lag := x.cfg.sink &&", "lag := false &&", "TestAnAnswerThatCannotBeKeptIsNotGiven"),
		gateway("requests come in when too much waits", "refuse.go",
			"case cfg.sink && p.writer.Full():", "case false:", "TestRequestsAreRefusedWhileTooMuchWaitsForTheSink"),
		gateway("a stop leaves the last answers", "main.go",
			"\tg.ctl.outlet.drain(until)\n", "\t_ = until\n\tg.ctl.outlet.stop()\n", "TestAStoppedGatewayHasSentAllOrKeepsIt"),
		gateway("numbers that were sent come again", "main.go",
			"capture.Options{After: sent}", "capture.Options{After: sent - sent}", "TestAPowerCutThatTookRecordsHidesNoneFromTheSink"),
		capture("a commit returns before the flush", "writer.go",
			"\tcase err := <-e.stands:\n\t\treturn err\n", "\tdefault:\n\t\treturn nil\n", "TestACommittedEntryIsReadableAtOnceAndStaysTheCallers|TestACommitToAFailingDiskIsAnError"),
		capture("a commit finds the queue full and drops", "writer.go",
			"\tcase <-ctx.Done():\n\t\tw.queued.Add(-e.size())\n\t\treturn ctx.Err()\n", "\tdefault:\n\t\te.stands <- nil\n\t\treturn nil\n", "TestACommitWaitsForRoomAndEndsWithItsContext"),
		capture("a failed write is told to nobody", "writer.go",
			"\t\tw.report(err)\n\t\tw.tell(err)\n\t\treturn\n\t}\n\tw.seq.Add(1)", "\t\tw.report(err)\n\t\tw.tell(nil)\n\t\treturn\n\t}\n\tw.seq.Add(1)", "TestACommitToAFailingDiskIsAnError"),
		capture("unsent segments are removed", "rotate.go",
			"sum > total && w.sent(0, kept)", "sum > total && w.sent(0, nothingOwed)", "TestWhatASinkHasNotTakenStaysHoweverMuchItIs"),
		capture("two sinks write into one end of a file", "sink_file.go",
			"if err := lock.Lock(); err != nil {", "if err := error(nil); err != nil {", "TestSinksThatShareAFileLoseNothing"),
	}
}
