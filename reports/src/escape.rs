//! Text that comes from records and users, made harmless for the document that it goes into.

use std::fmt::{self, Display, Formatter, Write};

/// For HTML and XML, between tags and within quoted attributes. What XML 1.0 has no way to say is replaced.
pub(crate) fn esc(text: impl Display) -> Escaped {
    Escaped(text.to_string())
}

/// Written escaped.
pub(crate) struct Escaped(String);

impl Display for Escaped {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                '\n' | '\t' => out.write_char(c)?,
                '\u{fffe}' | '\u{ffff}' => out.write_char(char::REPLACEMENT_CHARACTER)?,
                _ if c.is_control() => out.write_char(char::REPLACEMENT_CHARACTER)?,
                _ => out.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// In one line, with single spaces: what XML calls a token.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first `most` characters, and a sign that there were more.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// For Markdown, within a paragraph or a cell of a table: in one line, and nothing in it is markup.
pub(crate) fn md(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // An address becomes a link and a name a mention without any of these signs around them.
            '@' => escaped.push_str("&#64;"),
            ':' => escaped.push_str("&#58;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hostile_survives() {
        let hostile = "</title><script>alert('1' & \"2\")</script>\u{0}\u{1b}[31m\u{ffff}";
        assert_eq!(
            esc(hostile).to_string(),
            "&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;\u{fffd}\u{fffd}[31m\u{fffd}"
        );
        assert_eq!(md("a | b\n# <b>[x](y)* @me"), r"a \| b \# &lt;b&gt;\[x\]\(y\)\* &#64;me");
        assert_eq!(one_line(" a\n\tb  c "), "a b c");
    }

    #[test]
    fn what_is_shortened_says_so_and_cuts_between_characters() {
        assert_eq!(shortened("häher", 3), "häh…");
        assert_eq!(shortened("häh", 3), "häh");
    }
}
