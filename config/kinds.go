package config

// AllKinds is the list of kinds. A new kind is one file and one line here.
func AllKinds() (Kinds, error) {
	return newKinds([]Kind{
		datasetKind(),
		checkKind(),
		trainingKind(),
		validationKind(),
		deploymentKind(),
		monitorKind(),
		notifierKind(),
		batchInferenceKind(),
		packageKind(),
		manifestKind(),
		pipelineKind(),
	})
}
