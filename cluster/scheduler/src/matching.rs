//! Selectors of labels and of nodes, compiled once per pod so that a cycle over a thousand nodes only compares.

use api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use api::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// One condition on a set of labels, or on a node's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Above(i64),
    Below(i64),
}

impl Requirement {
    /// The key has this value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), test: Test::In(vec![value.to_owned()]) }
    }

    /// The key lacks this value; a missing key does so.
    pub fn differs(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), test: Test::NotIn(vec![value.to_owned()]) }
    }

    /// `None` for an operator that nobody knows, and for a bound that is no number: such a requirement is the user's
    /// mistake, and whoever holds it matches nothing.
    fn parse(key: &str, operator: &str, values: Option<&Vec<String>>) -> Option<Self> {
        let values = values.cloned().unwrap_or_default();
        let bound = |values: &[String]| if let [only] = values { only.parse::<i64>().ok() } else { None };
        let test = match operator {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => Test::Above(bound(&values)?),
            "Lt" => Test::Below(bound(&values)?),
            _ => return None,
        };
        Some(Self { key: key.to_owned(), test })
    }

    fn matches(&self, labels: &Labels) -> bool {
        self.accepts(labels.get(&self.key).map(String::as_str))
    }

    fn accepts(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|it| it == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|it| it != value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// A selector of labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// None was given, or it is malformed: nothing matches.
    Nothing,
    /// All requirements hold; without any, everything matches.
    All(Vec<Requirement>),
}

impl Selector {
    /// Compiles a selector; `None` matches nothing, an empty one everything.
    pub fn new(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::Nothing };
        let equal = selector.match_labels.iter().flatten().map(|(key, value)| Some(Requirement::equals(key, value)));
        let other = selector.match_expressions.iter().flatten();
        let other = other.map(|it| match it.operator.as_str() {
            "Gt" | "Lt" => None,
            operator => Requirement::parse(&it.key, operator, it.values.as_ref()),
        });
        equal.chain(other).collect::<Option<Vec<_>>>().map_or(Self::Nothing, Self::All)
    }

    /// The same with one requirement more.
    pub fn and(&mut self, requirement: Requirement) {
        match self {
            Self::Nothing => {}
            Self::All(all) if all.contains(&requirement) => {}
            Self::All(all) => all.push(requirement),
        }
    }

    /// Whether it is there and has no requirement.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }

    /// Whether the labels match.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(all) => all.iter().all(|it| it.matches(labels)),
        }
    }
}

/// A term of a node selector: all of it must hold. One without any requirement matches no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    name: Vec<Requirement>,
    malformed: bool,
}

impl NodeTerm {
    /// Compiles a term.
    pub fn new(term: &NodeSelectorTerm) -> Self {
        let parse = |it: &NodeSelectorRequirement| Requirement::parse(&it.key, &it.operator, it.values.as_ref());
        let labels: Option<Vec<_>> = term.match_expressions.iter().flatten().map(parse).collect();
        let field = |it: &NodeSelectorRequirement| (it.key == "metadata.name").then(|| parse(it)).flatten();
        let name: Option<Vec<_>> = term.match_fields.iter().flatten().map(field).collect();
        let malformed = labels.is_none() || name.is_none();
        Self { labels: labels.unwrap_or_default(), name: name.unwrap_or_default(), malformed }
    }

    /// Whether a node matches.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let empty = self.labels.is_empty() && self.name.is_empty();
        !self.malformed
            && !empty
            && self.labels.iter().all(|it| it.matches(labels))
            && self.name.iter().all(|it| it.accepts(Some(name)))
    }
}

/// What a pod requires of a node: its `nodeSelector` and its required node affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRequirement {
    labels: Labels,
    /// One of these, if there are any to be met.
    terms: Option<Vec<NodeTerm>>,
}

impl NodeRequirement {
    /// Compiles both.
    pub fn new(labels: Option<&Labels>, required: Option<&NodeSelector>) -> Self {
        let terms = required.map(|it| it.node_selector_terms.iter().map(NodeTerm::new).collect());
        Self { labels: labels.cloned().unwrap_or_default(), terms }
    }

    /// Whether a node will do.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::meta::v1::LabelSelectorRequirement;

    fn labels(text: &str) -> Labels {
        text.split_whitespace().filter_map(|it| it.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    fn term(key: &str, operator: &str, values: &str) -> NodeTerm {
        let values = (!values.is_empty()).then(|| values.split(',').map(str::to_owned).collect());
        let requirement = NodeSelectorRequirement { key: key.into(), operator: operator.into(), values };
        let (fields, expressions) =
            if key == "metadata.name" { (Some(vec![requirement]), None) } else { (None, Some(vec![requirement])) };
        NodeTerm::new(&NodeSelectorTerm { match_expressions: expressions, match_fields: fields })
    }

    #[test]
    fn each_operator_of_a_node_selector_decides_as_upstream() {
        let node = labels("zone=a cores=8");
        let holds = |key, operator, values| term(key, operator, values).matches("n1", &node);
        assert!(holds("zone", "In", "a,b") && !holds("zone", "In", "b") && !holds("disk", "In", "ssd"));
        assert!(holds("zone", "NotIn", "b") && !holds("zone", "NotIn", "a") && holds("disk", "NotIn", "ssd"));
        assert!(holds("zone", "Exists", "") && !holds("disk", "Exists", ""));
        assert!(!holds("zone", "DoesNotExist", "") && holds("disk", "DoesNotExist", ""));
        assert!(holds("cores", "Gt", "7") && !holds("cores", "Gt", "8") && !holds("zone", "Gt", "1"));
        assert!(holds("cores", "Lt", "9") && !holds("cores", "Lt", "8") && !holds("disk", "Lt", "8"));
        assert!(holds("metadata.name", "In", "n1") && !holds("metadata.name", "NotIn", "n1"));
        assert!(!holds("zone", "Near", "a") && !holds("cores", "Gt", "many"));
    }

    #[test]
    fn a_term_without_requirements_matches_no_node_and_no_terms_no_node() {
        assert!(!NodeTerm::new(&NodeSelectorTerm::default()).matches("n1", &Labels::new()));
        assert!(!NodeRequirement::new(None, Some(&NodeSelector::default())).matches("n1", &Labels::new()));
        assert!(NodeRequirement::new(None, None).matches("n1", &Labels::new()));
    }

    #[test]
    fn no_selector_matches_nothing_and_an_empty_one_everything() {
        assert!(!Selector::new(None).matches(&labels("a=b")));
        assert!(Selector::new(Some(&LabelSelector::default())).matches(&labels("a=b")));
        let bad = LabelSelectorRequirement { key: "a".into(), operator: "Gt".into(), values: Some(vec!["1".into()]) };
        let bad = LabelSelector { match_expressions: Some(vec![bad]), match_labels: None };
        assert!(!Selector::new(Some(&bad)).matches(&labels("a=2")));
    }
}
