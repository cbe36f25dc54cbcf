//! The pickle machine: executes the instructions that build values, and only records those that would call code.
//!
//! The result is an arena of nodes that refer to each other by number, so that an object that is put aside in the
//! memo and filled later is seen filled everywhere. Every instruction makes at most one node, and references are
//! four bytes, so memory stays proportional to the length of the pickle.

use std::collections::HashMap;
use std::sync::Arc;

use super::cursor::{Cursor, small_integer};
use super::error::Fault;
use super::node::{Node, Object, Program, Ref};
use super::text::{qualified, unescape};
use super::value::{Construct, Value};

/// Runs the pickle that starts at `start`.
pub(super) fn run(bytes: &[u8], start: usize) -> Result<Program, Fault> {
    let cursor = Cursor::new(bytes, start);
    let mut machine = Machine {
        cursor,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let opcode = machine.cursor.opcode()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Program {
                nodes: machine.nodes,
                root,
                end: machine.cursor.position,
            });
        }
        machine.step(opcode)?;
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    nodes: Vec<Node>,
    stack: Vec<Ref>,
    /// Heights of the stack at the marks that are still open.
    marks: Vec<usize>,
    memo: HashMap<u64, Ref>,
}

type Step = Result<(), Fault>;

impl Machine<'_> {
    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            // PROTO, FRAME: framing says nothing that matters when everything is in memory.
            0x80 => self.cursor.take(1).map(|_| ()),
            0x95 => self.cursor.take(8).map(|_| ()),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.discard(),
            b'1' => self.pop_mark().map(|_| ()),
            b'2' => self.top().map(|top| self.stack.push(top)),
            b'N' | b'I' | b'J' | b'K' | b'M' | b'L' | b'F' | b'G' | 0x88..=0x8b => {
                self.number(opcode)
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => {
                self.text(opcode)
            }
            b']' | b'l' | b')' | b't' | 0x85..=0x87 | b'}' | b'd' | 0x8f | 0x91 => {
                self.container(opcode)
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memoise(opcode),
            b'c' | 0x93 | 0x82..=0x84 => self.global(opcode),
            b'R' | b'b' | b'i' | b'o' | 0x81 | 0x92 => self.object(opcode),
            b'P' => {
                let name = Value::from(self.cursor.line()?);
                let name = self.add(Node::Leaf(name))?;
                self.push(Node::Persistent(name))
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
            0x97 | 0x98 => Err(self
                .cursor
                .fault("refers to a buffer outside of the pickle, which files do not have")),
            other => Err(self
                .cursor
                .fault(format!("there is no pickle instruction {other:#04x}"))),
        }
    }

    fn number(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::from(self.cursor.i32()?),
            b'K' => Value::from(i32::from(self.cursor.u8()?)),
            b'M' => Value::from(i32::from(self.cursor.u16()?)),
            b'G' => Value::Float(self.cursor.f64()?),
            b'F' => Value::Float(self.cursor.decimal()?),
            0x8a => integer(self.cursor.sized(1)?),
            0x8b => integer(self.cursor.sized(4)?),
            b'L' => integer(&self.cursor.decimal_integer()?),
            // INT doubles as the truth values of protocols 0 and 1.
            _ => match self.peek_line() {
                Some(b"00") => self.cursor.line().map(|_| Value::Bool(false))?,
                Some(b"01") => self.cursor.line().map(|_| Value::Bool(true))?,
                _ => integer(&self.cursor.decimal_integer()?),
            },
        };
        self.push(Node::Leaf(value))
    }

    fn peek_line(&mut self) -> Option<&[u8]> {
        let position = self.cursor.position;
        let line = self.cursor.line().map(str::as_bytes).ok();
        self.cursor.position = position;
        line
    }

    fn text(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            0x8c => Value::from(&*self.cursor.sized_text(1)?),
            b'X' => Value::from(&*self.cursor.sized_text(4)?),
            0x8d => Value::from(&*self.cursor.sized_text(8)?),
            b'V' => Value::from(unescape(self.cursor.line()?, true)),
            b'S' => {
                let line = self.cursor.line()?.trim();
                let quoted = ['\'', '"']
                    .iter()
                    .find_map(|quote| line.strip_prefix(*quote)?.strip_suffix(*quote));
                let inner = quoted.ok_or_else(|| self.cursor.fault("wants quoted text"))?;
                Value::from(unescape(inner, false))
            }
            // Python 2's byte strings are text in practice.
            b'T' => Value::from(&*self.cursor.sized_text(4)?),
            b'U' => Value::from(&*self.cursor.sized_text(1)?),
            b'C' => Value::Bytes(Arc::from(self.cursor.sized(1)?)),
            b'B' => Value::Bytes(Arc::from(self.cursor.sized(4)?)),
            // BINBYTES8 and BYTEARRAY8
            _ => Value::Bytes(Arc::from(self.cursor.sized(8)?)),
        };
        self.push(Node::Leaf(value))
    }

    fn container(&mut self, opcode: u8) -> Step {
        let node = match opcode {
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            0x91 => Node::FrozenSet(self.pop_mark()?),
            b'd' => Node::Dict(self.pop_pairs()?),
            _ => {
                let count = usize::from(opcode - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                Node::Tuple(items)
            }
        };
        self.push(node)
    }

    /// Adds to the list, mapping, set or object below the operands.
    fn fill(&mut self, opcode: u8) -> Step {
        match opcode {
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_entries(vec![(key, value)])
            }
            b'u' => {
                let pairs = self.pop_pairs()?;
                self.set_entries(pairs)
            }
            _ => {
                let items = if opcode == b'a' {
                    vec![self.pop()?]
                } else {
                    self.pop_mark()?
                };
                match self.top_node()? {
                    Node::List(list) if opcode != 0x90 => list.extend(items),
                    Node::Set(set) if opcode == 0x90 => set.extend(items),
                    Node::Object(object) => object.items.extend(items),
                    _ => return Err(self.cursor.fault("adds items to something that holds none")),
                }
                Ok(())
            }
        }
    }

    fn set_entries(&mut self, pairs: Vec<(Ref, Ref)>) -> Step {
        match self.top_node()? {
            Node::Dict(entries) => entries.extend(pairs),
            Node::Object(object) => object.entries.extend(pairs),
            _ => {
                return Err(self
                    .cursor
                    .fault("sets entries of something that is not a mapping"));
            }
        }
        Ok(())
    }

    fn memoise(&mut self, opcode: u8) -> Step {
        let slot = match opcode {
            b'p' | b'g' => self.cursor.decimal()?,
            b'q' | b'h' => u64::from(self.cursor.u8()?),
            b'r' | b'j' => u64::from(self.cursor.u32()?),
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let Some(&node) = self.memo.get(&slot) else {
                return Err(self
                    .cursor
                    .fault(format!("asks for memo {slot}, which was not stored")));
            };
            self.stack.push(node);
        } else {
            let top = self.top()?;
            self.memo.insert(slot, top);
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Step {
        let name = match opcode {
            b'c' => {
                let module = self.cursor.line()?;
                qualified(module, self.cursor.line()?)
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                match (
                    self.nodes.get(module as usize),
                    self.nodes.get(name as usize),
                ) {
                    (Some(Node::Leaf(Value::Str(module))), Some(Node::Leaf(Value::Str(name)))) => {
                        qualified(module, name)
                    }
                    _ => return Err(self.cursor.fault("a class is not named by text")),
                }
            }
            _ => {
                let code = match opcode {
                    0x82 => u32::from(self.cursor.u8()?),
                    0x83 => u32::from(self.cursor.u16()?),
                    _ => self.cursor.u32()?,
                };
                Arc::from(format!("copyreg.extension.{code}"))
            }
        };
        self.push(Node::Global(name))
    }

    fn object(&mut self, opcode: u8) -> Step {
        if opcode == b'b' {
            let state = self.pop()?;
            return match self.top_node()? {
                Node::Object(object) => {
                    object.state = Some(state);
                    Ok(())
                }
                _ => Err(self
                    .cursor
                    .fault("sets the state of something that is not an object")),
            };
        }
        let mut kwargs = None;
        let (callee, args) = match opcode {
            b'i' => {
                let module = self.cursor.line()?;
                let name = qualified(module, self.cursor.line()?);
                let args = self.pop_mark()?;
                (self.add(Node::Global(name))?, self.add(Node::Tuple(args))?)
            }
            b'o' => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return Err(self.cursor.fault("makes an object of no class"));
                }
                let callee = args.remove(0);
                (callee, self.add(Node::Tuple(args))?)
            }
            _ => {
                if opcode == 0x92 {
                    kwargs = Some(self.pop()?);
                }
                let args = self.pop()?;
                (self.pop()?, args)
            }
        };
        let construct = if matches!(opcode, 0x81 | 0x92) {
            Construct::New
        } else {
            Construct::Call
        };
        let position = self.cursor.instruction;
        self.push(Node::Object(Box::new(Object {
            construct,
            callee,
            args,
            kwargs,
            state: None,
            items: Vec::new(),
            entries: Vec::new(),
            position,
        })))
    }

    fn add(&mut self, node: Node) -> Result<Ref, Fault> {
        let at = Ref::try_from(self.nodes.len())
            .map_err(|_| self.cursor.fault("more than 2^32 objects"))?;
        self.nodes.push(node);
        Ok(at)
    }

    fn push(&mut self, node: Node) -> Step {
        let at = self.add(node)?;
        self.stack.push(at);
        Ok(())
    }

    /// The lowest height that the stack may fall to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Ref, Fault> {
        let floor = self.floor();
        match self.stack.pop() {
            Some(top) if self.stack.len() >= floor => Ok(top),
            _ => Err(self.cursor.fault("takes more operands than there are")),
        }
    }

    /// POP: takes the mark itself where nothing lies above it.
    fn discard(&mut self) -> Step {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(|_| ())
    }

    fn top(&self) -> Result<Ref, Fault> {
        match self.stack.last() {
            Some(&top) if self.stack.len() > self.floor() => Ok(top),
            _ => Err(self.cursor.fault("wants an operand, but there is none")),
        }
    }

    fn top_node(&mut self) -> Result<&mut Node, Fault> {
        let top = self.top()?;
        let position = self.cursor.instruction;
        self.nodes
            .get_mut(top as usize)
            .ok_or_else(|| Fault::new(position, "wants an operand, but there is none"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Ref>, Fault> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => Err(self.cursor.fault("wants a mark, but there is none")),
        }
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Ref, Ref)>, Fault> {
        let items = self.pop_mark()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
        } else {
            Err(self.cursor.fault("a mapping has a key without a value"))
        }
    }
}

fn integer(bytes: &[u8]) -> Value {
    small_integer(bytes).map_or_else(|| Value::BigInt(Arc::from(bytes)), Value::Int)
}
