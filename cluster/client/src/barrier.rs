//! The barrier: performs one write until what became of it is definite, and says what must be in the caches before its
//! key is looked at again.
//!
//! - A create names its object. After an unknown outcome the same create is sent again, until it is done, its name is
//!   found taken by an object of the same owner, or it is refused.
//! - An update or a patch of unknown outcome is not repeated: the object is read as of now, and decided upon anew once the
//!   cache has that version.
//! - A delete that names a UID is repeated until it is done or there is nothing to delete.
//!
//! **Invariant:** no plan runs before the writes of its key's last plan are definite and in the caches
//! (tests/driver.rs: `a_key_waits_until_its_writes_are_in_the_cache`).

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::Error;
use crate::informer::Following;
use crate::watch::revision_of;
use crate::write::{Verb, Write};
use api::resource::Subresource;
use api::{ObjectMeta, Resource, Status};
use mark::sometimes;
use rt::random::Random;
use std::time::Duration;

/// The first wait before a write of unknown outcome is asked about again.
const REPEAT_BASE: Duration = Duration::from_millis(100);
/// The longest such wait: a key is held up meanwhile.
const REPEAT_LIMIT: Duration = Duration::from_secs(5);

/// What the caches must have seen of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Everything of a kind up to a revision.
    Revision(&'static Resource, i64),
    /// That an object is gone or going.
    Gone {
        /// Of which kind.
        resource: &'static Resource,
        /// In which namespace.
        namespace: String,
        /// Of which name.
        name: String,
        /// Of which UID.
        uid: String,
    },
}

/// A write that was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What to wait for.
    pub(crate) seen: Vec<Seen>,
    /// It had been done before: the plan was made without knowing that.
    pub(crate) again: bool,
}

/// A write that was not done, as far as anybody knows.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The object is not what the plan took it to be; wait for this before the next plan.
    Conflict(Vec<Seen>),
    /// The API server refuses it.
    Refused(Box<Status>),
    /// No API server could be asked, or none was able to.
    Unreachable(String),
    /// Somebody with a newer epoch writes: this process leads no more.
    Stale,
}

/// Performs writes.
pub(crate) struct Barrier {
    client: Client,
    following: Following,
    random: Random,
    backoff: Backoff,
}

impl Barrier {
    pub(crate) fn new(client: Client, following: Following, random: Random) -> Self {
        Self { client, following, random, backoff: Backoff::new(REPEAT_BASE, REPEAT_LIMIT) }
    }

    /// Performs `write` until it is definite.
    pub(crate) async fn perform(&mut self, write: &Write) -> Result<Done, Failure> {
        self.backoff.reset();
        match &write.verb {
            Verb::Create { owner, .. } => self.create(write, owner.as_deref()).await,
            Verb::Update { .. } | Verb::Patch { .. } => self.change(write).await,
            Verb::CreateSubresource { subresource, .. } => match subresource {
                Subresource::Eviction => {
                    let uid = self.cached_uid(write);
                    let done = self.change(write).await?;
                    Ok(Done { seen: done.seen.into_iter().chain(gone(write, uid)).collect(), ..done })
                }
                Subresource::Status | Subresource::Scale | Subresource::Binding | Subresource::Finalize => {
                    self.change(write).await
                }
            },
            Verb::Delete { uid: Some(uid), .. } => self.delete(write, uid.clone()).await,
            Verb::Delete { uid: None, .. } => {
                let uid = self.cached_uid(write);
                match self.change(write).await {
                    Ok(done) => Ok(Done { seen: done.seen.into_iter().chain(gone(write, uid)).collect(), ..done }),
                    Err(Failure::Refused(status)) if status.code == 404 => {
                        Ok(Done { seen: gone(write, uid).into_iter().collect(), again: false })
                    }
                    Err(failure) => Err(failure),
                }
            }
        }
    }

    /// Waits until the caches have seen all of it.
    pub(crate) async fn wait(&self, seen: &[Seen]) {
        for seen in seen {
            match seen {
                Seen::Revision(resource, revision) => self.following.seen(resource, *revision).await,
                Seen::Gone { resource, namespace, name, uid } => {
                    self.following.gone(resource, namespace, name, uid).await;
                }
            }
        }
    }

    async fn create(&mut self, write: &Write, owner: Option<&str>) -> Result<Done, Failure> {
        let mut unknown = false;
        loop {
            let error = match self.client.perform(write).await {
                Ok(written) => return Ok(done(write, written.resource_version)),
                Err(error) => error,
            };
            if error.is_already_exists() {
                return self.existing(write, owner, unknown, error).await;
            }
            unknown |= error.is_unknown();
            if !unknown || is_refusal(&error) {
                return Err(failure(error));
            }
            sometimes!("create repeated after an unknown outcome");
            self.pause().await;
        }
    }

