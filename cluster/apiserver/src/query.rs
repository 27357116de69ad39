//! Query parameters, read with upstream's leniency and refused with upstream's words.

use crate::route;
use api::Status;
use api::meta::v1::{StatusCause, StatusDetails};
use api::selector::{Fields, Labels};
use api::status::FieldError;
use std::collections::BTreeMap;
use std::time::Duration;

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Reads what follows the question mark. What is no text is left out.
    pub fn parse(text: &str) -> Self {
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| route::decode(&text.replace('+', " "));
            if let (Some(key), Some(value)) = (decode(key), decode(value)) {
                parameters.entry(key).or_default().push(value);
            }
        }
        Self(parameters)
    }

    /// The first of a name; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// All of a name.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// As upstream reads truth: present and neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.text(name).to_ascii_lowercase().as_str(), "false" | "0")
    }

    /// A number, if there is one.
    ///
    /// # Errors
    /// 400: it is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }

    /// Whether it is a dry run.
    ///
    /// # Errors
    /// 422: anything but `All`.
    pub fn dry_run(&self, options: &str) -> Result<bool, Status> {
        check_dry_run(self.all("dryRun"), options)
    }

    /// What is to happen with fields that the schema lacks.
    ///
    /// # Errors
    /// 422: a word that is none of those.
    pub fn field_validation(&self, options: &str) -> Result<FieldValidation, Status> {
        match self.text("fieldValidation") {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Ignore" => Ok(FieldValidation::Ignore),
            "Strict" => Ok(FieldValidation::Strict),
            other => {
                let allowed = ["", "Ignore", "Strict", "Warn"];
                let error = FieldError::not_supported("fieldValidation", format!("{other:?}"), &allowed);
                Err(invalid_options(options, &[error]))
            }
        }
    }
}

/// What happens with fields that the schema lacks or that stand twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the answer warns.
    Warn,
    /// The request is refused.
    Strict,
}

/// Whether a list of dry run directives asks for a dry run.
///
/// # Errors
/// 422: anything but `All`.
pub fn check_dry_run(directives: &[String], options: &str) -> Result<bool, Status> {
    match directives.iter().find(|directive| *directive != "All") {
        None => Ok(!directives.is_empty()),
        Some(other) => {
            let error = FieldError::not_supported("dryRun", format!("{other:?}"), &["All"]);
            Err(invalid_options(options, &[error]))
        }
    }
}

/// 422 about the options of a request rather than an object.
pub fn invalid_options(kind: &str, errors: &[FieldError]) -> Status {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let text = if let [only] = &texts[..] { only.clone() } else { format!("[{}]", texts.join(", ")) };
    let mut status = Status::new(422, "Invalid", format!("{kind}.meta.k8s.io \"\" is invalid: {text}"));
    let cause = |error: &FieldError| StatusCause {
        field: Some(error.field.clone()),
        message: Some(error.message.clone()),
        reason: Some(error.reason.to_owned()),
    };
    status.details = Box::new(StatusDetails {
        group: Some("meta.k8s.io".to_owned()),
        kind: Some(kind.to_owned()),
        causes: Some(errors.iter().map(cause).collect()),
        ..StatusDetails::default()
    });
    status
}

/// How the version asked for is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    /// As the rest of the request implies.
    #[default]
    Unset,
    /// This very version.
    Exact,
    /// This version or any later one.
    NotOlderThan,
}

/// The version asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AskedVersion {
    /// The current one.
    #[default]
    Current,
    /// Any: `0`.
    Any,
    /// This one.
    At(i64),
}

