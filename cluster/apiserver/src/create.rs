//! Creating objects.

use crate::admission;
use crate::change::Change;
use crate::core::{Core, Decision};
use crate::fence::Fence;
use crate::keys;
use crate::model;
use crate::route::Target;
use crate::services::Allocator;
use crate::stored::{PLAIN, Stored, encode, meta_text, remove_meta, set_meta};
use api::{Resource, Status};
use bytes::Bytes;
use rt::random::Random;
use serde_json::Value;
use std::borrow::Cow;
use store::mvcc::Tree;

/// Letters and digits of generated names: those of upstream, which spell no words.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many are added to a prefix.
const NAME_RANDOM: usize = 5;

/// Longest generated name: that of a label.
const NAME_MAX: usize = 63;

/// How often another name is generated because one is taken: upstream's number.
const NAME_ATTEMPTS: usize = 8;

impl Core {
    /// Creates an object; gives it as it was stored, or in a dry run would have been.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn create(
        &self,
        target: &Target,
        mut object: Value,
        dry_run: bool,
        fence: Option<&Fence>,
    ) -> Result<Stored, Status> {
        place(target, &mut object)?;
        if !meta_text(&object, "resourceVersion").is_empty() {
            return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        let prefix = meta_text(&object, "generateName").to_owned();
        if !meta_text(&object, "name").is_empty() || prefix.is_empty() {
            return self.create_named(target, object, dry_run, fence).await;
        }
        for _ in 1..NAME_ATTEMPTS {
            set_meta(&mut object, "name", generate_name(&prefix, &mut self.random()).into());
            match self.create_named(target, object.clone(), dry_run, fence).await {
                Err(status) if status.reason == "AlreadyExists" => {
                    mark::sometimes!("generated name was taken");
                }
                other => return other,
            }
        }
        set_meta(&mut object, "name", generate_name(&prefix, &mut self.random()).into());
        let name = meta_text(&object, "name").to_owned();
        self.create_named(target, object, dry_run, fence).await.map_err(|mut status| {
            if status.reason == "AlreadyExists" {
                let qualified = target.resource.qualified();
                status.message = format!(
                    "{qualified} {name:?} already exists, the server was not able to generate a unique name for the object"
                );
                status.details.retry_after_seconds = Some(1);
            }
            status
        })
    }

    async fn create_named(
        &self,
        target: &Target,
        mut object: Value,
        dry_run: bool,
        fence: Option<&Fence>,
    ) -> Result<Stored, Status> {
        let resource = target.resource;
        let uid = new_uid(&mut self.random());
        set_meta(&mut object, "uid", uid.into());
        set_meta(&mut object, "creationTimestamp", seconds(self.now()));
        remove_meta(&mut object, "managedFields");
        let name = meta_text(&object, "name").to_owned();
        let lease = self.lease_of(resource).await?;
        let decide = |tree: &Tree| self.decide_create(tree, target, &object, lease, dry_run);
        let (value, revision) = self.transact(fence, (resource, &name), decide).await?;
        Ok(Stored::new(resource, value, if dry_run { 0 } else { revision }))
    }

    /// Also for an update that creates what is not there.
    pub(crate) fn decide_create(
        &self,
        tree: &Tree,
        target: &Target,
        object: &Value,
        lease: i64,
        dry_run: bool,
    ) -> Result<Decision<Bytes>, Status> {
        let resource = target.resource;
        let mut change = Change::new();
        let name = meta_text(object, "name");
        admission::enter_namespace(tree, resource, &target.namespace, name, &mut change)?;
        let admitted = if admission::concerns(resource) {
            let mut object = object.clone();
            admission::on_create(tree, resource, &mut object)?;
            Cow::Owned(object)
        } else {
            Cow::Borrowed(object)
        };
        let key = keys::object(resource, &target.namespace, name);
        let taken = || tree.get(&key).map_or(Ok(()), |_| Err(Status::already_exists(resource, name)));
        let value = if is_service(resource) {
            let mut object = model::prepare_create(resource, admitted.into_owned())?;
            taken()?;
            self.allocator(tree, &mut self.random()).create(&mut object, &mut change)?;
            encode(resource, &object)
        } else {
            let mut document = vec![PLAIN];
            model::create_document(resource, &admitted, &mut document)?;
            taken()?;
            document.into()
        };
        change.expect(key.clone(), 0);
        change.put_until(key, value.clone(), lease);
        Ok(if dry_run { Decision::Keep(value) } else { Decision::Write(change, value) })
    }

    /// What gives Services their addresses and ports.
    pub(crate) fn allocator<'a>(&'a self, tree: &'a Tree, random: &'a mut Random) -> Allocator<'a> {
        Allocator { cidr: self.config.service_cidr, node_ports: self.config.node_ports, tree, random, now: self.now() }
    }
}

/// Puts an object where the path says, unless it says that it belongs elsewhere.
///
/// # Errors
/// 400.
pub fn place(target: &Target, object: &mut Value) -> Result<(), Status> {
    if !target.resource.namespaced {
        // One that is named is refused by validation.
        return Ok(());
    }
    let namespace = meta_text(object, "namespace");
    if namespace.is_empty() {
        set_meta(object, "namespace", target.namespace.clone().into());
    } else if namespace != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Whether it is the resource of Services.
pub fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.kind == "Service"
}

/// A time as objects have it.
pub fn seconds(now: api::Timestamp) -> Value {
    serde_json::to_value(api::object::seconds(now)).unwrap_or_default()
}

/// A name that begins with `prefix` and that nobody has by chance.
fn generate_name(prefix: &str, random: &mut Random) -> String {
    let mut name: String = prefix.chars().take(NAME_MAX - NAME_RANDOM).collect();
    for _ in 0..NAME_RANDOM {
        let place = random.below(NAME_LETTERS.len() as u64);
        name.push(char::from(NAME_LETTERS[place as usize]));
    }
    name
}

/// A UID: RFC 9562, version 4.
pub fn new_uid(random: &mut Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label_and_uids_have_their_form() {
        let mut random = Random::from_seed(1);
        let name = generate_name(&"x".repeat(100), &mut random);
        assert_eq!(name.len(), NAME_MAX);
        let name = generate_name("web-", &mut random);
        assert!(name.len() == 9 && name[4..].bytes().all(|byte| NAME_LETTERS.contains(&byte)), "{name}");
        let uid = new_uid(&mut random);
        assert!(uid.len() == 36 && &uid[14..15] == "4" && "89ab".contains(&uid[19..20]), "{uid}");
    }
}