    /// The name of a create is taken: by that very create, if it is an object of the same owner.
    async fn existing(
        &mut self,
        write: &Write,
        owner: Option<&str>,
        unknown: bool,
        error: Error,
    ) -> Result<Done, Failure> {
        let Some(metadata) = self.read(write).await? else {
            sometimes!("create found its name taken and then free");
            return Ok(Done { seen: Vec::new(), again: true });
        };
        let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let own = match (owner, controller) {
            (Some(owner), Some(controller)) => owner == controller.uid,
            (Some(_), None) => false,
            // Without an owner nothing tells whose it is: an earlier attempt at this create is likeliest.
            (None, _) => unknown,
        };
        if !own {
            sometimes!("create found its name taken by another's object");
            return Err(failure(error));
        }
        sometimes!("create answered AlreadyExists by own object");
        Ok(Done { again: true, ..done(write, version(&metadata)) })
    }

    /// A write that holds only for the version or the object that the plan knew.
    async fn change(&mut self, write: &Write) -> Result<Done, Failure> {
        let error = match self.client.perform(write).await {
            Ok(written) => return Ok(done(write, written.resource_version)),
            Err(error) => error,
        };
        if !error.is_unknown() {
            return Err(failure(error));
        }
        sometimes!("update of unknown outcome is read again");
        let metadata = self.read(write).await?;
        let seen = metadata.map(|metadata| Seen::Revision(write.resource, version(&metadata)));
        Err(Failure::Conflict(seen.into_iter().collect()))
    }

    async fn delete(&mut self, write: &Write, uid: String) -> Result<Done, Failure> {
        let mut unknown = false;
        loop {
            match self.client.perform(write).await {
                Ok(written) => {
                    let mut done = done(write, written.resource_version);
                    done.seen.extend(gone(write, Some(uid)));
                    return Ok(done);
                }
                Err(error) if error.is_not_found() => {
                    return Ok(Done { seen: gone(write, Some(uid)).into_iter().collect(), again: false });
                }
                Err(error) => {
                    unknown |= error.is_unknown();
                    if !unknown || is_refusal(&error) {
                        return Err(failure(error));
                    }
                }
            }
            sometimes!("delete repeated after an unknown outcome");
            self.pause().await;
        }
    }

    /// The object as of now; `None` if there is none. Asks until it is told.
    async fn read(&mut self, write: &Write) -> Result<Option<ObjectMeta>, Failure> {
        loop {
            match self.client.get_metadata(write.resource, &write.namespace, &write.name).await {
                Ok(metadata) => return Ok(Some(metadata)),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) if is_refusal(&error) => return Err(failure(error)),
                Err(_) => self.pause().await,
            }
        }
    }

    fn cached_uid(&self, write: &Write) -> Option<String> {
        let caches = self.following.caches();
        caches.metadata_of(write.resource, &write.namespace, &write.name).and_then(|metadata| metadata.uid.clone())
    }

    async fn pause(&mut self) {
        rt::time::sleep(self.backoff.next(&mut self.random)).await;
    }
}

/// Whether the API server says no, and will say so again: then nothing comes of earlier attempts either.
fn is_refusal(error: &Error) -> bool {
    let code = error.code();
    (400..500).contains(&code) && code != 429
}

fn failure(error: Error) -> Failure {
    if error.is_stale_fence() {
        return Failure::Stale;
    }
    if error.is_conflict() {
        return Failure::Conflict(Vec::new());
    }
    match error {
        Error::Status(status) => Failure::Refused(status),
        Error::Unreachable(why) | Error::Unknown(why) | Error::Malformed(why) => Failure::Unreachable(why),
    }
}

fn done(write: &Write, revision: i64) -> Done {
    let seen = (revision > 0).then_some(Seen::Revision(write.resource, revision));
    Done { seen: seen.into_iter().collect(), again: false }
}

fn gone(write: &Write, uid: Option<String>) -> Option<Seen> {
    let (namespace, name) = (write.namespace.clone(), write.name.clone());
    uid.map(|uid| Seen::Gone { resource: write.resource, namespace, name, uid })
}

fn version(metadata: &ObjectMeta) -> i64 {
    revision_of(metadata.resource_version.as_deref().unwrap_or_default())
}
