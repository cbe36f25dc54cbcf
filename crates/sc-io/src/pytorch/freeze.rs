//! Turns the arena of a pickle into a tree of values.
//!
//! A node that several others refer to becomes one shared value. What a hostile pickle could blow up is limited:
//! the depth of the tree, the size of the tree if nothing were shared (which is what it costs to walk it), and the
//! elements that are copied while arrays are rebuilt.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Fault;
use super::node::{Node, Object, Program, Ref};
use super::rebuild::{self, Parts};
use super::tensor::TorchTensor;
use super::value::{Construct, Dict, Opaque, Value};

/// The deepest nesting that is accepted. Python's own limit is 1000 calls, of which each level takes several.
pub(super) const MAX_DEPTH: usize = 256;

/// The class of the [`Opaque`] that stands where an object contains itself.
const RECURSIVE: &str = "<the object that contains this>";

/// Where the bytes of tensors come from.
pub(super) trait Storages {
    /// The storage `key`, of at least `numel` numbers of `width` bytes each, little-endian.
    fn load(&mut self, key: &str, numel: usize, width: usize) -> Result<Arc<Vec<u8>>, String>;
}

/// Freezes a program; `length` is that of the file, in bytes, and sets the limits.
pub(super) fn freeze(
    program: Program,
    length: usize,
    storages: Option<&mut dyn Storages>,
) -> Result<Value, Fault> {
    let slots = program.nodes.into_iter().map(Slot::Raw).collect();
    let limit = (1_u64 << 22).saturating_add((length as u64).saturating_mul(16));
    let mut freezer = Freezer {
        slots,
        storages,
        budget: Budget { left: limit, limit },
    };
    let frozen = freezer.visit(program.root, 0)?;
    if frozen.weight > limit {
        return Err(Fault::new(
            0,
            format!(
                "holds {} values when written out, more than the {limit} that are accepted",
                frozen.weight
            ),
        ));
    }
    Ok(frozen.value)
}

enum Slot {
    Raw(Node),
    /// Being frozen further up.
    Open,
    Done(Frozen),
}

#[derive(Clone)]
struct Frozen {
    value: Value,
    /// How many values the tree below has when nothing is shared.
    weight: u64,
    /// How deep the tree below is.
    height: usize,
}

/// Elements that may still be copied.
pub(super) struct Budget {
    left: u64,
    limit: u64,
}

impl Budget {
    /// Pays for `count` elements, of up to eight bytes or one value each.
    pub(super) fn charge(&mut self, count: usize) -> Result<(), String> {
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!(
                "arrays and tensors hold more than the {} elements that a file of this size may",
                self.limit
            )),
        }
    }
}

struct Freezer<'a> {
    slots: Vec<Slot>,
    storages: Option<&'a mut dyn Storages>,
    budget: Budget,
}

/// Sums up what lies below a node that is being frozen.
struct Below {
    depth: usize,
    weight: u64,
    height: usize,
}

