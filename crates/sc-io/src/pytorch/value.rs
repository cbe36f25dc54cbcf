//! The tree of values that a checkpoint holds.

use std::sync::Arc;

use super::array::NumpyArray;
use super::error::{Error, Result};
use super::tensor::TorchTensor;

/// A value from a checkpoint.
///
/// Cloning is cheap: everything that can be large is shared. Floats compare by their bits, so that a value is
/// equal to itself even where it holds NaN.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A larger integer: two's complement, little-endian, as the pickle stores it.
    BigInt(Arc<[u8]>),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// Raw bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A tuple.
    Tuple(Arc<Vec<Value>>),
    /// A set, in the order of the file.
    Set(Arc<Vec<Value>>),
    /// A frozen set, in the order of the file.
    FrozenSet(Arc<Vec<Value>>),
    /// A mapping, in the order of the file.
    Dict(Arc<Dict>),
    /// A torch tensor.
    Tensor(Arc<TorchTensor>),
    /// A numpy array.
    Array(Arc<NumpyArray>),
    /// Any other Python object: recorded, never executed.
    Opaque(Arc<Opaque>),
}

/// Which Python class a [`Dict`] has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DictKind {
    /// `dict`.
    #[default]
    Plain,
    /// `collections.OrderedDict`.
    Ordered,
    /// `collections.defaultdict` with the class of its default value, such as `builtins.dict`.
    Default(Option<Arc<str>>),
}

/// A mapping that keeps the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dict {
    /// The Python class.
    pub kind: DictKind,
    /// Keys and values.
    pub entries: Vec<(Value, Value)>,
    /// Attributes that a class derived from `dict` carries, such as the `_metadata` of a state dict.
    pub attributes: Option<Value>,
}

/// How an [`Opaque`] object was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Construct {
    /// A mention of a class or function, not of an object made with it.
    Global,
    /// The result of calling `class` with `args`.
    Call,
    /// A bare instance of `class` (its `__new__` with `args`).
    New,
}

/// An object of a class that this reader does not interpret. Nothing of it was executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Opaque {
    /// Module and name of the class or function, such as `pandas.core.frame.DataFrame`.
    pub class: Arc<str>,
    /// How the object was made.
    pub construct: Construct,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Option<Value>,
    /// What would have been given to the object's `__setstate__`.
    pub state: Option<Value>,
    /// Values that would have been appended.
    pub items: Vec<Value>,
    /// Keys and values that would have been set.
    pub entries: Vec<(Value, Value)>,
}

impl Opaque {
    /// A mention of the class or function `class`.
    #[must_use]
    pub fn global(class: &str) -> Self {
        Self {
            class: Arc::from(class),
            construct: Construct::Global,
            args: Vec::new(),
            kwargs: None,
            state: None,
            items: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The result of calling `class` with `args`.
    #[must_use]
    pub fn call(class: &str, args: Vec<Value>) -> Self {
        Self {
            construct: Construct::Call,
            args,
            ..Self::global(class)
        }
    }

    /// The entry `key` of the object's state, where that is a mapping.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        match &self.state {
            // Classes with slots have a pair: the dictionary, and the slots.
            Some(Value::Tuple(pair)) => pair.iter().find_map(|part| part.get(key)),
            Some(state) => state.get(key),
            None => None,
        }
    }
}

impl Dict {
    /// A plain `dict` with text keys.
    pub fn from_pairs<K: Into<Value>, I: IntoIterator<Item = (K, Value)>>(pairs: I) -> Self {
        let entries = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect();
        Self {
            entries,
            ..Self::default()
        }
    }

    /// A `collections.OrderedDict` with text keys, which is what a state dict is.
    pub fn ordered<K: Into<Value>, I: IntoIterator<Item = (K, Value)>>(pairs: I) -> Self {
        Self {
            kind: DictKind::Ordered,
            ..Self::from_pairs(pairs)
        }
    }

