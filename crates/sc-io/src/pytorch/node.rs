//! What the pickle machine makes: nodes that refer to each other by number.

use std::sync::Arc;

use super::value::{Construct, Value};

/// The number of a node in the arena.
pub(super) type Ref = u32;

/// What an instruction made.
#[derive(Debug)]
pub(super) enum Node {
    Leaf(Value),
    /// Module and name of a class or function.
    Global(Arc<str>),
    List(Vec<Ref>),
    Tuple(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Set(Vec<Ref>),
    FrozenSet(Vec<Ref>),
    /// An object that the pickle refers to from outside; torch's storages are such.
    Persistent(Ref),
    Object(Box<Object>),
}

/// An object that code would have made.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) construct: Construct,
    pub(super) callee: Ref,
    pub(super) args: Ref,
    pub(super) kwargs: Option<Ref>,
    pub(super) state: Option<Ref>,
    pub(super) items: Vec<Ref>,
    pub(super) entries: Vec<(Ref, Ref)>,
    /// Where in the pickle it is made.
    pub(super) position: usize,
}

/// A pickle that has been run.
pub(super) struct Program {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Ref,
    /// The byte after the pickle.
    pub(super) end: usize,
}
