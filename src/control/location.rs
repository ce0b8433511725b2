//! Where each field of a YAML document stands: field path to line and column.
//!
//! A second, cheap pass over the text by events; it is only made for a document that has something wrong with it.

use granit_parser::{Event, Parser};
use std::collections::HashMap;

/// Line and column, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
}

/// The positions of one document's fields.
#[derive(Debug, Default)]
pub(crate) struct Locations(HashMap<String, Position>);

/// A collection that is being read.
enum Open {
    Mapping { path: String, key: Option<String> },
    Sequence { path: String, next: usize },
}

impl Locations {
    /// Reads the positions of `text`, whose first line is line `first_line` of its file. What comes after a syntax
    /// error has none.
    pub(crate) fn of(text: &str, first_line: usize) -> Self {
        let mut found = HashMap::new();
        let mut open: Vec<Open> = Vec::new();
        for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
            let position = Position { line: span.start.line() + first_line - 1, column: span.start.col() + 1 };
            match event {
                Event::Scalar(value, ..) => {
                    if let Some(Open::Mapping { path, key: key @ None }) = open.last_mut() {
                        found.insert(join(path, &value), position);
                        *key = Some(value.into_owned());
                    } else {
                        enter(&mut open, &mut found, position);
                    }
                }
                Event::Alias(_) => drop(enter(&mut open, &mut found, position)),
                Event::SequenceStart(..) => {
                    let path = enter(&mut open, &mut found, position);
                    open.push(Open::Sequence { path, next: 0 });
                }
                Event::MappingStart(..) => {
                    let path = enter(&mut open, &mut found, position);
                    open.push(Open::Mapping { path, key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => drop(open.pop()),
                _ => {}
            }
        }
        Self(found)
    }

    /// The position of `path`, or of the nearest thing around it that is there.
    pub(crate) fn find(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.0.get(path) {
                return Some(*position);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// The path of the value that begins now; advances the collection it is in.
fn enter(open: &mut [Open], found: &mut HashMap<String, Position>, position: Position) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::Mapping { path, key }) => join(path, &key.take().unwrap_or_default()),
        Some(Open::Sequence { path, next }) => {
            let path = format!("{path}[{next}]");
            *next += 1;
            found.insert(path.clone(), position);
            path
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields_in_nested_lists_and_falls_back_to_what_is_around() {
        let text = "spec:\n  rules:\n  - name: a\n    backendRefs:\n    - {name: x, port: 1}\n    - name: y\n";
        let locations = Locations::of(text, 10);
        assert_eq!(locations.find("spec.rules[0].name"), Some(Position { line: 12, column: 5 }));
        assert_eq!(locations.find("spec.rules[0].backendRefs[0].port").map(|p| p.line), Some(14));
        assert_eq!(locations.find("spec.rules[0].backendRefs[1].port").map(|p| p.line), Some(15));
        assert_eq!(locations.find("status"), None);
    }
}
