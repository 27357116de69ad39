//! A cluster of real processes on this machine, which a trial may kill.
