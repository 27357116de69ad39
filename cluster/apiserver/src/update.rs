//! Changing objects: updates and patches, of an object itself or of what lies below it.
//!
//! ```text
//! update: the body ─────────────┐
//! patch: patched current object ┴▶ preconditions ─▶ strategy, validation ─▶ put, or removal if it was only waiting for that
//! scale: replicas into it ──────┘
//! ```

use crate::accept::PatchForm;
use crate::admission;
use crate::change::Change;
use crate::core::{Core, Decision, MODIFIED};
use crate::create::{is_service, new_uid, place, seconds};
use crate::delete;
use crate::fence::Fence;
use crate::keys;
use crate::list::find;
use crate::model;
use crate::query::FieldValidation;
use crate::route::Target;
use crate::stored::{PLAIN, Stored, encode, meta_text, remove_meta, set_meta};
use api::Status;
use api::resource::Subresource;
use api::status::FieldError;
use bytes::Bytes;
use serde_json::Value;
use store::mvcc::Tree;

/// How an object is to be changed.
#[derive(Debug)]
pub enum Edit {
    /// It becomes this.
    Replace(Value),
    /// It is patched.
    Patch {
        /// In which form.
        form: PatchForm,
        /// The patch.
        patch: Value,
        /// What happens with fields that nobody knows.
        validation: FieldValidation,
    },
}

/// A changed object.
#[derive(Debug)]
pub struct Edited {
    /// As it is now.
    pub stored: Stored,
    /// Whether it was created.
    pub created: bool,
    /// What the client is to be warned of.
    pub warnings: Vec<String>,
}

/// An edit, and under what circumstances.
struct How<'a> {
    edit: &'a Edit,
    /// What an object that goes by itself is bound to.
    lease: i64,
    dry_run: bool,
}

/// What a decision gives.
struct Given {
    value: Bytes,
    /// The revision if nothing is written; 0 if something is.
    kept: i64,
    created: bool,
    warnings: Vec<String>,
}

impl Core {
    /// Changes an object.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn edit(
        &self,
        target: &Target,
        mut edit: Edit,
        dry_run: bool,
        fence: Option<&Fence>,
    ) -> Result<Edited, Status> {
        if let Edit::Replace(object) = &mut edit {
            check_name(target, object)?;
            place(target, object)?;
        }
        let how = How { edit: &edit, lease: self.lease_of(target.resource).await?, dry_run };
        let decide = |tree: &Tree| self.decide_edit(tree, target, &how);
        let (given, revision) = self.transact(fence, (target.resource, &target.name), decide).await?;
        let Given { value, kept, created, warnings } = given;
        let revision = if dry_run || kept > 0 { kept } else { revision };
        Ok(Edited { stored: Stored::new(target.resource, value, revision), created, warnings })
    }

    fn decide_edit(&self, tree: &Tree, target: &Target, how: &How<'_>) -> Result<Decision<Given>, Status> {
        let resource = target.resource;
        let &How { edit, lease, dry_run } = how;
        let Some(stored) = find(tree, target) else {
            return self.decide_missing(tree, target, how);
        };
        if let Edit::Replace(new) = edit
            && is_plain(target)
        {
            return decide_replace(target, how, new, &stored);
        }
        let current = stored.decode()?;
        let mut warnings = Vec::new();
        let mut new = edited(target, edit, &current, &mut warnings)?;
        check_preconditions(target, edit, &new, meta_text(&current, "uid"), stored.revision)?;
        remove_meta(&mut new, "managedFields");
        let mut new = model::prepare_update(resource, new, &current, target.subresource)?;
        admission::on_update(tree, resource, &new)?;
        let mut change = Change::new();
        if is_service(resource) && target.subresource.is_none() {
            self.allocator(tree, &mut self.random()).update(&current, &mut new, &mut change)?;
        }
        let value = encode(resource, &new);
        let given = Given { value, kept: 0, created: false, warnings };
        if given.value == stored.value() || dry_run {
            return Ok(Decision::Keep(Given { kept: stored.revision, ..given }));
        }
        let key = keys::object(resource, &target.namespace, &target.name);
        change.expect(key.clone(), stored.revision);
        if delete::is_released(resource, &new) {
            mark::sometimes!("object removed by the update that took its last finalizer");
            if is_service(resource) {
                // What the update itself took or gave back counts no more.
                change = Change::new();
                change.expect(key.clone(), stored.revision);
                self.allocator(tree, &mut self.random()).remove(&current, &mut change);
            }
            change.remove(key);
        } else {
            change.put_until(key, given.value.clone(), lease);
        }
        Ok(Decision::Write(change, given))
    }

    /// An update of what is not there.
    fn decide_missing(&self, tree: &Tree, target: &Target, how: &How<'_>) -> Result<Decision<Given>, Status> {
        let &How { edit, lease, dry_run } = how;
        let missing = || Status::not_found(target.resource, &target.name);
        let Edit::Replace(object) = edit else { return Err(missing()) };
        // Who names a version or a UID means an object that was there.
        let means_another = !meta_text(object, "resourceVersion").is_empty() || !meta_text(object, "uid").is_empty();
        if means_another || target.subresource.is_some() || !model::allows_create_on_update(target.resource) {
            return Err(missing());
        }
        let mut object = object.clone();
        set_meta(&mut object, "uid", new_uid(&mut self.random()).into());
        set_meta(&mut object, "creationTimestamp", seconds(self.now()));
        remove_meta(&mut object, "managedFields");
        let given = |value| Given { value, kept: 0, created: true, warnings: Vec::new() };
        Ok(match self.decide_create(tree, target, &object, lease, dry_run)? {
            Decision::Write(change, value) => Decision::Write(change, given(value)),
            Decision::Keep(value) => Decision::Keep(given(value)),
        })
    }
}

