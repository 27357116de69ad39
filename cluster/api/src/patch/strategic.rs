//! Strategic merge patch: as JSON Merge Patch, but lists of objects are merged element by element where the type says by
//! which key. Follows upstream's `strategicpatch`, directives, order and words included.
//!
//! | in an object | means |
//! |---|---|
//! | `$patch: replace` | this object, without the old one's fields |
//! | `$patch: delete` | an empty object |
//! | `$retainKeys: [..]` | of the old object only these fields stay |
//! | `$setElementOrder/x: [..]` | the order of list `x` |
//! | `$deleteFromPrimitiveList/x: [..]` | these values leave list `x` |
//!
//! In an element of a merged list, `$patch: delete` removes the element with that key, and `$patch: replace` makes the
//! patch's list the whole list.

use crate::schema::{Kind, Type};
use crate::status::Status;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// What is wrong with a strategic merge patch; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// It is no object.
    #[error("invalid JSON document")]
    Document,
    /// A list of values to delete is none.
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    /// `$retainKeys` is wrong, or the patch sets what it does not retain.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// `$setElementOrder` is wrong.
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    /// The list and `$setElementOrder` disagree.
    #[error("The order in patch list:\n{list}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch {
        /// The patch's list.
        list: String,
        /// Its order.
        order: String,
    },
    /// Nobody knows this `$patch`.
    #[error("unknown patch type: {0} in map: {1}")]
    Directive(String, String),
    /// `$patch: merge` in a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    /// An element lacks the key by which it would be found.
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    /// Elements of different forms.
    #[error("list element types are not identical: {0}")]
    Mixed(String),
    /// A list in a list that would be merged.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// A list of objects that has no key to merge by.
    #[error("cannot merge lists without merge key for type {0}")]
    NoKeyDeclared(String),
    /// A field that would be merged and that the type lacks.
    #[error("unable to find api field in struct {0} for the json field {1:?}")]
    UnknownField(String, String),
    /// A value of another form than a directive needs.
    #[error("expected a {0}, but received a {1}")]
    Form(&'static str, &'static str),
}

impl StrategicError {
    pub(super) fn into_status(self) -> Status {
        match self {
            Self::ListOfLists => Status::new(422, "Invalid", self.to_string()),
            Self::Document
            | Self::PrimitiveList
            | Self::RetainKeys
            | Self::ElementOrder
            | Self::OrderMismatch { .. }
            | Self::Directive(..)
            | Self::MergeDirective
            | Self::NoMergeKey(..)
            | Self::Mixed(_)
            | Self::NoKeyDeclared(_)
            | Self::UnknownField(..)
            | Self::Form(..) => Status::bad_request(self.to_string()),
        }
    }
}

pub(super) fn apply(ty: &Type, object: Value, patch: Value) -> Result<Value, StrategicError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else { return Err(StrategicError::Document) };
    merge_object(object, patch, &ty.kind).map(Value::Object)
}

/// How a field is merged: what its value is, and what the type says about patches.
struct Rule<'a> {
    kind: &'a Kind,
    merge: bool,
    replace: bool,
    merge_key: Option<&'static str>,
}

/// Nothing is known of what lies in raw JSON: it is merged as JSON Merge Patch would.
static RAW: Kind = Kind::Raw;

fn rule<'a>(kind: &'a Kind, name: &str) -> Result<Rule<'a>, StrategicError> {
    match kind {
        Kind::Object(id) => {
            let ty = id.get();
            let unknown = || StrategicError::UnknownField(ty.short_name().to_owned(), name.to_owned());
            let field = ty.field(name).ok_or_else(unknown)?;
            Ok(Rule { kind: &field.kind, merge: field.merge, replace: field.replace, merge_key: field.merge_key })
        }
        Kind::Map(element) => Ok(Rule { kind: element, merge: false, replace: false, merge_key: None }),
        Kind::String
        | Kind::Bytes
        | Kind::Int32
        | Kind::Int64
        | Kind::Bool
        | Kind::Double
        | Kind::Quantity
        | Kind::Time
        | Kind::MicroTime
        | Kind::Duration
        | Kind::IntOrString
        | Kind::Raw
        | Kind::FieldsV1
        | Kind::List(_) => Ok(Rule { kind: &RAW, merge: false, replace: false, merge_key: None }),
    }
}

fn merge_object(mut original: Object, mut patch: Object, kind: &Kind) -> Result<Object, StrategicError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(plain_object(patch)),
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    set_element_orders(&mut original, &mut patch, kind)?;
    for (name, value) in patch {
        let deletes = name.starts_with(DELETE_FROM_LIST);
        let name = match name.strip_prefix(DELETE_FROM_LIST) {
            Some(list) => list_name(list, StrategicError::PrimitiveList)?,
            None => name,
        };
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        match (original.remove(&name), value) {
            (Some(before), _) if deletes && !before.is_array() => {
                original.insert(name, before);
            }
            (None, _) if deletes => {}
            (Some(Value::Object(before)), Value::Object(value)) => {
                let rule = rule(kind, &name)?;
                let merged = if rule.replace { plain_object(value) } else { merge_object(before, value, rule.kind)? };
                original.insert(name, Value::Object(merged));
            }
            (Some(Value::Array(before)), Value::Array(value)) => {
                let rule = rule(kind, &name)?;
                let merged =
                    if deletes { delete_from(before, &value, &rule)? } else { merge_field(before, value, &rule)? };
                original.insert(name, Value::Array(merged));
            }
            (_, value) if deletes => return Err(StrategicError::Form("list", form(&value))),
            (_, value) => {
                original.insert(name, without_directives(value));
            }
        }
    }
    Ok(original)
}

