//! Reading: one object, or a collection page by page from one revision.
//!
//! A page says in its continue token at which revision the list began and behind which key it ended, so that any server
//! can give the next one: the store's tree still has that revision unless it is compacted.

use crate::accept::Form;
use crate::core::Core;
use crate::facts::Selector;
use crate::keys;
use crate::model;
use crate::query::{AskedVersion, ListOptions, VersionMatch};
use crate::reply::Reply;
use crate::route::Target;
use crate::stored::{Stored, write};
use crate::table;
use api::{Resource, Status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::mvcc::Tree;
use store::{RangeRequest, RefusedKind};

/// What upstream says when the pages of a list are gone.
const PAGES_GONE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
     new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
     results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
     deleted between the time the first chunk was returned and now may show up in the list.";

/// What upstream says when a version is gone.
const VERSION_GONE: &str = "The resourceVersion for the provided list is too old.";

/// Where a page ended. Its form is upstream's; clients hand it back as it is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Token {
    v: String,
    /// The revision that is listed; −1 for the current one.
    rv: i64,
    /// The first key of the next page, behind the collection's own.
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its objects, in order of namespace and name.
    pub items: Vec<Stored>,
    /// The revision that is listed.
    pub revision: i64,
    /// Where the next one begins; empty after the last.
    pub token: String,
    /// How many more there are, if that is known.
    pub remaining: Option<usize>,
}

impl Core {
    /// The tree that a read of this version is answered from.
    ///
    /// # Errors
    /// 503, and 504 for a version that the store has not come to.
    pub async fn tree_for(&self, version: AskedVersion) -> Result<Tree, Status> {
        let wanted = match version {
            AskedVersion::Any => return Ok(self.store.latest()),
            AskedVersion::Current => 0,
            AskedVersion::At(wanted) => wanted,
        };
        let local = self.store.latest();
        if wanted > 0 && local.revision() >= wanted {
            return Ok(local);
        }
        let tree = self.store.tree().await.map_err(crate::store::status)?;
        if tree.revision() < wanted {
            return Err(too_large(wanted, tree.revision()));
        }
        Ok(tree)
    }

    /// Answers a get.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn get(&self, target: &Target, version: AskedVersion, form: Form) -> Result<Reply, Status> {
        let tree = self.tree_for(version).await?;
        let stored = find(&tree, target).ok_or_else(|| Status::not_found(target.resource, &target.name))?;
        self.reply(200, &stored, form)
    }

    /// Answers a list.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn list(&self, target: &Target, options: &ListOptions, form: Form) -> Result<Reply, Status> {
        let page = match self.page(target, options).await {
            Ok(page) => page,
            Err(Failed::Status(status)) => return Err(status),
            Err(Failed::PagesGone(token)) => {
                let mut body = Status::expired(PAGES_GONE).body();
                body.metadata.continue_ = Some(token);
                return Ok(Reply::value(410, &body));
            }
        };
        table::reply_list(target.resource, &page, form, self.now())
    }

    /// The objects that are listed.
    async fn page(&self, target: &Target, options: &ListOptions) -> Result<Page, Failed> {
        model::check_fields(target.resource, &options.fields)?;
        let token = if options.page.is_empty() { None } else { Some(read_token(&options.page)?) };
        if token.is_some() && matches!(options.version, AskedVersion::At(_)) {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(why).into());
        }
        let exact = match (options.version, options.version_match) {
            (AskedVersion::At(at), VersionMatch::Exact) => at,
            // Upstream's older rule: a page of a version means that very one.
            (AskedVersion::At(at), VersionMatch::Unset) if options.limit > 0 => at,
            _ => 0,
        };
        let revision = token.as_ref().map_or(exact, |token| token.rv.max(0));
        // A token's revision was current once, so that this server only has to have come to it.
        let version = if revision > 0 { AskedVersion::At(revision) } else { options.version };
        let tree = self.tree_for(version).await?;
        let (first, end) = span(target, options);
        let first = token.as_ref().map_or(first, |token| {
            let (collection, _) = keys::collection(target.resource, &target.namespace);
            [&collection[..], token.start.as_bytes()].concat().into()
        });
        let unfiltered = options.selects_all();
        let limit = if unfiltered && options.limit > 0 { options.limit as i64 } else { 0 };
        let range =
            tree.range(&RangeRequest { key: first, range_end: end, limit, revision, ..RangeRequest::default() });
        let range = range.map_err(|kind| gone(kind, token.as_ref()))?;
        let listed = if revision > 0 { revision } else { tree.revision() };
        let selector = Selector::of(options);
        let mut page = Page { items: Vec::new(), revision: listed, token: String::new(), remaining: None };
        let mut last = None;
        for kv in &range.kvs {
            let stored = Stored::of(target.resource, kv);
            if !unfiltered && !self.matches(&selector, revision, &kv.key, &stored) {
                continue;
            }
            if options.limit > 0 && page.items.len() == options.limit {
                page.token = next_token(target, last, listed);
                break;
            }
            page.items.push(stored);
            last = Some(&kv.key);
        }
        if range.more {
            page.token = next_token(target, last, listed);
            page.remaining = usize::try_from(range.count).ok().map(|count| count - page.items.len());
        }
        Ok(page)
    }

    fn matches(&self, selector: &Selector, revision: i64, key: &Bytes, stored: &Stored) -> bool {
        if revision == 0 {
            self.facts.matches(selector, key, stored)
        } else {
            // States of the past are not worth remembering in the place of current ones.
            crate::facts::Facts::read(stored).is_ok_and(|facts| selector.matches(&facts))
        }
    }

    /// One object in the form asked for.
    ///
    /// # Errors
    /// 500: it cannot be read.
    pub fn reply(&self, code: u16, stored: &Stored, form: Form) -> Result<Reply, Status> {
        table::reply_object(code, stored, form, self.now())
    }
}

