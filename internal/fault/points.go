package fault

// The points, in the order in which a first commit, an apply's lease, a backup,
// a step and a daemon pass them. A durable step has one on each side.
const (
	StateCreateBefore       = "state.create.before"
	StateCreateRename       = "state.create.rename"
	StateCreateAfter        = "state.create.after"
	StateCommitBefore       = "state.commit.before"
	StateCommitSync         = "state.commit.sync" // with :error, the commit fails as if fsync had
	StateCommitAfter        = "state.commit.after"
	StateSerialBefore       = "state.serial.before"
	StateSerialAfter        = "state.serial.after"
	StateLeaseAcquired      = "state.lease.acquired"
	StateBackupBeforeRename = "state.backup.before_rename"
	StateBackupAfterRename  = "state.backup.after_rename"
	StateRestoreBefore      = "state.restore.before_rename"
	StateRestoreAfter       = "state.restore.after_rename"

	EngineIntentBefore       = "engine.intent.before"
	EngineIntentAfter        = "engine.intent.after"
	EngineActed              = "engine.acted"
	EngineDoneBefore         = "engine.done.before"
	EngineDoneAfter          = "engine.done.after"
	EngineDeleteIntentBefore = "engine.delete.intent.before"
	EngineDeleteIntentAfter  = "engine.delete.intent.after"
	EngineDeleteActed        = "engine.delete.acted"
	EngineSettleBefore       = "engine.settle.before"

	DaemonKeepBefore    = "daemon.keep.before" // of what outlives the daemon
	DaemonKeepAfter     = "daemon.keep.after"
	DaemonFilesListed   = "daemon.files.listed" // the files of a commit are about to be written
	DaemonFilesWritten  = "daemon.files.written"
	DaemonApproveBefore = "daemon.approve.before"
	DaemonApproveAfter  = "daemon.approve.after"
)

// Points lists every name, so that tests can visit each and compare the list
// with the calls in the source.
func Points() []string {
	return []string{
		StateCreateBefore, StateCreateRename, StateCreateAfter,
		StateCommitBefore, StateCommitSync, StateCommitAfter,
		StateSerialBefore, StateSerialAfter, StateLeaseAcquired,
		StateBackupBeforeRename, StateBackupAfterRename,
		StateRestoreBefore, StateRestoreAfter,
		EngineIntentBefore, EngineIntentAfter, EngineActed, EngineDoneBefore, EngineDoneAfter,
		EngineDeleteIntentBefore, EngineDeleteIntentAfter, EngineDeleteActed, EngineSettleBefore,
		DaemonKeepBefore, DaemonKeepAfter, DaemonFilesListed, DaemonFilesWritten, DaemonApproveBefore, DaemonApproveAfter,
	}
}
