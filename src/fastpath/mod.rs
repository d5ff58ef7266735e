//! The kernel's copy of the flow rows.
//!
//! A later stage hands hot rows to a kernel program that applies them without a system call. Today there is one
//! variant, which keeps nothing: every packet takes user space.

use crate::relay::flow::{Flow, FlowKey};

/// Where flow rows are copied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastPath {
    /// Nowhere.
    #[default]
    Off,
}

impl FastPath {
    /// A row now says this.
    pub fn up(&mut self, _key: &FlowKey, _flow: &Flow) {
        match self {
            FastPath::Off => {}
        }
    }

    /// A row is gone.
    pub fn down(&mut self, _key: &FlowKey) {
        match self {
            FastPath::Off => {}
        }
    }
}
