//! Seaworthy: the roles of the orchestrator wired into a process.
