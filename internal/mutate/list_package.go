package main

// ofPackages takes away what keeps images the same, tags where they belong, and code that came with a model from running unasked.
func ofPackages() []mutation {
	in := func(pkg, name, file, old, new, test string) mutation {
		return mutation{Name: "package: " + name, File: pkg + "/" + file, Old: old, New: new, Package: "./" + pkg, Test: test}
	}
	const driver, format, client = "providers/oci", "internal/modelformat", "internal/oci"
	return []mutation{
		in(driver, "a model that runs code needs no trust", "model.go", "if !trust {", "if false {", "TestAModelThatRunsCodeNeedsTrust"),
		in(driver, "another model under the reference is packed", "model.go", "if have != want.Hex() {", "if false {", "TestAModelComesOutOfTheRegistry"),
		in(driver, "code that moved since the plan is packed", "sources.go", "want != \"\" && want != have {", "false {", "TestCodeThatMovedSinceThePlanIsNotPacked"),
		in(driver, "an adopted operation begins", "op.go", "if !began {", "if false && !began {", "TestTheDriverKeepsTheContract"),
		in(driver, "an operation forgets what it made", "package.go", "\treturn made, o.done(made)\n", "\treturn made, nil\n", "TestAnOperationIsRemembered"),
		in(driver, "a moved tag is not seen", "status.go", "if now == r.Digest {", "if true {", "TestReadSeesWhatHappenedInTheRegistry"),
		in(driver, "an image that is gone is there", "status.go", "if errors.Is(err, oci.ErrNotFound) {", "if false {", "TestReadSeesWhatHappenedInTheRegistry"),
		in(driver, "old tags stay", "package.go", "\twas.Tags = drop\n", "\twas.Tags = drop[:0]\n", "TestTagsThatAreNotWantedAnyMoreGo"),
		in(driver, "hashes of secrets go into an image", "package.go", "if !req.Adopt {\n\t\treturn nil\n\t}\n\tfor", "if true {\n\t\treturn nil\n\t}\n\tfor", "TestErrorsSayWhatFailsAndWhatToDo"),
		in(driver, "a model is sent although it is there", "build.go", "l.From = spec.Model.URI", "l.From = \"\"", "TestAModelThatTheRegistryHasIsNotSentAgain"),
		in(client, "a tag of somebody else goes", "untag.go", "if err != nil || now != digest {", "if err != nil || now == \"\" {", "TestATagGoesOnlyWhileItPointsToTheImage"),
		in(client, "an image of another platform will do", "archive.go", "have == nil || have.OS != want.OS || have.Architecture != want.Architecture", "have == nil", "TestAnArchiveIsABase"),
		in(format, "a file can be two things", "detect.go", "return d.pickle(in, true)", "return nil", "TestFormatsAreToldApartByTheirBytes"),
		in(format, "a cut archive will do", "torch.go", "if at < 0 || len(tail)-at < end {", "if false {", "TestAFileThatIsNotWhatItClaimsIsAnError"),
		in(format, "links are followed", "detect.go", "if !e.Type().IsRegular() {", "if false {", "TestLinksAreRefused"),
		in(format, "names by the memo are lost", "pickle_stack.go", "s.memo[uint64(len(s.memo))] = s.top()", "s.memo[uint64(len(s.memo))] = nil", "TestAPickleSaysWhatItImports"),
		in(format, "arrays inside of a pickle are taken for opcodes", "pickle_stack.go", "return s.skip(size)\n}\n\n// inner", "return s.skip(size - size)\n}\n\n// inner", "TestRealModelsOfScikitLearnAreReadToTheirEnd"),
		in(format, "a record of any size is read", "torch.go", "f.UncompressedSize64 > maxZipPickle", "false", "TestAFileThatIsNotWhatItClaimsIsAnError"),
		in("planner", "a secret under a key with dots is shown", "show.go", "case inside:\n\t\t\t\tmaskAt(v, rest, with)", "case inside && !strings.Contains(key, \".\"):\n\t\t\t\tmaskAt(v, rest, with)", "TestWhatASecretOfAManifestHoldsIsKeptAsAHash"),
		in("config", "what a Secret holds is shown", "manifest.go", "if id.kind == \"Secret\" && id.group == \"\" {", "if false {", "TestAManifestIsTakenApart"),
	}
}
