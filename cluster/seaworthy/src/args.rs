//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use store::Format;

/// Seaworthy, a container orchestrator with the API of Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "seaworthy", version = crate::version::TEXT.as_str(), propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Form of the logs on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels per target as in RUST_LOG. [default: warn for `up`, else info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  A whole cluster in one process, for kubectl:
    seaworthy up
    kubectl --kubeconfig ~/.local/share/seaworthy/kubeconfig get nodes

  A store of one member, and a first key:
    seaworthy store --name s1 --data-dir ./s1 --member s1=127.0.0.1:2380,127.0.0.1:2379
    seaworthy kv put hello world
    seaworthy kv get hello

  A store of three members: see `seaworthy store --help`.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster in this process: store, control plane and hollow nodes.
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// Run a server: a member of the store with the control plane on it, one of up to seven.
    #[command(after_help = SERVER_EXAMPLES)]
    Server(ServerArgs),
    /// Run a node's agent, with hollow containers.
    #[command(after_help = AGENT_EXAMPLES)]
    Agent(AgentArgs),
    /// Print a kubeconfig for somebody, with a certificate that is issued now.
    #[command(after_help = KUBECONFIG_EXAMPLES)]
    Kubeconfig(KubeconfigArgs),
    /// Run a member of the store alone.
    #[command(after_help = STORE_EXAMPLES)]
    Store(StoreArgs),
    /// Read, write and watch keys, and ask members how they are.
    #[command(after_help = KV_EXAMPLES)]
    Kv(KvArgs),
    /// Print a script by which a shell completes this program's commands and flags.
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command: for packages.
    #[command(hide = true)]
    Man {
        /// A directory that exists.
        dir: std::path::PathBuf,
    },
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  seaworthy completion bash > ~/.local/share/bash-completion/completions/seaworthy
  seaworthy completion fish > ~/.config/fish/completions/seaworthy.fish";

const UP_EXAMPLES: &str = "\
Hollow nodes stand for machines: their containers are programs in memory that listen on an address of their own, answer
HTTP and probes, and end as they are told to. An image's name says what it does (hollow/job, hollow/crash, ...); any other
is a web server. On Linux pods are reached at their addresses from this machine, without any set-up.

Everything is kept in the data directory: stopped in any way, the same command goes on where it was.

Examples:
  A cluster with one node, and what to do with it:
    seaworthy up
    export KUBECONFIG=~/.local/share/seaworthy/kubeconfig
    kubectl create deployment hello --image=nginx --replicas=3

  Ten nodes, in a directory of its own, beside another cluster on the same machine:
    seaworthy up --hollow-nodes 10 --data-dir ./big --listen 127.0.0.1:7443 --pod-cidr 127.32.0.0/11

  For clients on other machines (whoever has the kubeconfig may do anything):
    seaworthy up --listen 0.0.0.0:6443 --name cluster.example

Ends with 0 after SIGTERM or Ctrl-C, with 2 if the arguments are wrong, and with 1 if it cannot go on.";

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Directory of everything that is to last; created if absent. [default: seaworthy in $XDG_DATA_HOME, which is
    /// ~/.local/share unless set]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the API server listens; port 0 takes any that is free.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:6443")]
    pub listen: std::net::SocketAddr,
    /// A further name or address by which clients reach the API server; may be given more than once.
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// How many hollow nodes there are.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub hollow_nodes: u32,
    /// Addresses of hollow nodes and their pods, in 127.0.0.0/8.
    #[arg(long, value_name = "RANGE", default_value_t)]
    pub pod_cidr: seaworthy::PodRange,
    /// Where the kubeconfig is written. A file that this program did not write is left alone. [default: kubeconfig in the
    /// data directory]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,
}

const SERVER_EXAMPLES: &str = "\
Every server is told of every server, in the same order. The first one of all makes the cluster's authority and the tokens
by which others join; they are in its data directory. Servers know each other by certificates. A file with settings has the
flags' names: name, data-dir, server, listen, listen-peer, tls-name, pod-cidr, token-file, store-format,
max-requests-inflight.

