//! The simulated world of a trial: hosts, faults, observation.
