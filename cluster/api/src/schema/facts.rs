//! Reads the table of types into memory, once.

use super::{Emit, Field, Kind, ListType, Type, TypeId};
use std::collections::BTreeMap;
use std::sync::OnceLock;

static TABLE: &str = include_str!("../../facts/types.tsv");

/// The names of the table's columns, in their order: a table of another shape is refused.
const COLUMNS: [&str; 14] = [
    "type",
    "field",
    "kind",
    "req",
    "listType",
    "listMapKeys",
    "structType",
    "patchStrategy",
    "patchMergeKey",
    "default",
    "enum",
    "emit",
    "pnum",
    "wire",
];

struct Facts {
    types: Vec<Type>,
    ids: BTreeMap<&'static str, TypeId>,
}

fn facts() -> &'static Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    FACTS.get_or_init(|| read(TABLE))
}

pub(super) fn get(id: TypeId) -> &'static Type {
    // Ids come from the table itself.
    &facts().types[usize::from(id.0)]
}

/// A type by its full name.
pub fn find(name: &str) -> Option<&'static Type> {
    facts().ids.get(name).map(|id| get(*id))
}

fn read(table: &'static str) -> Facts {
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    assert_eq!(head, COLUMNS, "facts/types.tsv is made by facts/cut.py");
    let rows: Vec<Vec<&'static str>> = lines.map(|line| line.split('\t').collect()).collect();
    let mut ids = BTreeMap::new();
    for row in &rows {
        let next = TypeId(u16::try_from(ids.len()).expect("a few hundred types"));
        ids.entry(row[0]).or_insert(next);
    }
    let mut types: Vec<Type> = ids.keys().map(|name| empty(name)).collect();
    // Rows are sorted by type, so ids are in the order of the names, as is the list of types.
    for row in &rows {
        let id = ids[row[0]];
        let ty = &mut types[usize::from(id.0)];
        if row[1] == "." {
            ty.kind = if row[2] == "object" { Kind::Object(id) } else { kind(row[2], &ids) };
            ty.atomic = row[6] == "atomic";
        } else {
            ty.fields.push(field(row, &ids));
        }
    }
    for ty in &mut types {
        ty.fields.sort_by(|a, b| a.name.cmp(b.name));
    }
    Facts { types, ids }
}

fn empty(name: &'static str) -> Type {
    Type { name, kind: Kind::Raw, atomic: false, fields: Vec::new() }
}

fn field(row: &[&'static str], ids: &BTreeMap<&'static str, TypeId>) -> Field {
    let present = |text: &'static str| (text != "-").then_some(text);
    let strategies = || row[7].split(',');
    Field {
        name: row[1],
        kind: kind(row[2], ids),
        required: row[3] == "1",
        list_type: match row[4] {
            "map" => ListType::Map,
            "set" => ListType::Set,
            _ => ListType::Atomic,
        },
        list_map_keys: present(row[5]).map(|keys| keys.split(',').collect()).unwrap_or_default(),
        atomic: row[6] == "atomic",
        merge: strategies().any(|strategy| strategy == "merge"),
        retain_keys: strategies().any(|strategy| strategy == "retainKeys"),
        replace: strategies().any(|strategy| strategy == "replace"),
        merge_key: present(row[8]),
        default: present(row[9]).map(|text| serde_json::from_str(text).expect("defaults are JSON")),
        enums: present(row[10]).map(|values| values.split('|').collect()).unwrap_or_default(),
        emit: match row[11] {
            "a" => Emit::Always,
            "o" => Emit::OmitEmpty,
            "n" => Emit::Nullable,
            _ => Emit::Pointer,
        },
        number: present(row[12]).map(numbers).unwrap_or_default(),
        wrapped: row[13] == "!wrap",
        envelope: row[13] == "@",
    }
}

fn numbers(text: &str) -> Vec<u32> {
    text.split('.').map(|number| number.parse().expect("numbers of fields are numbers")).collect()
}

fn kind(text: &str, ids: &BTreeMap<&'static str, TypeId>) -> Kind {
    if let Some(element) = text.strip_prefix("list:") {
        return Kind::List(Box::new(kind(element, ids)));
    }
    if let Some(element) = text.strip_prefix("map:") {
        return Kind::Map(Box::new(kind(element, ids)));
    }
    if let Some(name) = text.strip_prefix("object:") {
        return Kind::Object(*ids.get(name).unwrap_or_else(|| panic!("{name} is not in facts/types.tsv")));
    }
    match text {
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "bool" => Kind::Bool,
        "double" => Kind::Double,
        "quantity" => Kind::Quantity,
        "time" => Kind::Time,
        "microtime" => Kind::MicroTime,
        "duration" => Kind::Duration,
        "intorstring" => Kind::IntOrString,
        "fieldsv1" => Kind::FieldsV1,
        _ => Kind::Raw,
    }
}