Examples:
  Three servers on one machine, each in a terminal of its own:
    S=\"--server s1=127.0.0.1:2380,127.0.0.1:6443
       --server s2=127.0.0.1:2480,127.0.0.1:6444
       --server s3=127.0.0.1:2580,127.0.0.1:6445\"
    seaworthy server --name s1 --data-dir ./s1 $S
    seaworthy server --name s2 --data-dir ./s2 $S --token-file ./s1/server-token
    seaworthy server --name s3 --data-dir ./s3 $S --token-file ./s1/server-token
    kubectl --kubeconfig ./s1/kubeconfig get nodes

  From a file, with the token in the environment:
    SEAWORTHY_TOKEN=sw1.server.... seaworthy server --config /etc/seaworthy/server.toml

Ends with 0 after SIGTERM or Ctrl-C, with 2 if the arguments are wrong, and with 1 if it cannot go on.";

#[derive(Debug, Default, Args)]
pub struct ServerArgs {
    /// A file with settings, in TOML. What is on the command line comes before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Which of the servers this one is.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Directory of everything that is to last; created if absent. [default: seaworthy-server in $XDG_DATA_HOME]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// A server of the cluster, this one included: where members of the store reach it, and where clients do.
    #[arg(long = "server", value_name = "NAME=HOST:PORT,HOST:PORT")]
    pub servers: Vec<String>,
    /// Where to listen for clients, if not where they reach this server.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where to listen for members of the store, if not where they reach this server.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_peer: Option<String>,
    /// A further name or address by which clients reach this server; may be given more than once.
    #[arg(long = "tls-name", value_name = "NAME")]
    pub tls_names: Vec<String>,
    /// Addresses of hollow nodes' pods, in 127.0.0.0/8; the same for all servers. [default: 127.64.0.0/10]
    #[arg(long, value_name = "RANGE")]
    pub pod_cidr: Option<String>,
    /// A file with the token for servers, to join those that are there. SEAWORTHY_TOKEN may hold the token itself.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Format up to which the store's log and snapshots are read and written. An older one than the latest keeps the way
    /// back to an older program open while servers are replaced one by one. [default: the latest]
    #[arg(long, value_name = "N")]
    pub store_format: Option<String>,
    /// About how many requests the API server answers at once, divided among priority levels as upstream's are; watches count
    /// until they have begun. [default: 600]
    #[arg(long, value_name = "N")]
    pub max_requests_inflight: Option<String>,
}

const AGENT_EXAMPLES: &str = "\
An agent joins by whichever server answers, is told of all of them, and goes on with another when one fails. A file with
settings has the flags' names: node, data-dir, server, ip, token-file.

Examples:
  A node of the servers that `seaworthy server --help` starts:
    seaworthy agent --node n1 --data-dir ./n1 --server 127.0.0.1:6443 --token-file ./s1/agent-token

Ends with 0 after SIGTERM or Ctrl-C, with 2 if the arguments are wrong, and with 1 if it cannot go on.";

#[derive(Debug, Default, Args)]
pub struct AgentArgs {
    /// A file with settings, in TOML. What is on the command line comes before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// The node's name.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Directory of everything that is to last; created if absent. [default: seaworthy-agent in $XDG_DATA_HOME]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where an API server is; may be given more than once.
    #[arg(long = "server", value_name = "HOST:PORT")]
    pub servers: Vec<String>,
    /// The node's address. [default: one in 127.127.0.0/16, made of its name]
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// A file with the token for agents, to join. SEAWORTHY_TOKEN may hold the token itself.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
}

const KUBECONFIG_EXAMPLES: &str = "\
The certificate is valid for a year and cannot be revoked. Of groups, system:masters may do anything; there are no finer
roles yet. The administrator's own kubeconfig is in the data directory already.

Examples:
  seaworthy kubeconfig --user ann --group developers > ann.kubeconfig
  seaworthy kubeconfig --data-dir ./s1 --server cluster.example:6443 --user ann --group system:masters";

#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Directory of `up` or of a server. [default: that of `up`]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the API server is reached.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6443")]
    pub server: String,
    /// The user's name.
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// The user's group.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
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
    /// Format up to which log and snapshots are read and written. An older one than the latest keeps the way back to an
    /// older program open while members are replaced one by one.
    #[arg(long, value_name = "N", default_value_t = Format::LATEST)]
    pub store_format: Format,
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
