//! Finds the marks in the product's source. Part of the build script.

/// A mark and where it is said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its text.
    pub text: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// The marks said in `source`; a mark that a comment mentions is none.
pub fn marks(source: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for part in code.split("sometimes!(").skip(1) {
            let text = part.trim_start().strip_prefix('"').and_then(|it| it.split('"').next());
            found.extend(text.map(|text| Found { text: text.to_owned(), line: number + 1 }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_mentions_are_not() {
        let source = "//! `sometimes!(\"mentioned\")`\nmark::sometimes!(\"vote granted\"); sometimes!(\"b\");\n  // sometimes!(\"c\")\n";
        let texts: Vec<(usize, String)> = marks(source).into_iter().map(|it| (it.line, it.text)).collect();
        assert_eq!(texts, [(2, "vote granted".to_owned()), (2, "b".to_owned())]);
    }
}
