//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Seaworthy, a container orchestrator. Today: its replicated store, and a small client for it.
#[derive(Debug, Parser)]
#[command(name = "seaworthy", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Form of the logs on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels per target as in RUST_LOG.
    #[arg(long, global = true, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

const EXAMPLES: &str = "\
Examples:
  A store of one member, and a first key:
    seaworthy store --name s1 --data-dir ./s1 --member s1=127.0.0.1:2380,127.0.0.1:2379
    seaworthy kv put hello world
    seaworthy kv get hello

  A store of three members: see `seaworthy store --help`.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a member of the store.
    #[command(after_help = STORE_EXAMPLES)]
    Store(StoreArgs),
    /// Read, write and watch keys, and ask members how they are.
    #[command(after_help = KV_EXAMPLES)]
    Kv(KvArgs),
}

const STORE_EXAMPLES: &str = "\
Every member is told of every member, in the same order. Its own entry says where it listens.

Examples:
  Three members on one machine, each in a terminal of its own:
    M=\"--member s1=127.0.0.1:2380,127.0.0.1:2379
       --member s2=127.0.0.1:2480,127.0.0.1:2479
       --member s3=127.0.0.1:2580,127.0.0.1:2579\"
    seaworthy store --name s1 --data-dir ./s1 $M
    seaworthy store --name s2 --data-dir ./s2 $M
    seaworthy store --name s3 --data-dir ./s3 $M

  A member behind an address that is not its own, with logs for machines:
    seaworthy store --name s1 --data-dir /var/lib/seaworthy --listen-peer 0.0.0.0:2380 \\
      --listen-client 0.0.0.0:2379 --member 1:s1=a.example:2380,a.example:2379 \\
      --member 2:s2=b.example:2380,b.example:2379 --member 3:s3=c.example:2380,c.example:2379 \\
      --log-format json

Ends with 0 after SIGTERM or Ctrl-C, with 2 if the arguments are wrong, and with 1 if it cannot go on.";

#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Which of the members this one is.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Directory of this member's log and snapshots; created if absent.
    #[arg(long, value_name = "DIR")]
    pub data_dir: String,
    /// A member of the cluster, this one included: where members reach it, and where clients do. Members are numbered in
    /// this order, or as they say.
    #[arg(long = "member", value_name = "[ID:]NAME=HOST:PORT,HOST:PORT", required = true)]
    pub members: Vec<String>,
    /// Where to listen for members, if not at this member's own address.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_peer: Option<String>,
    /// Where to listen for clients, if not at this member's own address.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_client: Option<String>,
    /// Entries applied from one snapshot to the next.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub snapshot_entries: u64,
    /// Bytes of keys and values above which only what frees space is taken.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 30)]
    pub quota_bytes: u64,
}

const KV_EXAMPLES: &str = "\
Examples:
  seaworthy kv --endpoints 127.0.0.1:2379,127.0.0.1:2479,127.0.0.1:2579 put color blue
  seaworthy kv get color
  seaworthy kv get --prefix /registry/
  seaworthy kv watch --prefix /registry/ --revision 42
  seaworthy kv status";

#[derive(Debug, Args)]
pub struct KvArgs {
    /// Where members listen for clients.
    #[arg(long, global = true, value_delimiter = ',', default_value = "127.0.0.1:2379", value_name = "HOST:PORT,...")]
    pub endpoints: Vec<String>,
    #[command(subcommand)]
    pub command: KvCommand,
}

#[derive(Debug, Subcommand)]
pub enum KvCommand {
    /// Set a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
    },
    /// Read a key, or all that begin with it.
    Get {
        /// Which.
        key: String,
        /// All keys that begin with KEY.
        #[arg(long)]
        prefix: bool,
        /// As of this revision; 0 for now.
        #[arg(long, default_value_t = 0)]
        revision: i64,
    },
    /// Remove a key, or all that begin with it.
    Delete {
        /// Which.
        key: String,
        /// All keys that begin with KEY.
        #[arg(long)]
        prefix: bool,
    },
    /// Print changes as they happen, until interrupted.
    Watch {
        /// Which key.
        key: String,
        /// All keys that begin with KEY.
        #[arg(long)]
        prefix: bool,
        /// From this revision on; 0 for from now on.
        #[arg(long, default_value_t = 0)]
        revision: i64,
    },
    /// How each member is.
    Status,
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}