impl AskedVersion {
    /// Reads a version of the query.
    ///
    /// # Errors
    /// 400: it is no version.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" => Ok(Self::Current),
            "0" => Ok(Self::Any),
            text => match text.parse::<i64>() {
                Ok(version) if version > 0 => Ok(Self::At(version)),
                Ok(_) | Err(_) => Err(Status::bad_request(format!(
                    "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))),
            },
        }
    }
}

/// `ListOptions` of a list or a watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Which labels.
    pub labels: Labels,
    /// Which fields.
    pub fields: Fields,
    /// Whether to watch instead of to list.
    pub watch: bool,
    /// Whether a watch gets bookmarks.
    pub bookmarks: bool,
    /// From which version.
    pub version: AskedVersion,
    /// How that is meant.
    pub version_match: VersionMatch,
    /// A watch ends after this long.
    pub timeout: Option<Duration>,
    /// A list has at most so many items; 0 for all.
    pub limit: usize,
    /// Where the page before ended.
    pub page: String,
    /// Whether a watch begins with the current state, if that was said.
    pub initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads them.
    ///
    /// # Errors
    /// 400 for what cannot be understood, 422 for what does not go together.
    pub fn parse(query: &Query, legacy_watch: bool) -> Result<Self, Status> {
        let labels = Labels::parse(query.text("labelSelector"));
        let fields = Fields::parse(query.text("fieldSelector"));
        let watch = query.flag("watch") || legacy_watch;
        check_versions(query, watch)?;
        Ok(Self {
            labels: labels.map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?,
            fields: fields.map_err(|error| Status::bad_request(error.to_string()))?,
            watch,
            bookmarks: query.flag("allowWatchBookmarks"),
            version: AskedVersion::parse(query.text("resourceVersion"))?,
            version_match: match query.text("resourceVersionMatch") {
                "Exact" => VersionMatch::Exact,
                "NotOlderThan" => VersionMatch::NotOlderThan,
                _ => VersionMatch::Unset,
            },
            timeout: query
                .number("timeoutSeconds")?
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
            limit: query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default(),
            page: query.text("continue").to_owned(),
            initial_events: query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents")),
        })
    }

    /// Whether every object is meant.
    pub fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

/// What of the versions, their match and the initial events does not go together.
fn check_versions(query: &Query, watch: bool) -> Result<(), Status> {
    const MATCH: &str = "resourceVersionMatch";
    let matching = query.text(MATCH);
    let mut errors = Vec::new();
    if watch {
        if query.has("sendInitialEvents") && matching != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !matching.is_empty() && !query.has("sendInitialEvents") {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !matching.is_empty() && matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(MATCH, format!("{matching:?}"), &["NotOlderThan"]));
        }
    } else {
        if !matching.is_empty() && query.text("resourceVersion").is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !matches!(matching, "" | "Exact" | "NotOlderThan") {
            let allowed = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::not_supported(MATCH, format!("{matching:?}"), &allowed));
        }
        if matching == "Exact" && query.text("resourceVersion") == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if query.has("sendInitialEvents") {
            errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
    }
    if !matching.is_empty() && !query.text("continue").is_empty() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid_options("ListOptions", &errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(query: &str, expected: Expect) {
        let shown = match ListOptions::parse(&Query::parse(query), false) {
            Ok(options) => format!(
                "{} {:?} {:?} limit={} initial={:?}",
                if options.watch { "watch" } else { "list" },
                options.version,
                options.version_match,
                options.limit,
                options.initial_events
            ),
            Err(status) => format!("{} {}", status.code, status.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn options_are_read() {
        check("", expect!["list Current Unset limit=0 initial=None"]);
        check("limit=500&resourceVersion=0", expect!["list Any Unset limit=500 initial=None"]);
        check("watch=true&resourceVersion=7", expect!["watch At(7) Unset limit=0 initial=None"]);
        check(
            "watch&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            expect!["watch Current NotOlderThan limit=0 initial=Some(true)"],
        );
        check("watch=0", expect!["list Current Unset limit=0 initial=None"]);
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_upstreams_words() {
        check("limit=x", expect![[r#"400 strconv.ParseInt: parsing "x": invalid syntax"#]]);
        check(
            "resourceVersion=x",
            expect![[r#"400 resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#]],
        );
        check(
            "resourceVersionMatch=Exact",
            expect![[
                r#"422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"#
            ]],
        );
        check(
            "watch=1&sendInitialEvents=true",
            expect![[
                r#"422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"#
            ]],
        );
    }
}
