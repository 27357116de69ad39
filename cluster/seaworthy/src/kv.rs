//! A small client on the command line.

use crate::args::{KvArgs, KvCommand};
use crate::say;
use anyhow::{Result, bail};
use bytes::Bytes;
use store::{
    Client, ClientConfig, DeleteRangeRequest, Event, EventKind, KeyValue, PutRequest, RangeRequest, WatchRequest,
    WatchResponse,
};

/// Runs one command and prints what it gives: results on standard output, one per line.
pub async fn run(args: KvArgs) -> Result<()> {
    let client = Client::new(args.endpoints.clone(), ClientConfig::default());
    match args.command {
        KvCommand::Put { key, value } => {
            let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
            let response = client.put(request).await?;
            say(&format!("revision {}", response.header.revision))
        }
        KvCommand::Get { key, prefix, revision } => {
            let (key, range_end) = range(key, prefix);
            let request = RangeRequest { key, range_end, revision, ..RangeRequest::default() };
            for kv in client.range(request).await?.kvs {
                say(&show(&kv))?;
            }
            Ok(())
        }
        KvCommand::Delete { key, prefix } => {
            let (key, range_end) = range(key, prefix);
            let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
            let response = client.delete_range(request).await?;
            say(&format!("{} deleted, revision {}", response.deleted, response.header.revision))
        }
        KvCommand::Watch { key, prefix, revision } => {
            let (key, range_end) = range(key, prefix);
            let progress_notify = true;
            let request =
                WatchRequest { key, range_end, start_revision: revision, progress_notify, ..WatchRequest::default() };
            watch(&client, request).await
        }
        KvCommand::Status => status(&client, &args.endpoints).await,
    }
}

/// The key alone, or all that begin with it.
fn range(key: String, prefix: bool) -> (Bytes, Bytes) {
    let key = Bytes::from(key);
    let end = if prefix { after_prefix(&key) } else { Bytes::new() };
    // All keys there are begin with nothing, but a key must not be empty.
    if key.is_empty() && prefix { (Bytes::from_static(&[0]), Bytes::from_static(&[0])) } else { (key, end) }
}

/// The first key after all that begin with `prefix`; the single byte 0, which means no end, if there is none.
fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

async fn watch(client: &Client, request: WatchRequest) -> Result<()> {
    let mut watch = client.resuming_watch(request);
    loop {
        match watch.next().await? {
            WatchResponse::Events { events, .. } => {
                for event in events {
                    say(&show_event(&event))?;
                }
            }
            WatchResponse::Progress { .. } => {}
            WatchResponse::Canceled { compact_revision, reason } => {
                bail!("the watch ended: {reason} (first revision left: {compact_revision})")
            }
        }
    }
}

async fn status(client: &Client, endpoints: &[String]) -> Result<()> {
    let mut down = 0;
    for endpoint in endpoints {
        match client.status(endpoint).await {
            Ok(status) => {
                let header = status.header;
                let role = match status.leader {
                    0 => "no leader".to_owned(),
                    leader if leader == header.member => "leader".to_owned(),
                    leader => format!("follows {leader}"),
                };
                say(&format!(
                    "{endpoint}  member {}  {role}  term {}  applied {}  revision {}  compacted {}  {} bytes",
                    header.member,
                    header.term,
                    status.applied,
                    header.revision,
                    status.compacted_revision,
                    status.bytes
                ))?;
            }
            Err(error) => {
                down += 1;
                say(&format!("{endpoint}  {error}"))?;
            }
        }
    }
    if down > 0 {
        bail!("{down} of {} members did not answer", endpoints.len());
    }
    Ok(())
}

fn show(kv: &KeyValue) -> String {
    format!("{}\t{}\trevision {}", text(&kv.key), text(&kv.value), kv.mod_revision)
}

fn show_event(event: &Event) -> String {
    match event.kind {
        EventKind::Put => format!("put\t{}", show(&event.kv)),
        EventKind::Delete => format!("delete\t{}\trevision {}", text(&event.kv.key), event.kv.mod_revision),
    }
}

/// What is not text is escaped.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_what_begins_with_it_and_nothing_else() {
        assert_eq!(after_prefix(b"a/"), Bytes::from_static(b"a0"));
        assert_eq!(after_prefix(b"a\xff"), Bytes::from_static(b"b"));
        assert_eq!(after_prefix(b"\xff\xff"), Bytes::from_static(&[0]));
        assert_eq!(range(String::new(), true).0, Bytes::from_static(&[0]));
        assert_eq!(range("k".to_owned(), false), (Bytes::from_static(b"k"), Bytes::new()));
    }
}