impl Freezer<'_> {
    fn visit(&mut self, at: Ref, depth: usize) -> Result<Frozen, Fault> {
        let Some(slot) = self.slots.get_mut(at as usize) else {
            return Err(Fault::new(0, "refers to an object that does not exist"));
        };
        let node = match std::mem::replace(slot, Slot::Open) {
            Slot::Done(frozen) => {
                *slot = Slot::Done(frozen.clone());
                return Ok(frozen);
            }
            Slot::Open => {
                let value = Value::from(Opaque::global(RECURSIVE));
                return Ok(Frozen {
                    value,
                    weight: 1,
                    height: 1,
                });
            }
            Slot::Raw(node) => node,
        };
        let mut below = Below {
            depth,
            weight: 1,
            height: 0,
        };
        let value = self.value(node, &mut below)?;
        let frozen = Frozen {
            value,
            weight: below.weight,
            height: below.height + 1,
        };
        // A shared subtree can hang deeper than where it was first met.
        if frozen.height > MAX_DEPTH {
            return Err(too_deep());
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Slot::Done(frozen.clone());
        }
        Ok(frozen)
    }

    fn child(&mut self, at: Ref, below: &mut Below) -> Result<Value, Fault> {
        if below.depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        let child = self.visit(at, below.depth + 1)?;
        below.weight = below.weight.saturating_add(child.weight);
        below.height = below.height.max(child.height);
        Ok(child.value)
    }

    fn children(&mut self, refs: &[Ref], below: &mut Below) -> Result<Vec<Value>, Fault> {
        refs.iter().map(|&at| self.child(at, below)).collect()
    }

    fn pairs(
        &mut self,
        refs: &[(Ref, Ref)],
        below: &mut Below,
    ) -> Result<Vec<(Value, Value)>, Fault> {
        refs.iter()
            .map(|&(key, value)| Ok((self.child(key, below)?, self.child(value, below)?)))
            .collect()
    }

    fn value(&mut self, node: Node, below: &mut Below) -> Result<Value, Fault> {
        Ok(match node {
            Node::Leaf(value) => value,
            Node::Global(class) => Opaque {
                class,
                ..Opaque::global("")
            }
            .into(),
            Node::List(items) => Value::List(Arc::new(self.children(&items, below)?)),
            Node::Tuple(items) => Value::Tuple(Arc::new(self.children(&items, below)?)),
            Node::Set(items) => Value::Set(Arc::new(self.children(&items, below)?)),
            Node::FrozenSet(items) => Value::FrozenSet(Arc::new(self.children(&items, below)?)),
            Node::Dict(entries) => Dict {
                entries: last_wins(self.pairs(&entries, below)?),
                ..Dict::default()
            }
            .into(),
            Node::Persistent(id) => {
                Opaque::call(rebuild::PERSISTENT, vec![self.child(id, below)?]).into()
            }
            Node::Object(object) => self.object(&object, below)?,
        })
    }

    fn object(&mut self, object: &Object, below: &mut Below) -> Result<Value, Fault> {
        let callee = self.child(object.callee, below)?;
        let args = match self.child(object.args, below)? {
            Value::Tuple(args) => args,
            other => Arc::new(vec![other]),
        };
        let state = object.state.map(|at| self.child(at, below)).transpose()?;
        let kwargs = object.kwargs.map(|at| self.child(at, below)).transpose()?;
        let items = self.children(&object.items, below)?;
        let entries = last_wins(self.pairs(&object.entries, below)?);

        let class = match &callee {
            Value::Opaque(global) if global.construct == Construct::Global => global.class.clone(),
            other => Arc::from(format!("<the call of {}>", other.type_name())),
        };
        let parts = Parts {
            class,
            construct: object.construct,
            args: &args,
            kwargs,
            state,
            items,
            entries,
        };
        let fault = |what: String| Fault::new(object.position, what);
        // Whatever is rebuilt can copy its arguments.
        self.budget.charge(args.len()).map_err(fault)?;
        let mut context = Context {
            storages: self.storages.as_deref_mut(),
            budget: &mut self.budget,
        };
        rebuild::rebuild(parts, &mut context).map_err(fault)
    }
}

/// What rebuilding an object needs from outside.
pub(super) struct Context<'a, 'b> {
    storages: Option<&'a mut (dyn Storages + 'b)>,
    pub(super) budget: &'a mut Budget,
}

impl Context<'_, '_> {
    /// Whether tensors can be read at all.
    pub(super) fn has_storages(&self) -> bool {
        self.storages.is_some()
    }

    pub(super) fn storage(
        &mut self,
        key: &str,
        numel: usize,
        width: usize,
    ) -> Result<Arc<Vec<u8>>, String> {
        match &mut self.storages {
            Some(storages) => storages.load(key, numel, width),
            None => Err("a bare pickle has no tensors".to_owned()),
        }
    }

    /// Accepts a tensor, unless all tensors together have far more numbers than the file.
    pub(super) fn accept(&mut self, tensor: TorchTensor) -> Result<Value, String> {
        self.budget.charge(tensor.numel())?;
        Ok(tensor.into())
    }
}

fn too_deep() -> Fault {
    Fault::new(0, format!("is nested more than {MAX_DEPTH} levels deep"))
}

/// Drops what a later entry with the same text key replaces; the place is that of the first, as in Python.
pub(super) fn last_wins(entries: Vec<(Value, Value)>) -> Vec<(Value, Value)> {
    let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(entries.len());
    let mut kept: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if let Value::Str(name) = &key {
            if let Some(old) = places.get(name).and_then(|&place| kept.get_mut(place)) {
                old.1 = value;
                continue;
            }
            places.insert(name.clone(), kept.len());
        }
        kept.push((key, value));
    }
    kept
}
