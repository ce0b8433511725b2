//! What is wrong with a file, in the words a user needs: where it stands, which object and field, what to change.

use super::Position;
use std::fmt;
use std::sync::Arc;

/// Kind, namespace and name of an object; the namespace is empty for a cluster-scoped one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Something in a file that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as given.
    pub file: Arc<str>,
    /// Where in the file, if known.
    pub position: Option<Position>,
    /// The object, if its name could be read.
    pub object: Option<ObjectName>,
    /// Path of the field, empty when it is the document as a whole.
    pub field: String,
    /// What is wrong and what to change.
    pub message: String,
    /// Whether it is only worth knowing: what it speaks of was left out, and the rest is used.
    pub note: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}
