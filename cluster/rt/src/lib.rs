//! The swappable layer: network, time, tasks, randomness and disk, real and simulated.