    /// The value at a text key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|(k, _)| k.as_str() == Some(key))
            .map(|(_, value)| value)
    }

    /// The text keys with their values, in the order of the file; other keys are passed over.
    pub fn iter_str(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .filter_map(|(key, value)| key.as_str().map(|key| (key, value)))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Value {
    /// A list.
    #[must_use]
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A tuple.
    #[must_use]
    pub fn tuple(items: Vec<Value>) -> Self {
        Self::Tuple(Arc::new(items))
    }

    /// What this is, in a word, for messages.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) | Self::BigInt(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Str(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Set(_) | Self::FrozenSet(_) => "a set",
            Self::Dict(_) => "a dict",
            Self::Tensor(_) => "a tensor",
            Self::Array(_) => "an array",
            Self::Opaque(object) => &object.class,
        }
    }

    /// Whether this is `None`.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The integer, if this is one that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Int(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The integer, if this is one that counts or indexes something.
    #[must_use]
    pub fn as_usize(&self) -> Option<usize> {
        self.as_i64().and_then(|value| usize::try_from(value).ok())
    }

    /// The number, if this is an integer or a float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "rounding to f64 is what was asked for"
            )]
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(value) = self {
            Some(value)
        } else {
            None
        }
    }

    /// The items, if this is a list or a tuple.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[Value]> {
        if let Self::List(items) | Self::Tuple(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The mapping, if this is one.
    #[must_use]
    pub fn as_dict(&self) -> Option<&Dict> {
        if let Self::Dict(dict) = self {
            Some(dict)
        } else {
            None
        }
    }

    /// The tensor, if this is one.
    #[must_use]
    pub fn as_tensor(&self) -> Option<&TorchTensor> {
        if let Self::Tensor(tensor) = self {
            Some(tensor)
        } else {
            None
        }
    }

    /// The array, if this is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&NumpyArray> {
        if let Self::Array(array) = self {
            Some(array)
        } else {
            None
        }
    }

    /// The uninterpreted object, if this is one.
    #[must_use]
    pub fn as_opaque(&self) -> Option<&Opaque> {
        if let Self::Opaque(object) = self {
            Some(object)
        } else {
            None
        }
    }

    /// The value at a text key, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_dict().and_then(|dict| dict.get(key))
    }

    /// Follows text keys through nested mappings.
    ///
    /// # Errors
    /// [`Error::Conversion`] naming the path, where a step is missing or is not a mapping.
    pub fn at(&self, keys: &[&str]) -> Result<&Value> {
        let mut value = self;
        for (depth, key) in keys.iter().enumerate() {
            value = value.get(key).ok_or_else(|| {
                let path = keys.get(..=depth).unwrap_or(keys).join("/");
                let found = match value.as_dict() {
                    Some(dict) => {
                        let names: Vec<&str> =
                            dict.iter_str().map(|(key, _)| key).take(12).collect();
                        format!("a dict with {}", names.join(", "))
                    }
                    None => value.type_name().to_owned(),
                };
                Error::conversion(format!("no entry `{path}`: found {found}"))
            })?;
        }
        Ok(value)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::BigInt(a), Self::BigInt(b)) | (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b))
            | (Self::Tuple(a), Self::Tuple(b))
            | (Self::Set(a), Self::Set(b))
            | (Self::FrozenSet(a), Self::FrozenSet(b)) => a == b,
            (Self::Dict(a), Self::Dict(b)) => a == b,
            (Self::Tensor(a), Self::Tensor(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            _ => false,
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$name:ident| $to:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($name: $from) -> Self {
                $to
            }
        })*
    };
}

value_from! {
    bool => |value| Self::Bool(value);
    i64 => |value| Self::Int(value);
    i32 => |value| Self::Int(i64::from(value));
    f64 => |value| Self::Float(value);
    &str => |value| Self::Str(Arc::from(value));
    String => |value| Self::Str(Arc::from(value));
    Dict => |value| Self::Dict(Arc::new(value));
    TorchTensor => |value| Self::Tensor(Arc::new(value));
    NumpyArray => |value| Self::Array(Arc::new(value));
    Opaque => |value| Self::Opaque(Arc::new(value));
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
