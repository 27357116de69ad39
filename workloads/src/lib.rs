//! What clients do during a trial, as data from a seed.
