package main

// ofClaims takes away what keeps a plan from changing a cluster when it reads the data of a claim, and what lets a search there end.
func ofClaims() []mutation {
	return []mutation{
		{
			Name: "claims: a plan may write to the volume", File: "providers/pods/claim_job.go",
			Old:     "ClaimName: r.claim.Name, ReadOnly: true}",
			New:     "ClaimName: r.claim.Name}",
			Package: "./providers/pods", Test: "TestThePodThatReadsAClaimCanChangeNothing",
		},
		{
			Name: "claims: a plan leaves its Job", File: "providers/pods/claim.go",
			Old:     "if gone := client.Delete(away, made.Ref, kube.DeleteOptions{}); err == nil {",
			New:     "if gone := away.Err(); err == nil {",
			Package: "./providers/pods", Test: "TestAClaimIsReadOnceAndNothingStays",
		},
		{
			Name: "pods: a search goes after its candidates", File: "providers/pods/executor.go",
			Old:     "len(k.placed.Before) == 0 && !k.placed.Search",
			New:     "len(k.placed.Before) == 0",
			Package: "./providers/pods", Test: "TestASearchGoesBeforeItsCandidatesAndIsOverWhenTheyAreGone",
		},
		{
			Name: "claims: a claim without a volume gets one", File: "providers/pods/claim.go",
			Old:     "case claim.Status.Phase != corev1.ClaimBound:",
			New:     "case false:",
			Package: "./providers/pods", Test: "TestWhatStandsInTheWayOfAClaimIsOneLine",
		},
		{
			Name: "claims: other data than was planned is stored", File: "internal/pod/scan.go",
			Old:     "if d.Hex != t.Want {",
			New:     "if false {",
			Package: "./internal/pod", Test: "TestAVolumeThatMovedIsNotStored",
		},
		{
			Name: "cluster: a look at one object lists all", File: "internal/kube/reads.go",
			Old:     "if r.alone && len(members) <= few {",
			New:     "if false {",
			Package: "./internal/kube", Test: "TestALookThatNobodySharesAsksForALittleByName",
		},
	}
}
