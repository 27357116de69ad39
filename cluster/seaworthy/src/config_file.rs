//! Configuration files: the same settings as on the command line, in TOML, each under the name of its flag.
//!
//! ```text
//! name = "s1"                                  # --name s1
//! server = ["s1=a:2380,a:6443", "s2=..."]      # --server s1=a:2380,a:6443 --server s2=...
//! ```
//!
//! What the command line says comes before the file. What is wrong is said with the file's name and the line.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use toml::Spanned;

/// What a file may hold for a server.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerFile {
    pub name: Option<Spanned<String>>,
    pub data_dir: Option<Spanned<String>>,
    pub server: Option<Vec<Spanned<String>>>,
    pub listen: Option<Spanned<String>>,
    pub listen_peer: Option<Spanned<String>>,
    pub tls_name: Option<Vec<Spanned<String>>>,
    pub pod_cidr: Option<Spanned<String>>,
    pub token_file: Option<Spanned<String>>,
    pub store_format: Option<Spanned<String>>,
    pub max_requests_inflight: Option<Spanned<String>>,
}

/// What a file may hold for an agent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AgentFile {
    pub node: Option<Spanned<String>>,
    pub data_dir: Option<Spanned<String>>,
    pub server: Option<Vec<Spanned<String>>>,
    pub ip: Option<Spanned<String>>,
    pub token_file: Option<Spanned<String>>,
}

/// A file's text, and what it is called.
#[derive(Debug, Default)]
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// Reads its settings.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        toml::from_str(&self.text).map_err(|error| {
            // Upstream's messages end with the list of what is expected, on one line.
            let what = error.message().replace('\n', " ");
            self.at(error.span().map_or(0, |span| span.start), &what)
        })
    }

    /// A sentence about what is at a byte of the file.
    fn at(&self, byte: usize, what: &dyn Display) -> String {
        let line = self.text.get(..byte).unwrap_or_default().matches('\n').count() + 1;
        format!("{}, line {line}: {what}", self.path)
    }
}

/// A setting from the command line, or from a file.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    pub value: String,
    /// Where in which file it is; nowhere if it is of the command line.
    from: Option<(&'a Source, usize)>,
}

impl<'a> Setting<'a> {
    /// What the flag says, or else the file.
    pub fn of(flag: Option<String>, file: Option<Spanned<String>>, source: &'a Source) -> Option<Self> {
        let of_file = |spanned: Spanned<String>| {
            let at = spanned.span().start;
            Self { value: spanned.into_inner(), from: Some((source, at)) }
        };
        flag.map(|value| Self { value, from: None }).or(file.map(of_file))
    }

    /// What the flags say, or else the file.
    pub fn all(flags: Vec<String>, file: Option<Vec<Spanned<String>>>, source: &'a Source) -> Vec<Self> {
        if flags.is_empty() {
            let listed = file.into_iter().flatten();
            return listed.filter_map(|spanned| Self::of(None, Some(spanned), source)).collect();
        }
        flags.into_iter().filter_map(|flag| Self::of(Some(flag), None, source)).collect()
    }

    /// What it means.
    ///
    /// # Errors
    /// That it means nothing, with the line if it is of a file.
    pub fn read<T, E: Display>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Result<T, String> {
        read(&self.value).map_err(|error| match self.from {
            Some((source, at)) => source.at(at, &error),
            None => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "s1.toml".to_owned(), text: text.to_owned() }
    }

    fn wrong(text: &str) -> String {
        source(text).parse::<ServerFile>().expect_err("it is wrong")
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert!(
            wrong("name = \"a\"\n\nnam = \"b\"\n").starts_with("s1.toml, line 3: unknown field `nam`, expected one of")
        );
        assert!(wrong("name = 7\n").starts_with("s1.toml, line 1: invalid type: integer `7`, expected a string"));
        assert!(
            wrong("name = \"a\"\nserver = [").starts_with("s1.toml, line 2: "),
            "{}",
            wrong("name = \"a\"\nserver = [")
        );
    }

    #[test]
    fn a_value_that_means_nothing_is_said_with_its_line_if_it_is_of_the_file() {
        let source = source("name = \"s1\"\nserver = [\n  \"good\",\n  \"bad\",\n]\n");
        let file: ServerFile = source.parse().unwrap();
        let servers = Setting::all(Vec::new(), file.server, &source);
        let read = |text: &str| if text == "bad" { Err("it is bad") } else { Ok(()) };
        assert_eq!(servers[0].read(read), Ok(()));
        assert_eq!(servers[1].read(read), Err("s1.toml, line 4: it is bad".to_owned()));
        let flags = Setting::all(vec!["bad".to_owned()], None, &source);
        assert_eq!(flags[0].read(read), Err("it is bad".to_owned()));
    }

    #[test]
    fn the_command_line_comes_before_the_file() {
        let source = source("name = \"file\"\n");
        let file: ServerFile = source.parse().unwrap();
        assert_eq!(Setting::of(Some("flag".to_owned()), file.name.clone(), &source).unwrap().value, "flag");
        assert_eq!(Setting::of(None, file.name, &source).unwrap().value, "file");
    }
}
