//! What the commands do that serve no routes: they print and say by their exit code whether all is well.

mod access;
pub mod apply_class;
pub mod check;
pub mod connect;
pub mod crd;
pub mod echo;
pub mod explain;
