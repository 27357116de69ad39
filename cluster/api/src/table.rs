//! Tables: what `kubectl get` shows, `meta.k8s.io/v1` Table, made on the server so that clients need not know the kinds.

use crate::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

/// A column; its cells stand at the same place in every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// A finer word on the type: `name` for the column that names the object, else empty.
    pub format: &'static str,
    /// What it shows, for people.
    pub description: &'static str,
    /// 0 is always shown, more only where there is room (`-o wide`).
    pub priority: i32,
}

impl Column {
    /// A column that is always shown.
    pub const fn new(name: &'static str, kind: &'static str, description: &'static str) -> Self {
        Self { name, kind, format: "", description, priority: 0 }
    }
    /// A column that only `-o wide` shows.
    pub const fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Self {
        Self { name, kind, format: "", description, priority: 1 }
    }
    /// The column of names.
    pub const fn names() -> Self {
        Self { name: "Name", kind: "string", format: "name", description: "Name of the object.", priority: 0 }
    }

    fn definition(&self) -> Value {
        let mut map = Map::new();
        map.insert("name".to_owned(), self.name.into());
        map.insert("type".to_owned(), self.kind.into());
        map.insert("format".to_owned(), self.format.into());
        map.insert("description".to_owned(), self.description.into());
        map.insert("priority".to_owned(), self.priority.into());
        Value::Object(map)
    }
}

/// How much of the object a row carries; the query parameter `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as PartialObjectMetadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// One row: the cells in the order of the columns, and the object they were made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// One cell for each column.
    pub cells: Vec<Value>,
    /// The object as JSON, with its `apiVersion` and `kind`.
    pub object: &'a Value,
}

/// The Table. `metadata` is that of the list (or `{}` with the object's version, for a single object). Without `headers`
/// the definitions of the columns are left out, as in every event of a watch but the first.
pub fn render(columns: &[Column], headers: bool, rows: &[Row<'_>], metadata: Value, include: IncludeObject) -> Value {
    let mut table = Map::new();
    table.insert("kind".to_owned(), "Table".into());
    table.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    table.insert("metadata".to_owned(), metadata);
    let definitions = if headers { columns.iter().map(Column::definition).collect() } else { Value::Null };
    table.insert("columnDefinitions".to_owned(), definitions);
    table.insert("rows".to_owned(), rows.iter().map(|row| render_row(row, include)).collect());
    Value::Object(table)
}

fn render_row(row: &Row<'_>, include: IncludeObject) -> Value {
    let object = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial_metadata(row.object),
        IncludeObject::Object => row.object.clone(),
    };
    let mut map = Map::new();
    map.insert("cells".to_owned(), Value::Array(row.cells.clone()));
    map.insert("object".to_owned(), object);
    Value::Object(map)
}

/// The object reduced to its metadata, as `meta.k8s.io/v1` PartialObjectMetadata.
pub fn partial_metadata(object: &Value) -> Value {
    let mut map = Map::new();
    map.insert("kind".to_owned(), "PartialObjectMetadata".into());
    map.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    map.insert("metadata".to_owned(), object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new())));
    Value::Object(map)
}

/// The age of something since `then`; unknown if nobody knows when it began.
pub fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "<unknown>".to_owned(), |then| human_duration(now.duration_since(then)))
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A length of time as kubectl prints it: two units at most, the second only while it matters.
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    // Clocks differ: a beginning that lies less than two seconds ahead is now.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    if seconds < 2 * MINUTE {
        format!("{seconds}s")
    } else if seconds < 10 * MINUTE {
        two(seconds / MINUTE, "m", seconds % MINUTE, "s")
    } else if seconds < 3 * HOUR {
        format!("{}m", seconds / MINUTE)
    } else if seconds < 8 * HOUR {
        two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m")
    } else if seconds < 2 * DAY {
        format!("{}h", seconds / HOUR)
    } else if seconds < 8 * DAY {
        two(seconds / DAY, "d", seconds % DAY / HOUR, "h")
    } else if seconds < 2 * YEAR {
        format!("{}d", seconds / DAY)
    } else if seconds < 8 * YEAR {
        two(seconds / YEAR, "y", seconds % YEAR / DAY, "d")
    } else {
        format!("{}y", seconds / YEAR)
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (10 * MINUTE - 1, "9m59s"),
            (10 * MINUTE + 1, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + MINUTE, "3h1m"),
            (8 * HOUR + MINUTE, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + HOUR, "2d1h"),
            (8 * DAY + HOUR, "8d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + DAY, "2y1d"),
            (8 * YEAR + DAY, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), text, "{seconds}");
        }
        assert_eq!(human_duration(SignedDuration::from_millis(-1_999)), "0s");
        assert_eq!(age(None, Timestamp::UNIX_EPOCH), "<unknown>");
        assert_eq!(age(Some(Timestamp::UNIX_EPOCH), Timestamp::from_second(75).expect("in range")), "75s");
    }

    #[test]
    fn a_row_carries_as_much_of_the_object_as_was_asked_for() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}});
        let columns = [Column::names(), Column::wide("IP", "string", "Address.")];
        let rows = [Row { cells: vec!["a".into(), "10.0.0.1".into()], object: &pod }];
        let metadata = json!({"resourceVersion": "7"});
        let shown = |include| render(&columns, true, &rows, metadata.clone(), include);
        assert_eq!(shown(IncludeObject::None)["rows"][0]["object"], Value::Null);
        assert_eq!(shown(IncludeObject::Object)["rows"][0]["object"], pod);
        let bare = render(&columns, false, &rows, metadata.clone(), IncludeObject::None);
        assert_eq!(bare["columnDefinitions"], Value::Null);
        expect![[r#"
            {
              "apiVersion": "meta.k8s.io/v1",
              "columnDefinitions": [
                {
                  "description": "Name of the object.",
                  "format": "name",
                  "name": "Name",
                  "priority": 0,
                  "type": "string"
                },
                {
                  "description": "Address.",
                  "format": "",
                  "name": "IP",
                  "priority": 1,
                  "type": "string"
                }
              ],
              "kind": "Table",
              "metadata": {
                "resourceVersion": "7"
              },
              "rows": [
                {
                  "cells": [
                    "a",
                    "10.0.0.1"
                  ],
                  "object": {
                    "apiVersion": "meta.k8s.io/v1",
                    "kind": "PartialObjectMetadata",
                    "metadata": {
                      "name": "a"
                    }
                  }
                }
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&shown(IncludeObject::Metadata)).expect("plain JSON"));
    }
}