fn unknown_directive(directive: &Value, mut patch: Object) -> StrategicError {
    patch.insert(PATCH.to_owned(), directive.clone());
    StrategicError::Directive(go(directive), go(&Value::Object(patch)))
}

/// The field that a directive is about. Upstream takes no second slash.
fn list_name(name: &str, error: StrategicError) -> Result<String, StrategicError> {
    if name.contains('/') { Err(error) } else { Ok(name.to_owned()) }
}

fn is_parallel(name: &str) -> bool {
    name.starts_with(DELETE_FROM_LIST) || name.starts_with(ELEMENT_ORDER)
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or(StrategicError::RetainKeys)?;
    let keys: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let set = patch.iter().filter(|(name, value)| !value.is_null() && !is_parallel(name));
    for (name, _) in set {
        if !keys.contains(name.as_str()) {
            return Err(StrategicError::RetainKeys);
        }
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

/// Merges the lists that come with an order of their own, and takes both out of the patch.
fn set_element_orders(original: &mut Object, patch: &mut Object, kind: &Kind) -> Result<(), StrategicError> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let Value::Array(order) = order else { return Err(StrategicError::Form("list", form(&order))) };
        let name = list_name(&directive[ELEMENT_ORDER.len()..], StrategicError::ElementOrder)?;
        let before = take_list(original, &name)?;
        let mut value = take_list(patch, &name)?;
        let rule = rule(kind, &name)?;
        if let Some(value) = &mut value {
            check_order(value, &order, rule.merge_key)?;
        }
        let server = before.clone().unwrap_or_default();
        let merged = match (before, value) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(value)) => {
                value.into_iter().filter(|item| !is_directive(item)).map(without_directives).collect()
            }
            (Some(before), Some(value)) => merge_field(before, value, &rule)?,
        };
        let merged = ordered(merged, &order, &server, rule.merge_key)?;
        original.insert(name, Value::Array(merged));
    }
    Ok(())
}

fn take_list(map: &mut Object, name: &str) -> Result<Option<Vec<Value>>, StrategicError> {
    match map.remove(name) {
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(Value::Null) | None => Ok(None),
        Some(other) => Err(StrategicError::Form("list", form(&other))),
    }
}

/// The patch's elements must stand in the order that the patch gives.
fn check_order(items: &[Value], order: &[Value], key: Option<&str>) -> Result<(), StrategicError> {
    let mut rest = order.iter();
    for item in items.iter().filter(|item| !deletes(item)) {
        if is_directive(item) {
            continue;
        }
        let id = identity(item, key);
        if !rest.any(|wanted| id.is_some() && identity(wanted, key) == id) {
            let (list, order) = (go(&Value::Array(items.to_vec())), go(&Value::Array(order.to_vec())));
            return Err(StrategicError::OrderMismatch { list, order });
        }
    }
    Ok(())
}

fn merge_field(before: Vec<Value>, patch: Vec<Value>, rule: &Rule<'_>) -> Result<Vec<Value>, StrategicError> {
    if !rule.merge {
        return Ok(patch.into_iter().map(without_directives).collect());
    }
    let element = match rule.kind {
        Kind::List(element) => element,
        other => other,
    };
    merge_list(before, patch, element, rule.merge_key)
}

fn merge_list(
    before: Vec<Value>,
    patch: Vec<Value>,
    kind: &Kind,
    key: Option<&str>,
) -> Result<Vec<Value>, StrategicError> {
    if !of_objects(&before, &patch)? {
        let mut merged: Vec<Value> = Vec::with_capacity(before.len() + patch.len());
        let mut seen = BTreeSet::new();
        for item in before.iter().chain(&patch) {
            if seen.insert(identity(item, None)) {
                merged.push(item.clone());
            }
        }
        return ordered(merged, &patch, &before, None);
    }
    let key = key.ok_or_else(|| StrategicError::NoKeyDeclared("struct".to_owned()))?;
    let (before, patch) = apply_directives(before, patch, key)?;
    let mut merged = before.clone();
    let mut places = ranks(&merged, Some(key));
    for item in &patch {
        let no_key = || StrategicError::NoMergeKey(go(item), key.to_owned());
        let id = identity(item, Some(key)).ok_or_else(no_key)?;
        match (places.get(&id), item) {
            (Some(place), Value::Object(item)) => {
                let Value::Object(old) = std::mem::take(&mut merged[*place]) else { continue };
                merged[*place] = Value::Object(merge_object(old, item.clone(), kind)?);
            }
            (_, item) => {
                places.insert(id, merged.len());
                merged.push(without_directives(item.clone()));
            }
        }
    }
    ordered(merged, &patch, &before, Some(key))
}

