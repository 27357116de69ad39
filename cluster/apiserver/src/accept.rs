//! What form of answer a client takes, and in what form it sends bodies.

use api::Status;
use api::table::IncludeObject;

/// The media type of YAML.
pub const YAML: &str = "application/yaml";

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    Object,
    /// A Table of this version of `meta.k8s.io`, whose rows carry so much of the object.
    Table(&'static str, IncludeObject),
    /// Metadata alone, in this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// In what a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// One media type that a client takes.
#[derive(Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `application/json`.
    pub name: &'a str,
    /// In thousandths.
    quality: u32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl MediaType<'_> {
    /// A parameter's value; empty if it is absent.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.name {
            "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
            YAML => Some(Encoding::Yaml),
            _ => None,
        }
    }
}

/// Reads an Accept header, best first. An absent one means anything.
pub fn media_types(accept: &str) -> Vec<MediaType<'_>> {
    let accept = if accept.trim().is_empty() { "*/*" } else { accept };
    let mut types: Vec<MediaType<'_>> = accept.split(',').map(media_type).collect();
    // Stable: equal ones stay in the client's order.
    types.sort_by_key(|media| std::cmp::Reverse(media.quality));
    types
}

fn media_type(text: &str) -> MediaType<'_> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let parameters: Vec<(&str, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
        .collect();
    let quality = parameters.iter().find(|(key, _)| *key == "q").map_or(1_000, |(_, value)| thousandths(value));
    MediaType { name, quality, parameters }
}

/// A quality: `1`, `0.9`, at most three digits. What is none counts as 1.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(whole), Ok(fraction)) => (whole.min(1) * 1_000 + fraction).min(1_000),
        _ => 1_000,
    }
}

/// The best form that a client takes and this server has. `convertible`: whether a Table or metadata is possible.
///
/// # Errors
/// 406.
pub fn form(accept: &str, convertible: bool) -> Result<Form, Status> {
    best(accept, convertible, &[Encoding::Json, Encoding::Yaml]).map(|(_, form)| form).ok_or_else(not_acceptable)
}

/// The same of a stream, which YAML has no form for.
///
/// # Errors
/// 406.
pub fn stream_form(accept: &str) -> Result<Form, Status> {
    best(accept, true, &[Encoding::Json]).map(|(_, form)| form).ok_or_else(not_acceptable)
}

/// In what an answer is written, whatever its form.
pub fn encoding(accept: &str) -> Encoding {
    // Nearly nobody takes YAML, so that nearly nothing needs to be read.
    if !accept.contains(YAML) {
        return Encoding::Json;
    }
    best(accept, true, &[Encoding::Json, Encoding::Yaml]).map_or(Encoding::Json, |(encoding, _)| encoding)
}

fn best(accept: &str, convertible: bool, known: &[Encoding]) -> Option<(Encoding, Form)> {
    media_types(accept).iter().find_map(|media| {
        let encoding = media.encoding().filter(|encoding| known.contains(encoding))?;
        Some((encoding, form_of(media, convertible)?))
    })
}

fn not_acceptable() -> Status {
    mark::sometimes!("no form of answer is acceptable");
    let all = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {all}"))
}

impl Form {
    /// The same with rows of a Table that carry what the query parameter `includeObject` says.
    ///
    /// # Errors
    /// 400: a word that means nothing.
    pub fn including(self, include: &str) -> Result<Self, Status> {
        match self {
            Form::Table(version, _) => {
                let known = IncludeObject::parse(include);
                let known =
                    known.ok_or_else(|| Status::bad_request(format!("unrecognized includeObject value: {include}")))?;
                Ok(Form::Table(version, known))
            }
            Form::Object | Form::Metadata(_) => Ok(self),
        }
    }
}

fn form_of(media: &MediaType<'_>, convertible: bool) -> Option<Form> {
    let kind = media.parameter("as");
    if kind.is_empty() {
        return Some(Form::Object);
    }
    let version = ["v1", "v1beta1"].into_iter().find(|version| *version == media.parameter("v"))?;
    match kind {
        _ if !convertible || media.parameter("g") != "meta.k8s.io" => None,
        "Table" => Some(Form::Table(version, IncludeObject::Metadata)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata(version)),
        _ => None,
    }
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// JSON.
    Json,
    /// Kubernetes' protobuf envelope.
    Protobuf,
    /// YAML.
    Yaml,
}

/// The form of a body by its Content-Type; JSON if nothing is said.
///
/// # Errors
/// 415.
pub fn body_form(content_type: &str) -> Result<BodyForm, Status> {
    match media_type(content_type).name {
        "" | "application/json" => Ok(BodyForm::Json),
        "application/vnd.kubernetes.protobuf" => Ok(BodyForm::Protobuf),
        YAML => Ok(BodyForm::Yaml),
        _ => Err(unsupported("application/json, application/yaml, application/vnd.kubernetes.protobuf")),
    }
}

/// The form of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchForm {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge.
    Strategic,
}

/// The form of a patch by its Content-Type.
///
/// # Errors
/// 415.
pub fn patch_form(content_type: &str) -> Result<PatchForm, Status> {
    match media_type(content_type).name {
        "application/json-patch+json" => Ok(PatchForm::Json),
        "application/merge-patch+json" => Ok(PatchForm::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchForm::Strategic),
        _ => Err(unsupported(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
        )),
    }
}

fn unsupported(accepted: &str) -> Status {
    let message =
        format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
    Status::new(415, "UnsupportedMediaType", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_order_and_quality_decide() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(kubectl, true), Ok(Form::Table("v1", IncludeObject::Metadata)));
        assert_eq!(form(kubectl, false), Ok(Form::Object));
        assert_eq!(form("", true), Ok(Form::Object));
        assert_eq!(form("application/vnd.kubernetes.protobuf, */*", true), Ok(Form::Object));
        let worse = "application/json;q=0.5, application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1;q=0.9";
        assert_eq!(form(worse, true), Ok(Form::Metadata("v1")));
    }

    #[test]
    fn what_is_not_here_is_406_or_415() {
        let codes = ["text/html", "application/cbor", "application/json;as=Table;v=v2;g=meta.k8s.io"];
        assert!(codes.iter().all(|accept| form(accept, true).is_err_and(|status| status.code == 406)));
        assert_eq!(body_form("text/yaml").unwrap_err().code, 415);
        assert_eq!(body_form("application/yaml"), Ok(BodyForm::Yaml));
        assert_eq!(body_form("application/json; charset=utf-8"), Ok(BodyForm::Json));
        assert_eq!(patch_form("application/apply-patch+yaml").unwrap_err().code, 415);
    }

    #[test]
    fn yaml_is_written_for_whoever_takes_it_first_and_streams_never_are() {
        let yaml_first = "application/yaml, */*;q=0.5";
        assert_eq!((encoding(yaml_first), form(yaml_first, true)), (Encoding::Yaml, Ok(Form::Object)));
        assert_eq!(encoding("application/json, application/yaml"), Encoding::Json);
        assert_eq!(encoding(""), Encoding::Json);
        assert_eq!(stream_form(yaml_first), Ok(Form::Object));
        assert_eq!(stream_form("application/yaml").unwrap_err().code, 406);
    }
}
