package main

func ofRunner() []mutation {
	return []mutation{
		{
			Name: "runner: two runners hold one lock", File: "internal/runner/main.go",
			Old:     "ok, err := l.TryLock()",
			New:     "ok, err := true, error(nil)",
			Package: "./internal/runner", Test: "TestManyRunnersOnOneFolderRunTheCommandOnce|TestManyStartsRunTheCommandOnce",
		},
		{
			Name: "runner: a run that began begins again", File: "internal/runner/main.go",
			Old:     "for _, name := range []string{startedFile, statusFile} {",
			New:     "for _, name := range []string{} {",
			Package: "./internal/runner", Test: "TestAPowerCutBetweenMarkerAndCommandIsLost|TestManyRunnersOnOneFolderRunTheCommandOnce|TestARunnerKilledAtAnyMomentRunsTheCommandAtMostOnce",
		},
		{
			Name: "runner: a cancelled run starts", File: "internal/runner/main.go",
			Old:     "if asked, err := f.has(cancelFile); err != nil || asked {",
			New:     "if asked, err := f.has(cancelFile); err != nil || asked && err != nil {",
			Package: "./internal/runner", Test: "TestARunnerThatFindsACancelRunsNothing",
		},
		{
			Name: "runner: metrics that are no numbers count", File: "internal/runner/metrics.go",
			Old:     "if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {",
			New:     "if err != nil && !math.IsInf(v, 0) && !math.IsNaN(v) {",
			Package: "./internal/runner", Test: "TestMetricsAreFiniteNumbersOrTheErrorNamesTheKey",
		},
		{
			Name: "runner: a command may change its inputs", File: "internal/runner/verdict.go",
			Old:     "st.Changed = append(st.Changed, g.path)",
			New:     "continue",
			Package: "./internal/runner", Test: "TestOutcomes",
		},
		{
			Name: "runner: changed data stays under its old digest", File: "providers/runs/op.go",
			Old:     "return st, o.env.discard(st.Changed)",
			New:     "return st, nil",
			Package: "./providers/runs", Test: "TestDataThatACommandChangedIsFrozenAnew",
		},
	}
}

func ofGateway() []mutation {
	return []mutation{
		{
			Name: "gateway: bodies have no limit", File: "internal/gateway/proxy.go",
			Old:     "limit := x.cfg.limits.MaxBody",
			New:     "limit := x.cfg.limits.MaxBody * 1000",
			Package: "./internal/gateway", Test: "TestN7TooMuchIsRefused|TestN7ALongBodyStreamsAndIsCutAtTheLimit",
		},
		{
			Name: "gateway: a bad canary is promoted", File: "internal/gateway/rollout.go",
			Old:     "return share > allowed",
			New:     "return share > 10*allowed",
			Package: "./internal/gateway", Test: "TestEachSituationHasItsMove|TestNoHistoryPromotesABadCandidate|TestTheShareIsExactForSmallCounts",
		},
		{
			Name: "gateway: a verdict on too few requests", File: "internal/gateway/rollout.go",
			Old:     "if t.Requests < int64(a.MinRequests) {",
			New:     "if false {",
			Package: "./internal/gateway", Test: "TestEachSituationHasItsMove",
		},
		{
			Name: "gateway: an aborted version comes back", File: "internal/gateway/controller_step.go",
			Old:     "if c.matches(c.live.Quarantined[i], key) {",
			New:     "if false {",
			Package: "./internal/gateway", Test: "TestABadCanaryIsAbortedAndQuarantined|TestAnAbortedRolloutStaysAbortedAfterARestart",
		},
		{
			Name: "gateway: the last captured answer waits for a tick", File: "internal/gateway/capture/writer.go",
			Old:     "if len(w.queue) == 0 || len(w.waiting)",
			New:     "if len(w.waiting) > 0 && len(w.queue) == 0 || len(w.waiting)",
			Package: "./internal/gateway/capture", Test: "TestTheLastEntryWaitsForNoOther",
		},
		{
			Name: "gateway: the capture queue has no bound", File: "internal/gateway/capture/writer.go",
			Old:     "w.queued.Add(e.size()) <= queueBytes {",
			New:     "w.queued.Add(e.size()) >= 0 {",
			Package: "./internal/gateway/capture", Test: "TestAFullQueueDropsAndCounts",
		},
		{
			Name: "gateway: slow clients are never let go", File: "internal/gateway/server.go",
			Old:     "ReadHeaderTimeout: 10 * time.Second,\n",
			New:     "",
			Package: "./internal/gateway", Test: "TestSlowHeadersHaveALimit",
		},
		{
			Name: "gateway: readers that stall are never let go", File: "internal/gateway/stream.go",
			Old:     "err := s.rc.SetWriteDeadline(time.Now().Add(s.x.cfg.limits.Timeout))",
			New:     "err := s.rc.SetWriteDeadline(time.Now().Add(time.Hour))",
			Package: "./internal/gateway", Test: "TestN17ReadersThatStallAreLetGo",
		},
		{
			Name: "gateway: clients take every descriptor", File: "internal/gateway/door.go",
			Old:     "descriptors-min(2*descriptors/3, 2*DefaultMaxInFlight)",
			New:     "1000*descriptors",
			Package: "./internal/gateway", Test: "TestN5SlowClientsLeaveFilesForTheServers",
		},
		{
			Name: "gateway: who sends too much hears no word of it", File: "internal/gateway/refuse.go",
			Old:     "if status == http.StatusRequestEntityTooLarge {",
			New:     "if false {",
			Package: "./internal/gateway", Test: "TestN7ALongBodyStreamsAndIsCutAtTheLimit",
		},
	}
}