/// Whether the elements are objects; they must all be of one form.
fn of_objects(before: &[Value], patch: &[Value]) -> Result<bool, StrategicError> {
    let mut forms = before.iter().chain(patch).map(form);
    let Some(first) = forms.next() else { return Ok(false) };
    if first == "list" {
        return Err(StrategicError::ListOfLists);
    }
    if forms.any(|form| form != first) {
        let both = [Value::Array(before.to_vec()), Value::Array(patch.to_vec())];
        return Err(StrategicError::Mixed(go(&Value::Array(both.to_vec()))));
    }
    Ok(first == "map")
}

/// Carries out `$patch` in elements: what is left of the old list, and of the patch.
fn apply_directives(
    mut before: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut deleted = BTreeSet::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let no_key = || StrategicError::NoMergeKey(go(&item), key.to_owned());
                deleted.insert(identity(&item, Some(key)).ok_or_else(no_key)?);
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => return Err(StrategicError::MergeDirective),
            Some(directive) => return Err(StrategicError::Directive(go(directive), go(&item))),
        }
    }
    before.retain(|old| identity(old, Some(key)).is_none_or(|id| !deleted.contains(&id)));
    Ok(if replace { (plain.into_iter().map(without_directives).collect(), Vec::new()) } else { (before, plain) })
}

fn delete_from(before: Vec<Value>, patch: &[Value], rule: &Rule<'_>) -> Result<Vec<Value>, StrategicError> {
    if !rule.merge {
        return Ok(patch.to_vec());
    }
    if of_objects(&before, patch)? {
        return Err(StrategicError::PrimitiveList);
    }
    let deleted: BTreeSet<Option<String>> = patch.iter().map(|item| identity(item, None)).collect();
    Ok(before.into_iter().filter(|item| !deleted.contains(&identity(item, None))).collect())
}

/// The elements that `order` names stand in its order; the others stand in the order of `server`, and before the first
/// named one that follows them there.
fn ordered(
    merged: Vec<Value>,
    order: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, StrategicError> {
    if let Some(key) = key
        && let Some(item) = merged.iter().find(|item| item.get(key).is_none())
    {
        return Err(StrategicError::NoMergeKey(go(item), key.to_owned()));
    }
    let places = |list: &[Value]| -> Vec<Option<usize>> {
        let ranks = ranks(list, key);
        merged.iter().map(|item| ranks.get(&identity(item, key)?).copied()).collect()
    };
    let (by_order, by_server) = (places(order), places(server));
    let all = 0..merged.len();
    let (mut named, mut others): (Vec<usize>, Vec<usize>) = all.partition(|place| by_order[*place].is_some());
    named.sort_by_key(|place| by_order[*place]);
    others.sort_by_key(|place| by_server[*place]);
    let mut places = Vec::with_capacity(merged.len());
    let mut others = others.into_iter().peekable();
    for place in named {
        let before = |other: &usize| match (by_server[*other], by_server[place]) {
            (Some(other), Some(named)) => other < named,
            (Some(_) | None, None) | (None, Some(_)) => false,
        };
        while let Some(other) = others.next_if(before) {
            places.push(other);
        }
        places.push(place);
    }
    places.extend(others);
    let mut merged: Vec<Option<Value>> = merged.into_iter().map(Some).collect();
    Ok(places.into_iter().filter_map(|place| merged[place].take()).collect())
}

/// Where each element first stands.
fn ranks(list: &[Value], key: Option<&str>) -> BTreeMap<String, usize> {
    let mut ranks = BTreeMap::new();
    for (place, item) in list.iter().enumerate() {
        if let Some(id) = identity(item, key) {
            ranks.entry(id).or_insert(place);
        }
    }
    ranks
}

/// By what an element is found again: its key, or itself. As text, because JSON has no order.
fn identity(item: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

fn deletes(item: &Value) -> bool {
    item.get(PATCH).and_then(Value::as_str) == Some("delete")
}

/// Whether an element says something about its list and is none of its elements.
fn is_directive(item: &Value) -> bool {
    item.get(PATCH).is_some()
}

/// A value of the patch that meets nothing in the object: it is taken as it is, without directives and without what is
/// `null`, for both speak of something that is not there.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) if map.get(PATCH).and_then(Value::as_str) == Some("delete") => Value::Object(Object::new()),
        Value::Object(map) => Value::Object(plain_object(map)),
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|item| !is_directive(item)).map(without_directives).collect())
        }
        other => other,
    }
}

fn plain_object(map: Object) -> Object {
    let says = |name: &str| name == PATCH || name == RETAIN_KEYS || is_parallel(name);
    let kept = map.into_iter().filter(|(name, value)| !says(name) && !value.is_null());
    kept.map(|(name, value)| (name, without_directives(value))).collect()
}

fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// A value as Go's `%v` shows it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(name, value)| format!("{name}:{}", go(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}
