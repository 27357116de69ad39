//! Reads the text of a label selector, with upstream's grammar and words.

use super::{Operator, Requirement};
use crate::meta::v1::LabelSelectorRequirement;
use crate::names;
use std::collections::BTreeSet;

/// Why a text or an object's selector is none; the message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// What may stand between a key and its values; the order is that of upstream's messages.
const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Signs that make no operator.
    Wrong,
    End,
    Close,
    Open,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Identifier,
}

struct Item {
    token: Token,
    text: String,
}

/// Cuts the text into tokens. Bytes that are no token become part of identifiers, which are validated later.
fn scan(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        // Upstream's scanner takes a zero byte for the end of the text.
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next().filter(|first| *first != '\0') else {
            items.push(Item { token: Token::End, text: String::new() });
            return items;
        };
        let (item, length) = if is_special(first) { scan_special(rest) } else { scan_word(rest) };
        items.push(item);
        rest = &rest[length..];
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn scan_special(text: &str) -> (Item, usize) {
    const SIGNS: [(&str, Token); 9] = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        (")", Token::Close),
        ("(", Token::Open),
        (",", Token::Comma),
        ("!", Token::Not),
        ("=", Token::Equals),
        (">", Token::Greater),
        ("<", Token::Less),
    ];
    match SIGNS.iter().find(|(sign, _)| text.starts_with(sign)) {
        Some((sign, token)) => (Item { token: *token, text: (*sign).to_owned() }, sign.len()),
        None => (Item { token: Token::Wrong, text: text.to_owned() }, text.len()),
    }
}

fn scan_word(text: &str) -> (Item, usize) {
    let end = |c: char| is_special(c) || matches!(c, ' ' | '\t' | '\r' | '\n' | '\0');
    let word = &text[..text.find(end).unwrap_or(text.len())];
    let token = match word {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    };
    (Item { token, text: word.to_owned() }, word.len())
}

/// The conditions in the order of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { items: scan(text), place: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek_value() {
            Token::Identifier | Token::Not => {
                let requirement = parser
                    .requirement()
                    .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
                requirements.push(requirement);
                match parser.next_value() {
                    (Token::End, _) => return Ok(requirements),
                    (Token::Comma, _) => {
                        let next = parser.peek_value();
                        if next != Token::Identifier && next != Token::Not {
                            return Err(parser.found("expected: identifier after ','"));
                        }
                    }
                    (_, text) => {
                        return Err(SelectorError(format!("found '{text}', expected: ',' or 'end of string'")));
                    }
                }
            }
            Token::End => return Ok(requirements),
            _ => return Err(parser.found("expected: !, identifier, or 'end of string'")),
        }
    }
}

/// Walks over the tokens; past the end there is nothing but the end.
struct Parser {
    items: Vec<Item>,
    place: usize,
}

impl Parser {
    fn current(&self) -> &Item {
        // `scan` always ends with an `End`, so there is a last item.
        &self.items[self.place.min(self.items.len() - 1)]
    }
    /// The token here; a keyword is a plain word where a value may stand.
    fn peek_value(&self) -> Token {
        as_value(self.current().token)
    }
    fn next(&mut self) -> (Token, String) {
        let item = self.current();
        let found = (item.token, item.text.clone());
        self.place += 1;
        found
    }
    fn next_value(&mut self) -> (Token, String) {
        let (token, text) = self.next();
        (as_value(token), text)
    }
    fn found(&self, expected: &str) -> SelectorError {
        SelectorError(format!("found '{}', {expected}", self.current().text))
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next_value();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next_value();
        }
        if token != Token::Identifier {
            return Err(SelectorError(format!("found '{key}', expected: identifier")));
        }
        check_key(&key, "<nil>")?;
        if negated {
            return new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek_value(), Token::End | Token::Comma) {
            return new(key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            Operator::Equals
            | Operator::DoubleEquals
            | Operator::NotEquals
            | Operator::GreaterThan
            | Operator::LessThan
            | Operator::Exists
            | Operator::DoesNotExist => vec![self.exact_value()?],
        };
        new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        let (token, text) = self.next();
        match token {
            Token::In => Ok(Operator::In),
            Token::NotIn => Ok(Operator::NotIn),
            Token::Equals => Ok(Operator::Equals),
            Token::DoubleEquals => Ok(Operator::DoubleEquals),
            Token::NotEquals => Ok(Operator::NotEquals),
            Token::Greater => Ok(Operator::GreaterThan),
            Token::Less => Ok(Operator::LessThan),
            Token::Wrong | Token::End | Token::Close | Token::Open | Token::Comma | Token::Not | Token::Identifier => {
                Err(SelectorError(format!("found '{text}', expected: {BINARY_OPERATORS}")))
            }
        }
    }

    /// `(a,b)`, in which any value may be empty.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let (token, text) = self.next_value();
        if token != Token::Open {
            return Err(SelectorError(format!("found '{text}' expected: '('")));
        }
        match self.peek_value() {
            Token::Close => {
                self.next();
                Ok(vec![String::new()])
            }
            Token::Identifier | Token::Comma => self.list(),
            _ => Err(self.found("expected: ',', ')' or identifier")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.next_value() {
                (Token::Identifier, text) => {
                    values.insert(text);
                    match self.peek_value() {
                        Token::Comma => {}
                        Token::Close => break,
                        _ => return Err(self.found("expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek_value() {
                        Token::Close => {
                            values.insert(String::new());
                            break;
                        }
                        Token::Comma => {
                            self.next();
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return Err(SelectorError(format!("found '{text}', expected: ',', or identifier"))),
            }
        }
        self.next();
        Ok(values.into_iter().collect())
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek_value(), Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next_value() {
            (Token::Identifier, text) => Ok(text),
            (_, text) => Err(SelectorError(format!("found '{text}', expected: identifier"))),
        }
    }
}

fn as_value(token: Token) -> Token {
    if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { token }
}

fn check_key(key: &str, path: &str) -> Result<(), SelectorError> {
    let errors = names::qualified_name(key);
    if errors.is_empty() {
        return Ok(());
    }
    Err(SelectorError(format!("{path}: Invalid value: {key:?}: {}", errors.join("; "))))
}

fn new(key: String, operator: Operator, values: Vec<String>) -> Result<Requirement, SelectorError> {
    let mut errors = Vec::new();
    if let Err(error) = check_key(&key, "key") {
        errors.push(error.0);
    }
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        for (place, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
            errors.push(format!(
                "values[{place}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ));
        }
    }
    for (place, value) in values.iter().enumerate() {
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(format!("values[{place}][{key}]: Invalid value: {value:?}: {}", wrong.join("; ")));
        }
    }
    match errors.len() {
        0 => Ok(Requirement { key, operator, values }),
        1 => Err(SelectorError(errors.remove(0))),
        _ => Err(SelectorError(format!("[{}]", errors.join(", ")))),
    }
}

/// A condition of an object's selector.
pub(super) fn expression(expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    let values: BTreeSet<&String> = expression.values.iter().flatten().collect();
    let listed = matches!(operator, Operator::In | Operator::NotIn);
    if listed && values.is_empty() {
        let why = "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty";
        return Err(SelectorError(why.to_owned()));
    }
    if !listed && !values.is_empty() {
        let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let why = "values set must be empty for exists and does not exist";
        return Err(SelectorError(format!("values: Invalid value: [{}]: {why}", shown.join(","))));
    }
    new(expression.key.clone(), operator, values.into_iter().cloned().collect())
}
