//! A value becomes a document, in the form that kubectl's users know: sorted keys, lists as deep as their key.

use super::scalar::is_special;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Columns by which each level lies deeper.
const STEP: usize = 2;

/// A document, with a line's end at its end.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        scalar => {
            inline(scalar, STEP, &mut out);
            out.push('\n');
        }
    }
    out
}

/// Lines of a mapping; what comes before the first key is written already.
fn mapping(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (place, (key, value)) in map.iter().enumerate() {
        if place > 0 {
            pad(indent, out);
        }
        // A key is on one line.
        if key.contains('\n') {
            quoted(key, out)
        } else {
            text(key, indent, out)
        };
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                pad(indent + STEP, out);
                mapping(map, indent + STEP, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(indent, out);
                sequence(items, indent, out);
            }
            scalar => {
                out.push(' ');
                inline(scalar, indent + STEP, out);
                out.push('\n');
            }
        }
    }
}

/// Lines of a list; what comes before the first dash is written already.
fn sequence(items: &[Value], indent: usize, out: &mut String) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(map, indent + STEP, out),
            Value::Array(items) if !items.is_empty() => sequence(items, indent + STEP, out),
            scalar => {
                inline(scalar, indent + STEP, out);
                out.push('\n');
            }
        }
    }
}

/// What needs no lines of its own, or brings them; `indent` is that of such lines.
fn inline(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(string) => text(string, indent, out),
        // JSON's words are YAML's.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            out.push_str(&value.to_string());
        }
    }
}

fn text(text: &str, indent: usize, out: &mut String) {
    if text.contains('\n') && is_block(text) {
        block(text, indent, out);
    } else if is_special(text) || text.chars().any(is_unprintable) {
        quoted(text, out);
    } else if is_plain(text) {
        out.push_str(text);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    }
}

/// Whether a text can stand without quotes.
fn is_plain(text: &str) -> bool {
    let indicators = ['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`'];
    let alone = |mark: char| text.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    !text.starts_with(indicators)
        && !['-', '?', ':'].into_iter().any(alone)
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !text.starts_with(' ')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
}

/// Whether a text can be lines as they are: none of them ends in a space, which nobody would see, or has what cannot be seen.
fn is_block(text: &str) -> bool {
    let visible = |c: char| c == '\n' || c == '\t' || !is_unprintable(c);
    let first = text.trim_start_matches('\n');
    text.chars().all(visible)
        && !text.lines().any(|line| line.ends_with([' ', '\t']))
        && !first.starts_with([' ', '\t'])
        && !first.is_empty()
}

fn block(text: &str, indent: usize, out: &mut String) {
    // How many ends of lines there are at the end.
    let chomp = match text.len() - text.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    out.push('|');
    if text.starts_with('\n') {
        let _ = write!(out, "{STEP}");
    }
    out.push_str(chomp);
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            '\r' => write!(out, "\\r"),
            c if !is_unprintable(c) => write!(out, "{c}"),
            c if u32::from(c) <= 0xff => write!(out, "\\x{:02X}", u32::from(c)),
            c if u32::from(c) <= 0xffff => write!(out, "\\u{:04X}", u32::from(c)),
            c => write!(out, "\\U{:08X}", u32::from(c)),
        };
    }
    out.push('"');
}

/// What would be lost or taken for the end of a line.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}
