//! The few constructors that are understood: containers, numpy arrays and torch tensors.
//!
//! Each reproduces what the Python function would have built from the same arguments. Everything else becomes an
//! [`Opaque`] record.

use std::sync::Arc;

use super::dtype::DType;
use super::freeze::{Context, last_wins};
use super::rebuild_arrays::{array, array_from_state, numpy_scalar};
use super::tensor::TorchTensor;
use super::value::{Construct, Dict, DictKind, Opaque, Value};

/// The class of the [`Opaque`] that stands for an object outside of the pickle.
pub(super) const PERSISTENT: &str = "<persistent id>";

/// An object that is about to be rebuilt.
pub(super) struct Parts<'a> {
    pub(super) class: Arc<str>,
    pub(super) construct: Construct,
    pub(super) args: &'a [Value],
    pub(super) kwargs: Option<Value>,
    pub(super) state: Option<Value>,
    pub(super) items: Vec<Value>,
    pub(super) entries: Vec<(Value, Value)>,
}

/// Rebuilds an object of a known class, and records any other.
pub(super) fn rebuild(parts: Parts<'_>, context: &mut Context<'_, '_>) -> Result<Value, String> {
    let known = match (&*parts.class, parts.args) {
        ("collections.OrderedDict", _) => {
            mapping(&parts, DictKind::Ordered, parts.args.first(), context)?
        }
        ("collections.defaultdict", _) => {
            let factory = parts
                .args
                .first()
                .and_then(Value::as_opaque)
                .map(|factory| factory.class.clone());
            mapping(
                &parts,
                DictKind::Default(factory),
                parts.args.get(1),
                context,
            )?
        }
        ("builtins.dict", _) => mapping(&parts, DictKind::Plain, parts.args.first(), context)?,
        (
            "builtins.list" | "builtins.tuple" | "torch.Size" | "builtins.set"
            | "builtins.frozenset",
            args,
        ) => sequence(&parts, args, context)?,
        ("builtins.bytes" | "builtins.bytearray", []) => Some(Value::Bytes(Arc::from([]))),
        ("builtins.bytes" | "builtins.bytearray", [Value::Bytes(bytes)]) => {
            Some(Value::Bytes(bytes.clone()))
        }
        ("_codecs.encode", [Value::Str(text), rest @ ..]) => latin1(text, rest, context)?,
        ("numpy.core.multiarray._reconstruct", _) => array_from_state(&parts, context)?,
        ("numpy.core.numeric._frombuffer", [Value::Bytes(bytes), dtype, shape, order]) => {
            let fortran = order.as_str() == Some("F");
            array(shape, dtype, fortran, &Value::Bytes(bytes.clone()), context)?
        }
        ("numpy.core.multiarray.scalar", [dtype, Value::Bytes(bytes)]) => {
            numpy_scalar(dtype, bytes)
        }
        (
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
            [storage, offset, shape, stride, ..],
        ) => tensor(storage, offset, shape, stride, None, context)?,
        ("torch._utils._rebuild_tensor_v3", [storage, offset, shape, stride, _, _, dtype, ..]) => {
            tensor(storage, offset, shape, stride, Some(dtype), context)?
        }
        (
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            [data @ Value::Tensor(_), ..],
        ) => Some(data.clone()),
        // A tensor that carries Python attributes: the attributes are dropped.
        (
            "torch._tensor._rebuild_from_type_v2",
            [Value::Opaque(function), _, Value::Tuple(args), ..],
        ) if &*function.class == "torch._utils._rebuild_tensor_v2" => match args.as_slice() {
            [storage, offset, shape, stride, ..] => {
                tensor(storage, offset, shape, stride, None, context)?
            }
            _ => None,
        },
        _ => None,
    };
    Ok(known.unwrap_or_else(|| record(parts)))
}

fn record(parts: Parts<'_>) -> Value {
    let Parts {
        class,
        construct,
        args,
        kwargs,
        state,
        items,
        entries,
    } = parts;
    // Objects of old-style protocols name their class in the arguments of a helper.
    let (class, construct, args) = match (&*class, args) {
        ("copyreg._reconstructor", [Value::Opaque(real), ..])
            if real.construct == Construct::Global =>
        {
            (real.class.clone(), Construct::New, Vec::new())
        }
        ("copyreg.__newobj__", [Value::Opaque(real), rest @ ..])
            if real.construct == Construct::Global =>
        {
            (real.class.clone(), Construct::New, rest.to_vec())
        }
        _ => (class, construct, args.to_vec()),
    };
    Opaque {
        class,
        construct,
        args,
        kwargs,
        state,
        items,
        entries,
    }
    .into()
}