/// Whether an object is replaced without anything else of the cluster looking at it or changing with it.
fn is_plain(target: &Target) -> bool {
    let Target { resource, subresource, .. } = target;
    !is_service(resource)
        && !admission::concerns_updates(resource)
        // What holds a namespace is in its spec.
        && (resource.group, resource.kind) != ("", "Namespace")
        && *subresource != Some(Subresource::Scale)
}

/// Replaces a plain object: from what is stored to what is to be stored without a [`Value`] between.
fn decide_replace(target: &Target, how: &How<'_>, new: &Value, stored: &Stored) -> Result<Decision<Given>, Status> {
    let resource = target.resource;
    let &How { edit, lease, dry_run } = how;
    let check = |current: &api::ObjectMeta| {
        let uid = current.uid.as_deref().unwrap_or_default();
        check_preconditions(target, edit, new, uid, stored.revision)
    };
    let update = model::Update { new, old: stored.json()?, subresource: target.subresource, check: &check };
    let mut document = Vec::with_capacity(stored.value().len() + 256);
    document.push(PLAIN);
    let released = model::update_document(resource, &update, &mut document)?;
    let given = Given { value: document.into(), kept: 0, created: false, warnings: Vec::new() };
    if given.value == stored.value() || dry_run {
        return Ok(Decision::Keep(Given { kept: stored.revision, ..given }));
    }
    let key = keys::object(resource, &target.namespace, &target.name);
    let mut change = Change::new();
    change.expect(key.clone(), stored.revision);
    if released {
        mark::sometimes!("plain object removed by the update that took its last finalizer");
        change.remove(key);
    } else {
        change.put_until(key, given.value.clone(), lease);
    }
    Ok(Decision::Write(change, given))
}

/// The object as the edit wants it.
fn edited(target: &Target, edit: &Edit, current: &Value, warnings: &mut Vec<String>) -> Result<Value, Status> {
    let scale = target.subresource == Some(Subresource::Scale);
    match edit {
        Edit::Replace(scale_object) if scale => model::apply_scale(target.resource, current, scale_object),
        Edit::Replace(object) => Ok(object.clone()),
        Edit::Patch { form, patch, validation: _ } if scale => {
            let before = model::scale(target.resource, current)?;
            let patched = model::patch_scale(*form, before, patch)?;
            model::apply_scale(target.resource, current, &patched)
        }
        Edit::Patch { form, patch, validation } => {
            let mut patched = model::patch(*form, target.resource, current.clone(), patch)?;
            check_name(target, &mut patched)?;
            place(target, &mut patched)?;
            let (patched, unknown) = model::decode_patched(target.resource, patched)?;
            match validation {
                FieldValidation::Strict if !unknown.is_empty() => return Err(strict_patch(patch, &unknown)),
                FieldValidation::Warn => *warnings = unknown,
                FieldValidation::Strict | FieldValidation::Ignore => {}
            }
            Ok(patched)
        }
    }
}

fn strict_patch(patch: &Value, unknown: &[String]) -> Status {
    let why = format!("strict decoding error: {}", unknown.join(", "));
    let error = FieldError::invalid("patch", format!("{:?}", patch.to_string()), &why);
    let mut status = Status::new(422, "Invalid", format!(" \"\" is invalid: {error}"));
    status = status.cause(error.reason, &error.message, &error.field);
    status
}

/// The object's name must be that of the path; it may be left out.
fn check_name(target: &Target, object: &mut Value) -> Result<(), Status> {
    let name = meta_text(object, "name");
    if name.is_empty() {
        set_meta(object, "name", target.name.clone().into());
    } else if name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

/// What the edit says of the object must be true of it.
fn check_preconditions(
    target: &Target,
    edit: &Edit,
    new: &Value,
    current_uid: &str,
    current: i64,
) -> Result<(), Status> {
    let resource = target.resource;
    let (version, uid) = (meta_text(new, "resourceVersion"), meta_text(new, "uid"));
    if !uid.is_empty() && uid != current_uid {
        mark::sometimes!("update meant an earlier object of the name");
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current_uid}");
        return Err(Status::conflict(resource, &target.name, &why));
    }
    if version.is_empty() || version == "0" {
        let replaces = matches!(edit, Edit::Replace(_)) && target.subresource != Some(Subresource::Scale);
        if replaces && !model::allows_unconditional_update(resource) {
            let error = FieldError::invalid("metadata.resourceVersion", "0x0", "must be specified for an update");
            return Err(Status::invalid(resource, &target.name, &[error]));
        }
        return Ok(());
    }
    if version != current.to_string() {
        mark::sometimes!("update of an object that was changed since it was read");
        return Err(Status::conflict(resource, &target.name, MODIFIED));
    }
    Ok(())
}
