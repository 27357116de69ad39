//! What pods are configured with: ConfigMaps, Secrets, ServiceAccounts.

use super::Kind;
use super::errors::{Errors, METADATA, Path, list, text};
use super::fields::Field;
use crate::core::v1::{ConfigMap, Secret, ServiceAccount};
use crate::table::Column;
use crate::{ByteString, ObjectExt, Timestamp, names};
use serde_json::Value;
use std::collections::BTreeMap;

/// Sum of the values of one object at most, in bytes; upstream's limit.
const MAX_BYTES: usize = 1024 * 1024;

const DATA: Path<'static> = Path::Root("data");
const FROZEN: &str = "field is immutable when `immutable` is set";

fn validate_keys<V>(data: Option<&BTreeMap<String, V>>, path: &Path<'_>, errors: &mut Errors) {
    for key in data.into_iter().flat_map(BTreeMap::keys) {
        errors.texts(&path.key(key), key, names::config_key(key));
    }
}

/// Once immutable, always immutable.
fn validate_frozen(was: Option<bool>, is: Option<bool>, changed: &[(&str, bool)], errors: &mut Errors) {
    if was != Some(true) {
        return;
    }
    if is != Some(true) {
        errors.forbidden(&Path::Root("immutable"), FROZEN);
    }
    for (name, changed) in changed {
        if *changed {
            errors.forbidden(&Path::Root(name), FROZEN);
        }
    }
}

/// The same content; absent is empty.
fn same<V: PartialEq>(new: &Option<BTreeMap<String, V>>, old: &Option<BTreeMap<String, V>>) -> bool {
    new.iter().flatten().eq(old.iter().flatten())
}

impl Kind for ConfigMap {
    const COLUMNS: &'static [Column] =
        &[Column::names(), Column::new("Data", "integer", "How many entries it has."), super::AGE];

    fn validate(&self, errors: &mut Errors) {
        let binary = Path::Root("binaryData");
        validate_keys(self.data.as_ref(), &DATA, errors);
        for key in self.binary_data.iter().flat_map(BTreeMap::keys) {
            errors.texts(&binary.key(key), key, names::config_key(key));
            if self.data.as_ref().is_some_and(|data| data.contains_key(key)) {
                errors.text(&binary.key(key), key, "duplicate of key present in data");
            }
        }
        let texts: usize = self.data.iter().flatten().map(|(_, value)| value.len()).sum();
        let bytes: usize = self.binary_data.iter().flatten().map(|(_, value)| value.0.len()).sum();
        if texts + bytes > MAX_BYTES {
            errors.too_long(&Path::Root("[]"), MAX_BYTES);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let changed =
            [("data", !same(&self.data, &old.data)), ("binaryData", !same(&self.binary_data, &old.binary_data))];
        validate_frozen(old.immutable, self.immutable, &changed, errors);
        self.validate(errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let count = self.data.iter().flatten().count() + self.binary_data.iter().flatten().count();
        vec![self.name().into(), count.into(), self.age(now)]
    }
}

impl Kind for Secret {
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("Type", "string", "What it is for."),
        Column::new("Data", "integer", "How many entries it has."),
        super::AGE,
    ];
    const FIELDS: &'static [Field] = &[Field::text("type")];

    fn fill(&mut self) {
        if text(&self.type_).is_empty() {
            self.type_ = Some("Opaque".to_owned());
        }
        // The texts are for writing alone.
        for (key, value) in self.string_data.take().into_iter().flatten() {
            self.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
        }
    }

    fn validate(&self, errors: &mut Errors) {
        validate_keys(self.data.as_ref(), &DATA, errors);
        let bytes: usize = self.data.iter().flatten().map(|(_, value)| value.0.len()).sum();
        if bytes > MAX_BYTES {
            errors.too_long(&DATA, MAX_BYTES);
        }
        let has = |key: &str| self.data.as_ref().is_some_and(|data| data.contains_key(key));
        let required: &[&str] = match text(&self.type_) {
            "kubernetes.io/service-account-token" => {
                const ACCOUNT: &str = "kubernetes.io/service-account.name";
                if self.annotations().get(ACCOUNT).is_none_or(String::is_empty) {
                    errors.required(&METADATA.child("annotations").key(ACCOUNT), "");
                }
                &[]
            }
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/basic-auth" if !has("username") && !has("password") => &["username", "password"],
            _ => &[],
        };
        for key in required.iter().filter(|key| !has(key)) {
            errors.required(&DATA.key(key), "");
        }
        for key in [".dockercfg", ".dockerconfigjson"].into_iter().filter(|key| required.contains(key)) {
            let value = self.data.as_ref().and_then(|data| data.get(key));
            if let Some(Err(error)) = value.map(|value| serde_json::from_slice::<Value>(&value.0)) {
                errors.text(&DATA.key(key), "<secret contents redacted>", &error.to_string());
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        errors.unchanged(&Path::Root("type"), text(&self.type_), text(&old.type_));
        validate_frozen(old.immutable, self.immutable, &[("data", !same(&self.data, &old.data))], errors);
        self.validate(errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let count = self.data.iter().flatten().count();
        vec![self.name().into(), text(&self.type_).into(), count.into(), self.age(now)]
    }
}

impl Kind for ServiceAccount {
    const COLUMNS: &'static [Column] =
        &[Column::names(), Column::new("Secrets", "integer", "How many secrets its pods may use."), super::AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), list(&self.secrets).len().into(), self.age(now)]
    }
}