func ofInputs() []mutation {
	return []mutation{
		{
			Name: "tabular: decompression has no limit", File: "internal/tabular/file.go",
			Old:     "if g.limit > 0 && g.out > ratioFloor",
			New:     "if false && g.limit > 0 && g.out > ratioFloor",
			Package: "./internal/tabular", Test: "TestD16CompressedFiles|TestD7PageBombs",
		},
		{
			Name: "tabular: rows have no limit", File: "internal/tabular/reader.go",
			Old:     "if r.rows > r.limits.Rows {",
			New:     "if false {",
			Package: "./internal/tabular", Test: "TestRowsHaveALimit",
		},
		{
			Name: "tabular: columns of CSV have no limit", File: "internal/tabular/csv.go",
			Old:     "if len(names) > limits.Columns {",
			New:     "if false {",
			Package: "./internal/tabular", Test: "TestD4AMillionColumns",
		},
		{
			Name: "tabular: commas of a row have no limit", File: "internal/tabular/text.go",
			Old:     "if g.commas++; g.commas >= g.limits.Columns {",
			New:     "if false {",
			Package: "./internal/tabular", Test: "TestD4AMillionColumns",
		},
		{
			Name: "tabular: columns of Parquet have no limit", File: "internal/tabular/parquet_meta.go",
			Old:     "case len(w.leaves) == w.limits.Columns:",
			New:     "case false:",
			Package: "./internal/tabular", Test: "TestD4AMillionColumns",
		},
		{
			Name: "tabular: a row of CSV has no limit", File: "internal/tabular/text.go",
			Old:     "if held > int64(g.limits.RowBytes)+textBuffer {",
			New:     "if held > 8*int64(g.limits.RowBytes)+textBuffer {",
			Package: "./internal/tabular", Test: "TestD8UnclosedQuoteBeforeFiveGigabytes|TestD9FieldOfAGigabyte",
		},
		{
			Name: "parser: depth has no limit", File: "config/internal/syntax/quick.go",
			Old:     "case len(s.frames) > s.lim.Depth:",
			New:     "case false:",
			Package: "./config", Test: "TestH1ParenthesesNestedDeeperThanTheParserSurvives",
		},
		{
			Name: "parser: prefix operators have no limit", File: "config/internal/syntax/quick.go",
			Old:     "case s.prefix > s.lim.PrefixRun:",
			New:     "case false:",
			Package: "./config", Test: "TestH3PrefixOperators",
		},
		{
			Name: "parser: chains have no limit", File: "config/internal/syntax/quick.go",
			Old:     "case s.chain > s.lim.Chain:",
			New:     "case false:",
			Package: "./config", Test: "TestH4ChainsOfOperators",
		},
		{
			Name: "parser: tokens have no limit", File: "config/internal/syntax/quick.go",
			Old:     "case s.tokens > s.lim.Tokens:",
			New:     "case false:",
			Package: "./config", Test: "TestH18Sizes",
		},
		{
			Name: "parser: numbers have no limit", File: "config/internal/syntax/quick.go",
			Old:     "if big(s.src[start:s.i], s.lim.Exponent) {",
			New:     "if big(s.src[start:s.i], s.lim.Exponent) && s.i < start {",
			Package: "./config", Test: "TestH7AnExponentThatTakesMinutesToPrint",
		},
		{
			Name: "language: an expression reads the project's key", File: "config/load.go",
			Old:     `strings.EqualFold(first, ".ml") &&`,
			New:     `strings.EqualFold(first, ".never") &&`,
			Package: "./config", Test: "TestNoExpressionReadsTheProjectsKey",
		},
		{
			Name: "language: any host is trusted over ssh", File: "config/gitauth.go",
			Old:     "auth.HostKeyCallback, auth.HostKeyAlgorithms = db.HostKeyCallback(), db.",
			New:     "auth.HostKeyCallback, auth.HostKeyAlgorithms = ssh.InsecureIgnoreHostKey(), db.",
			Package: "./config", Test: "TestSSHFailsWithTheRemedyAndNeverAsks",
		},
		{
			Name: "parser: files have no limit", File: "config/internal/syntax/scan.go",
			Old:     "if len(src) > lim.Bytes {",
			New:     "if false {",
			Package: "./config", Test: "TestH18Sizes",
		},
		{
			Name: "parser: hidden characters are taken", File: "config/internal/syntax/scan.go",
			Old:     "if i := hidden(src); i >= 0 {",
			New:     "if i := hidden(src); i >= len(src) {",
			Package: "./config", Test: "TestH12BytesThatAreNotText",
		},
	}
}

