//! The replicated store: WAL, snapshots, MVCC tree, watch, leases, and a client over several members.
