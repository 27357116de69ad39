//! Objects and lists in the form that a client asked for.

use crate::accept::Form;
use crate::list::{Page, list_metadata};
use crate::model;
use crate::reply::Reply;
use crate::stored::{Stored, meta, write};
use api::table::{Row, partial_metadata, render};
use api::{Resource, Status, Timestamp};
use serde_json::{Map, Value, json};

/// One object.
///
/// # Errors
/// 500: it cannot be read.
pub fn reply_object(code: u16, stored: &Stored, form: Form, now: Timestamp) -> Result<Reply, Status> {
    match form {
        Form::Object => Ok(Reply::json(code, stored.to_json()?)),
        Form::Table(..) | Form::Metadata(_) => Ok(Reply::value(code, &converted(stored, form, true, now)?)),
    }
}

/// An object of an event or an answer as a Table or as metadata.
///
/// # Errors
/// 500: it cannot be read.
pub fn converted(stored: &Stored, form: Form, headers: bool, now: Timestamp) -> Result<Value, Status> {
    let object = stored.decode()?;
    Ok(match form {
        Form::Object => object,
        Form::Metadata(version) => of_version(partial_metadata(&object), version),
        Form::Table(version, include) => {
            let metadata = json!({"resourceVersion": meta(&object, "resourceVersion").cloned().unwrap_or_default()});
            let cells = model::row(stored.resource, &object, now);
            let rows = [Row { cells, object: &object }];
            let columns = model::columns(stored.resource);
            of_version(render(columns, headers, &rows, metadata, include), version)
        }
    })
}

/// A list.
///
/// # Errors
/// 500: one of its objects cannot be read.
pub fn reply_list(resource: &'static Resource, page: &Page, form: Form, now: Timestamp) -> Result<Reply, Status> {
    let metadata = list_metadata(page);
    match form {
        Form::Object => whole_list(resource, page, &metadata),
        Form::Metadata(version) => {
            let items: Result<Vec<Value>, Status> =
                page.items.iter().map(|stored| Ok(of_version(partial_metadata(&stored.decode()?), version))).collect();
            Ok(Reply::value(
                200,
                &json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": metadata,
                    "items": items?,
                }),
            ))
        }
        Form::Table(version, include) => {
            let objects: Result<Vec<Value>, Status> = page.items.iter().map(Stored::decode).collect();
            let objects = objects?;
            let row = |object| Row { cells: model::row(resource, object, now), object };
            let rows: Vec<Row<'_>> = objects.iter().map(row).collect();
            let columns = model::columns(resource);
            let table = render(columns, true, &rows, Value::Object(metadata), include);
            Ok(Reply::value(200, &of_version(table, version)))
        }
    }
}

fn whole_list(resource: &'static Resource, page: &Page, metadata: &Map<String, Value>) -> Result<Reply, Status> {
    let size: usize = page.items.iter().map(|stored| stored.value().len() + 40).sum();
    let mut out = Vec::with_capacity(size + 256);
    let head =
        format!("{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":", resource.kind, resource.api_version());
    out.extend_from_slice(head.as_bytes());
    write(metadata, &mut out);
    out.extend_from_slice(b",\"items\":[");
    for (place, stored) in page.items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        stored.write_item(&mut out)?;
    }
    out.extend_from_slice(b"]}");
    Ok(Reply::json(200, out))
}

/// The same in another version of `meta.k8s.io`, which differs in name alone.
fn of_version(mut value: Value, version: &str) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), format!("meta.k8s.io/{version}").into());
    }
    value
}
