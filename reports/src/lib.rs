//! A record in; a table, JSON out.
