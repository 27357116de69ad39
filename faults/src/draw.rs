//! Schedules drawn from a seed.
