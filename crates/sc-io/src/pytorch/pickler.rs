//! Writes values as a pickle of protocol 2, which is what torch.save uses.

use std::collections::HashMap;
use std::sync::Arc;

use super::dtype::DType;
use super::freeze::MAX_DEPTH;
use super::value::{Construct, Dict, DictKind, Opaque, Value};

/// Classes and functions that a written file may mention. Loading calls them, so nothing that was merely found in
/// some other file is passed on: only these, which build data.
const WRITABLE: [(&str, &str); 23] = [
    ("builtins", "bool"),
    ("builtins", "bytes"),
    ("builtins", "complex"),
    ("builtins", "dict"),
    ("builtins", "float"),
    ("builtins", "frozenset"),
    ("builtins", "int"),
    ("builtins", "list"),
    ("builtins", "set"),
    ("builtins", "slice"),
    ("builtins", "tuple"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
    // scvi-tools stores the function that an encoder's variance goes through.
    ("torch._C._nn", "softplus"),
];

/// A pickle and the storages that it refers to by their number.
pub(super) struct Pickled {
    pub(super) pickle: Vec<u8>,
    pub(super) storages: Vec<Arc<Vec<u8>>>,
}

/// Pickles a value; the error names what cannot be written.
pub(super) fn pickle(value: &Value) -> Result<Pickled, String> {
    let mut pickler = Pickler::default();
    pickler.out.extend([0x80, 2]);
    pickler.value(value, 0)?;
    pickler.out.push(b'.');
    Ok(Pickled {
        pickle: pickler.out,
        storages: pickler.storages,
    })
}

/// What has been written and can be mentioned again.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Seen {
    Text(Arc<str>),
    Global(&'static str, String),
    DType(String),
    /// A shared value, by its address; the value outlives the pickler.
    Shared(usize),
}

#[derive(Default)]
pub(super) struct Pickler {
    pub(super) out: Vec<u8>,
    memo: HashMap<Seen, u32>,
    pub(super) storages: Vec<Arc<Vec<u8>>>,
    /// The number of each storage, by its address and the type under which it is mentioned.
    pub(super) keys: HashMap<(usize, Option<DType>), usize>,
}

pub(super) type Step = Result<(), String>;

impl Pickler {
    pub(super) fn value(&mut self, value: &Value, depth: usize) -> Step {
        if depth >= MAX_DEPTH {
            return Err(format!(
                "a value that is nested more than {MAX_DEPTH} levels deep"
            ));
        }
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(true) => self.out.push(0x88),
            Value::Bool(false) => self.out.push(0x89),
            Value::Int(number) => self.int(*number),
            Value::BigInt(bytes) => self.long(bytes)?,
            Value::Float(number) => {
                self.out.push(b'G');
                self.out.extend(number.to_be_bytes());
            }
            Value::Str(text) => self.text(text)?,
            Value::Bytes(bytes) => self.bytes(bytes)?,
            Value::List(items) => return self.shared(items, |this| this.list(items, depth)),
            Value::Tuple(items) => return self.shared(items, |this| this.tuple(items, depth)),
            Value::Set(items) => return self.shared(items, |this| this.set("set", items, depth)),
            Value::FrozenSet(items) => {
                return self.shared(items, |this| this.set("frozenset", items, depth));
            }
            Value::Dict(dict) => return self.shared(dict, |this| this.dict(dict, depth)),
            Value::Tensor(tensor) => return self.shared(tensor, |this| this.tensor(tensor)),
            Value::Array(array) => return self.shared(array, |this| this.array(array, depth)),
            Value::Opaque(object) => return self.shared(object, |this| this.opaque(object, depth)),
        }
        Ok(())
    }

    /// Writes a shared value once, and mentions it from then on.
    fn shared<T>(&mut self, value: &Arc<T>, write: impl FnOnce(&mut Self) -> Step) -> Step {
        self.once(Seen::Shared(Arc::as_ptr(value).addr()), write)
    }

    pub(super) fn once(&mut self, what: Seen, write: impl FnOnce(&mut Self) -> Step) -> Step {
        if let Some(&slot) = self.memo.get(&what) {
            match u8::try_from(slot) {
                Ok(slot) => self.out.extend([b'h', slot]),
                Err(_) => self.with_u32(b'j', slot),
            }
            return Ok(());
        }
        write(self)?;
        let slot =
            u32::try_from(self.memo.len()).map_err(|_| "more than 2^32 objects".to_owned())?;
        match u8::try_from(slot) {
            Ok(slot) => self.out.extend([b'q', slot]),
            Err(_) => self.with_u32(b'r', slot),
        }
        self.memo.insert(what, slot);
        Ok(())
    }

    fn with_u32(&mut self, opcode: u8, operand: u32) {
        self.out.push(opcode);
        self.out.extend(operand.to_le_bytes());
    }

    pub(super) fn int(&mut self, number: i64) {
        if let Ok(byte) = u8::try_from(number) {
            self.out.extend([b'K', byte]);
        } else if let Ok(word) = i32::try_from(number) {
            self.out.push(b'J');
            self.out.extend(word.to_le_bytes());
        } else {
            self.out.extend([0x8a, 8]);
            self.out.extend(number.to_le_bytes());
        }
    }

    fn long(&mut self, bytes: &[u8]) -> Step {
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.out.extend([0x8a, length]);
        } else {
            // The length is signed.
            let length = i32::try_from(bytes.len())
                .map_err(|_| "an integer of more than 2^31 bytes".to_owned())?;
            self.out.push(0x8b);
            self.out.extend(length.to_le_bytes());
        }
        self.out.extend(bytes);
        Ok(())
    }

    pub(super) fn text(&mut self, text: &Arc<str>) -> Step {
        self.once(Seen::Text(text.clone()), |this| this.plain_text(text))
    }

    fn plain_text(&mut self, text: &str) -> Step {
        let length =
            u32::try_from(text.len()).map_err(|_| "text of more than 2^32 bytes".to_owned())?;
        self.with_u32(b'X', length);
        self.out.extend(text.as_bytes());
        Ok(())
    }

    /// Protocol 2 has no bytes: they are made of text of which each character is one byte.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            self.global("builtins", "bytes")?;
            self.out.extend([b')', b'R']);
            return Ok(());
        }
        self.global("_codecs", "encode")?;
        let text: String = bytes.iter().copied().map(char::from).collect();
        self.plain_text(&text)?;
        self.text(&Arc::from("latin1"))?;
        self.out.extend([0x86, b'R']);
        Ok(())
    }

    pub(super) fn global(&mut self, module: &'static str, name: &str) -> Step {
        self.once(Seen::Global(module, name.to_owned()), |this| {
            let module = if module == "builtins" {
                "__builtin__"
            } else {
                module
            };
            this.out.push(b'c');
            this.out.extend(module.as_bytes());
            this.out.push(b'\n');
            this.out.extend(name.as_bytes());
            this.out.push(b'\n');
            Ok(())
        })
    }

    /// Mentions a class by its whole name, if it is one that may be mentioned.
    fn class(&mut self, class: &str) -> Step {
        let dtype = class
            .strip_prefix("torch.")
            .filter(|name| DType::from_torch_name(name).is_some());
        if let Some(name) = dtype {
            return self.global("torch", name);
        }
        let known = WRITABLE.iter().find(|(module, name)| {
            class
                .strip_prefix(module)
                .and_then(|rest| rest.strip_prefix('.'))
                == Some(name)
        });
        match known {
            Some((module, name)) => self.global(module, name),
            None => Err(format!(
                "`{class}`: loading the file would run it. Only numbers, text, containers, arrays, tensors and pandas data frames are written"
            )),
        }
    }

    fn all(&mut self, items: &[Value], depth: usize) -> Step {
        items
            .iter()
            .try_for_each(|item| self.value(item, depth + 1))
    }

    pub(super) fn list(&mut self, items: &[Value], depth: usize) -> Step {
        self.out.push(b']');
        self.append(items, depth)
    }

    fn append(&mut self, items: &[Value], depth: usize) -> Step {
        if !items.is_empty() {
            self.out.push(b'(');
            self.all(items, depth)?;
            self.out.push(b'e');
        }
        Ok(())
    }

    pub(super) fn tuple(&mut self, items: &[Value], depth: usize) -> Step {
        if items.len() > 3 {
            self.out.push(b'(');
        }
        self.all(items, depth)?;
        self.out.push(match items.len() {
            0 => b')',
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => b't',
        });
        Ok(())
    }

    fn set(&mut self, class: &'static str, items: &[Value], depth: usize) -> Step {
        self.global("builtins", class)?;
        self.list(items, depth)?;
        self.out.extend([0x85, b'R']);
        Ok(())
    }

    fn entries(&mut self, entries: &[(Value, Value)], depth: usize) -> Step {
        if entries.is_empty() {
            return Ok(());
        }
        self.out.push(b'(');
        for (key, value) in entries {
            self.value(key, depth + 1)?;
            self.value(value, depth + 1)?;
        }
        self.out.push(b'u');
        Ok(())
    }

    fn dict(&mut self, dict: &Dict, depth: usize) -> Step {
        match &dict.kind {
            DictKind::Plain if dict.attributes.is_some() => {
                return Err("a plain dict with attributes".to_owned());
            }
            DictKind::Plain => self.out.push(b'}'),
            DictKind::Ordered => {
                self.global("collections", "OrderedDict")?;
                self.out.extend([b')', b'R']);
            }
            DictKind::Default(factory) => {
                self.global("collections", "defaultdict")?;
                match factory {
                    Some(class) => {
                        self.class(class)?;
                        self.out.push(0x85);
                    }
                    None => self.out.push(b')'),
                }
                self.out.push(b'R');
            }
        }
        self.entries(&dict.entries, depth)?;
        self.state(dict.attributes.as_ref(), depth)
    }

    fn state(&mut self, state: Option<&Value>, depth: usize) -> Step {
        if let Some(state) = state {
            self.value(state, depth + 1)?;
            self.out.push(b'b');
        }
        Ok(())
    }

    fn opaque(&mut self, object: &Opaque, depth: usize) -> Step {
        self.class(&object.class)?;
        if object.construct == Construct::Global {
            return Ok(());
        }
        if object.kwargs.is_some() {
            return Err(format!("`{}` with keyword arguments", object.class));
        }
        self.tuple(&object.args, depth)?;
        self.out.push(if object.construct == Construct::New {
            0x81
        } else {
            b'R'
        });
        self.append(&object.items, depth)?;
        self.entries(&object.entries, depth)?;
        self.state(object.state.as_ref(), depth)
    }
}
