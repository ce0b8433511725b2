//! What the commands do that serve nobody: they print and say by their exit code whether all is well.

pub mod check;
pub mod crd;
pub mod explain;