func ofVerdicts() []mutation {
	return []mutation{
		{
			Name: "verdict: a missing metric passes", File: "providers/runs/gate.go",
			Old:     `[]resource.Finding{{Name: name, Rule: "missing", Path: t.Metric,`,
			New:     `[]resource.Finding{{OK: true, Name: name, Rule: "missing", Path: t.Metric,`,
			Package: "./providers/runs", Test: "TestAGateHoldsThresholdsAgainstTheMetrics|TestMetricsThatAreNotWrittenCloseTheGate",
		},
		{
			Name: "verdict: a bound is off by a little", File: "providers/runs/gate.go",
			Old:     "value >= *t.Min,",
			New:     "value >= *t.Min-0.001,",
			Package: "./cmd/ml", Test: "TestScripts/of/gate",
		},
		{
			Name: "verdict: a regression passes", File: "providers/runs/gate.go",
			Old:     "f.OK = value >= limit-tolerance",
			New:     "f.OK = value >= limit-10",
			Package: "./providers/runs", Test: "TestAGateHoldsThresholdsAgainstTheMetrics|TestARegressionIsMeasuredOnTheSameInputs",
		},
		{
			Name: "exit code: a bad verdict is a success", File: "cmd/ml/apply.go",
			Old:     "return exitCode{code: exitVerdict}",
			New:     "return nil",
			Package: "./cmd/ml", Test: "TestScripts/of/verdict",
		},
		{
			Name: "approval: nobody there is a yes", File: "cmd/ml/apply.go",
			Old:     "\t\treturn errNobody\n",
			New:     "\t\treturn nil\n",
			Package: "./cmd/ml", Test: "TestScripts/of/misc",
		},
	}
}