fn mapping(
    parts: &Parts<'_>,
    kind: DictKind,
    initial: Option<&Value>,
    context: &mut Context<'_, '_>,
) -> Result<Option<Value>, String> {
    let mut entries = match initial {
        None => Vec::new(),
        Some(Value::Dict(dict)) => {
            context.budget.charge(dict.len())?;
            dict.entries.clone()
        }
        // Protocols 0 and 1 of Python 2 give a list of pairs.
        Some(other) => {
            let Some(pairs) = other.as_slice() else {
                return Ok(None);
            };
            context.budget.charge(pairs.len())?;
            let Some(entries) = pairs.iter().map(pair).collect() else {
                return Ok(None);
            };
            entries
        }
    };
    entries.extend(parts.entries.iter().cloned());
    Ok(Some(
        Dict {
            kind,
            entries: last_wins(entries),
            attributes: parts.state.clone(),
        }
        .into(),
    ))
}

fn pair(value: &Value) -> Option<(Value, Value)> {
    match value.as_slice()? {
        [key, value] => Some((key.clone(), value.clone())),
        _ => None,
    }
}

fn sequence(
    parts: &Parts<'_>,
    args: &[Value],
    context: &mut Context<'_, '_>,
) -> Result<Option<Value>, String> {
    let mut items = match args {
        [] => Vec::new(),
        [Value::List(initial) | Value::Tuple(initial)] => {
            context.budget.charge(initial.len())?;
            initial.to_vec()
        }
        _ => return Ok(None),
    };
    items.extend(parts.items.iter().cloned());
    let items = Arc::new(items);
    Ok(Some(match &*parts.class {
        "builtins.list" => Value::List(items),
        "builtins.set" => Value::Set(items),
        "builtins.frozenset" => Value::FrozenSet(items),
        _ => Value::Tuple(items),
    }))
}

/// Protocol 2 has no bytes: they are text of which each character is one byte.
fn latin1(
    text: &str,
    encoding: &[Value],
    context: &mut Context<'_, '_>,
) -> Result<Option<Value>, String> {
    match encoding {
        [Value::Str(name)] if matches!(&**name, "latin1" | "latin-1") => {
            context.budget.charge(text.len() / 8)?;
            let bytes: Option<Vec<u8>> = text
                .chars()
                .map(|character| u8::try_from(u32::from(character)).ok())
                .collect();
            Ok(bytes.map(|bytes| Value::Bytes(Arc::from(bytes))))
        }
        _ => Ok(None),
    }
}

/// A shape or the like; numpy and torch have at most 64 axes.
pub(super) fn extents(value: &Value) -> Option<Vec<usize>> {
    value
        .as_slice()
        .filter(|axes| axes.len() <= 64)?
        .iter()
        .map(Value::as_usize)
        .collect()
}

/// `_rebuild_tensor_v2(storage, offset, shape, stride, ...)`; the storage is
/// `("storage", class, key, device, number of elements)`, and the device does not matter here.
fn tensor(
    storage: &Value,
    offset: &Value,
    shape: &Value,
    stride: &Value,
    dtype: Option<&Value>,
    context: &mut Context<'_, '_>,
) -> Result<Option<Value>, String> {
    let Some(storage) = storage
        .as_opaque()
        .filter(|object| &*object.class == PERSISTENT && context.has_storages())
    else {
        return Ok(None);
    };
    let id = storage.args.first().and_then(Value::as_slice);
    let Some([_, Value::Opaque(class), Value::Str(key), _, numel, ..]) = id else {
        return Err("a tensor's storage is not described as torch does".to_owned());
    };
    let (Some(offset), Some(shape), Some(stride), Some(numel)) = (
        offset.as_usize(),
        extents(shape),
        extents(stride),
        numel.as_usize(),
    ) else {
        return Err("a tensor's offset, shape and stride are not whole numbers".to_owned());
    };
    let class = class.class.rsplit('.').next().unwrap_or_default();
    let typed = DType::from_torch_storage(class);
    let dtype = match dtype {
        Some(dtype) => dtype
            .as_opaque()
            .and_then(|dtype| DType::from_torch_name(dtype.class.strip_prefix("torch.")?)),
        None => typed,
    };
    // Complex and quantised numbers.
    let Some(dtype) = dtype else { return Ok(None) };
    // An untyped storage counts bytes.
    let width = if typed.is_some() { dtype.size() } else { 1 };
    let bytes = context.storage(key, numel, width)?;
    let tensor = TorchTensor::view(dtype, shape, stride, offset, bytes)
        .map_err(|what| format!("storage {key}: {what}"))?;
    context.accept(tensor).map(Some)
}