/// Why there is no page.
enum Failed {
    Status(Status),
    /// The pages' revision is compacted; with this token the rest can be had from the current one.
    PagesGone(String),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Failed::Status(status)
    }
}

fn gone(kind: RefusedKind, token: Option<&Token>) -> Failed {
    match (kind, token) {
        (RefusedKind::Compacted(_), Some(token)) => {
            mark::sometimes!("pages of a list were compacted");
            Failed::PagesGone(write_token(-1, &token.start))
        }
        (RefusedKind::Compacted(_), None) => Failed::Status(Status::expired(VERSION_GONE)),
        (kind, _) => Failed::Status(crate::store::status(kind.into())),
    }
}

/// 504, with upstream's words, for a version that the store has not come to.
pub fn too_large(wanted: i64, current: i64) -> Status {
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let mut status = Status::timeout(message).cause("ResourceVersionTooLarge", "Too large resource version", "");
    status.details.retry_after_seconds = Some(1);
    status
}

/// The object that a target names.
pub fn find(tree: &Tree, target: &Target) -> Option<Stored> {
    object(tree, target.resource, &target.namespace, &target.name)
}

/// An object by its name.
pub fn object(tree: &Tree, resource: &'static Resource, namespace: &str, name: &str) -> Option<Stored> {
    tree.get(&keys::object(resource, namespace, name)).map(|kv| Stored::of(resource, kv))
}

/// The keys that a list or a watch looks at: one key if the name is given by a field selector.
pub fn span(target: &Target, options: &ListOptions) -> (Bytes, Bytes) {
    let placed = !target.resource.namespaced || !target.namespace.is_empty();
    match options.fields.exact("metadata.name").filter(|name| placed && !name.is_empty()) {
        Some(name) => (keys::object(target.resource, &target.namespace, name), Bytes::new()),
        None => keys::collection(target.resource, &target.namespace),
    }
}

/// The token for what follows `last`.
fn next_token(target: &Target, last: Option<&Bytes>, revision: i64) -> String {
    let (collection, _) = keys::collection(target.resource, &target.namespace);
    let last = last.and_then(|key| key.strip_prefix(&collection[..])).unwrap_or_default();
    // The next key there can be.
    write_token(revision, &format!("{}\0", String::from_utf8_lossy(last)))
}

fn write_token(rv: i64, start: &str) -> String {
    let token = Token { v: TOKEN_VERSION.to_owned(), rv, start: start.to_owned() };
    let mut json = Vec::new();
    write(&token, &mut json);
    URL_SAFE_NO_PAD.encode(json)
}

fn read_token(text: &str) -> Result<Token, Status> {
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
    let token = decoded.and_then(|json| serde_json::from_slice::<Token>(&json).ok());
    token
        .filter(|token| token.v == TOKEN_VERSION && token.rv != 0 && !token.start.is_empty())
        .ok_or_else(|| Status::bad_request("continue key is not valid: it is not one that this server gave"))
}

/// The metadata of a list.
pub fn list_metadata(page: &Page) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), page.revision.to_string().into());
    if !page.token.is_empty() {
        metadata.insert("continue".to_owned(), page.token.clone().into());
    }
    if let Some(remaining) = page.remaining.filter(|_| !page.token.is_empty()) {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_foreign_ones_refused() {
        let token = read_token(&write_token(7, "a/b\0")).unwrap();
        assert_eq!(token, Token { v: TOKEN_VERSION.to_owned(), rv: 7, start: "a/b\0".to_owned() });
        for foreign in ["x", "", "e30", &URL_SAFE_NO_PAD.encode(br#"{"v":"meta.k8s.io/v2","rv":1,"start":"a"}"#)] {
            assert_eq!(read_token(foreign).unwrap_err().code, 400);
        }
    }
}
