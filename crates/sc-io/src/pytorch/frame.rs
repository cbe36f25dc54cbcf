//! pandas data frames, which scvi-tools keeps the training history in.

use std::sync::Arc;

use super::array::{ArrayData, NumpyArray};
use super::dtype::DType;
use super::error::{Error, Result};
use super::value::{Construct, Opaque, Value};

const FRAME: &str = "pandas.core.frame.DataFrame";
const INDEX: &str = "pandas.core.indexes.base.Index";

/// A table of numbers with named columns.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFrame {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The row labels; where they are not numbers, the row's number.
    pub index: Vec<f64>,
    /// The name of the row labels, such as `epoch`.
    pub index_name: Option<String>,
    /// One vector per column, each as long as the index. A missing value is NaN.
    pub values: Vec<Vec<f64>>,
}

impl DataFrame {
    /// Reads a pandas `DataFrame` (as pandas 1.0 to 3 pickle it, or as [`to_value`](Self::to_value) makes it).
    ///
    /// # Errors
    /// [`Error::Conversion`] if the value is not a data frame, or has columns that are not numbers.
    pub fn from_value(value: &Value) -> Result<Self> {
        let frame = value.as_opaque().filter(|object| &*object.class == FRAME);
        let frame = frame.ok_or_else(|| wrong(format!("found {}", value.type_name())))?;
        if frame.construct == Construct::Call {
            return from_constructor(frame);
        }
        let manager = frame
            .attribute("_mgr")
            .or_else(|| frame.attribute("_data"))
            .and_then(Value::as_opaque);
        let manager = manager.ok_or_else(|| wrong("its state has no block manager"))?;
        let (axes, blocks) = match manager.args.as_slice() {
            [blocks, axes] => (
                axes.as_slice(),
                blocks
                    .as_slice()
                    .map(|blocks| blocks.iter().filter_map(block).collect::<Vec<_>>()),
            ),
            _ => old_manager(manager),
        };
        let (Some([columns, index]), Some(blocks)) = (axes, blocks) else {
            return Err(wrong("its block manager has an unknown layout"));
        };
        let columns = index_values(columns)?.iter().map(label).collect::<Vec<_>>();
        let (index, index_name) = row_labels(index)?;
        let values = columns_of(&blocks, columns.len(), index.len())?;
        Ok(Self {
            columns,
            index,
            index_name,
            values,
        })
    }

    /// The call of pandas' constructor that makes this table, in any version of pandas.
    ///
    /// # Errors
    /// [`Error::Conversion`] if there are more or fewer columns or values than the names and the index ask for.
    pub fn to_value(&self) -> Result<Value> {
        let rows = self.index.len();
        if self.values.len() != self.columns.len()
            || self.values.iter().any(|column| column.len() != rows)
        {
            return Err(Error::conversion(format!(
                "a data frame of {} columns and {rows} rows needs as many columns of as many values",
                self.columns.len()
            )));
        }
        let bytes = (0..rows)
            .flat_map(|row| self.values.iter().filter_map(move |column| column.get(row)))
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let numbers = ArrayData::Numbers {
            dtype: DType::F64,
            bytes: Arc::new(bytes),
        };
        let data = NumpyArray::new(&[rows, self.columns.len()], numbers)?;
        // Whole labels stay whole numbers, as pandas counts epochs.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be whole and small"
        )]
        let whole: Option<Vec<i64>> = self
            .index
            .iter()
            .map(|label| (label.fract() == 0.0 && label.abs() < 9e15).then_some(*label as i64))
            .collect();
        let labels = whole.map_or_else(
            || NumpyArray::from_f64(&self.index),
            |whole| NumpyArray::from_i64(&whole),
        );
        let name = Value::from(self.index_name.as_deref());
        let index = Opaque::call(
            INDEX,
            vec![labels.into(), Value::None, Value::Bool(false), name],
        );
        let columns = Value::list(
            self.columns
                .iter()
                .map(|name| Value::from(name.as_str()))
                .collect(),
        );
        Ok(Opaque::call(FRAME, vec![data.into(), index.into(), columns]).into())
    }
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::conversion(format!("wanted a pandas DataFrame of numbers: {what}"))
}

/// `DataFrame(array, index, columns)`
fn from_constructor(frame: &Opaque) -> Result<DataFrame> {
    let [Value::Array(data), index, columns] = frame.args.as_slice() else {
        return Err(wrong("its constructor has unknown arguments"));
    };
    let columns: Vec<String> = index_values(columns)?.iter().map(label).collect();
    let (index, index_name) = row_labels(index)?;
    if data.shape() != [index.len(), columns.len()] {
        return Err(wrong("its values do not have the shape of its labels"));
    }
    let numbers = data.to_f64_vec()?;
    let values = (0..columns.len())
        .map(|column| {
            numbers
                .iter()
                .skip(column)
                .step_by(columns.len())
                .copied()
                .collect()
        })
        .collect();
    Ok(DataFrame {
        columns,
        index,
        index_name,
        values,
    })
}

/// Some columns of a frame: the values, one row per column, and which columns they are.
type Block<'a> = (&'a NumpyArray, &'a Value);

/// `_unpickle_block(values, placement, ndim)`
fn block(value: &Value) -> Option<Block<'_>> {
    match value.as_opaque()?.args.as_slice() {
        [Value::Array(values), placement, ..] => Some((values, placement)),
        _ => None,
    }
}

/// pandas before 1.3 keeps the blocks in the manager's state, under the version that introduced the layout.
fn old_manager(manager: &Opaque) -> (Option<&[Value]>, Option<Vec<Block<'_>>>) {
    let state = manager
        .state
        .as_ref()
        .and_then(Value::as_slice)
        .and_then(|state| state.last());
    let layout = state.and_then(|state| state.get("0.14.1"));
    let axes = layout
        .and_then(|layout| layout.get("axes"))
        .and_then(Value::as_slice);
    let blocks = layout
        .and_then(|layout| layout.get("blocks"))
        .and_then(Value::as_slice);
    let blocks = blocks.map(|blocks| {
        blocks
            .iter()
            .filter_map(|block| Some((block.get("values")?.as_array()?, block.get("mgr_locs")?)))
            .collect()
    });
    (axes, blocks)
}

fn columns_of(blocks: &[Block<'_>], count: usize, rows: usize) -> Result<Vec<Vec<f64>>> {
    let mut values: Vec<Option<Vec<f64>>> = vec![None; count];
    for (array, placement) in blocks {
        let places = placement_of(placement, count)?;
        if array.len() != places.len().saturating_mul(rows) {
            return Err(wrong("a block does not have the shape of its labels"));
        }
        let numbers = array.to_f64_vec()?;
        for (order, place) in places.into_iter().enumerate() {
            let column = numbers
                .get(order * rows..(order + 1) * rows)
                .map(<[f64]>::to_vec);
            if let Some(slot) = values.get_mut(place) {
                *slot = column;
            }
        }
    }
    let missing = || wrong("a column has values that are not numbers");
    values
        .into_iter()
        .map(|column| column.ok_or_else(missing))
        .collect()
}

/// Which columns a block fills: `slice(start, stop, step)`, or an array of positions.
fn placement_of(placement: &Value, count: usize) -> Result<Vec<usize>> {
    let unknown = || wrong("a block does not say which columns it has");
    let places: Vec<usize> = match placement {
        Value::Array(array) => array
            .to_i64_vec()?
            .into_iter()
            .filter_map(|place| usize::try_from(place).ok())
            .collect(),
        Value::Opaque(slice) if &*slice.class == "builtins.slice" => match slice.args.as_slice() {
            [start, stop, step] => {
                let step = step.as_usize().unwrap_or(1).max(1);
                let (start, stop) = (
                    start.as_usize().unwrap_or(0),
                    stop.as_usize().unwrap_or(count),
                );
                (start..stop.min(count)).step_by(step).collect()
            }
            _ => return Err(unknown()),
        },
        _ => return Err(unknown()),
    };
    if places.iter().any(|&place| place >= count) {
        Err(unknown())
    } else {
        Ok(places)
    }
}

/// The labels of an axis, one value each.
fn index_values(index: &Value) -> Result<Vec<Value>> {
    let unknown = || wrong("an axis has labels of an unknown kind");
    match index {
        Value::List(items) | Value::Tuple(items) => Ok(items.to_vec()),
        Value::Array(array) => Ok(array.to_values()),
        Value::Opaque(object) => match object.args.as_slice() {
            // `_new_Index(class, {data, name})`, and for ranges `{start, stop, step, name}`.
            [Value::Opaque(_), Value::Dict(facts)] => match facts.get("data") {
                Some(data) => index_values(data),
                None => range(facts.get("start"), facts.get("stop"), facts.get("step"))
                    .ok_or_else(unknown),
            },
            // `Index(data, ...)`; arrays of text in newer pandas have their data in the state.
            [data @ (Value::Array(_) | Value::List(_)), ..] => index_values(data),
            _ => inner_array(object)
                .map(NumpyArray::to_values)
                .ok_or_else(unknown),
        },
        _ => Err(unknown()),
    }
}

/// The labels of a range; a range that no frame can have is refused.
fn range(start: Option<&Value>, stop: Option<&Value>, step: Option<&Value>) -> Option<Vec<Value>> {
    let (start, stop) = (start?.as_i64()?, stop?.as_i64()?);
    let step = step.and_then(Value::as_usize).filter(|step| *step > 0)?;
    let span = usize::try_from(stop.checked_sub(start)?)
        .ok()
        .filter(|span| span / step <= 1 << 24)?;
    Some(
        (start..start.checked_add(i64::try_from(span).ok()?)?)
            .step_by(step)
            .map(Value::Int)
            .collect(),
    )
}

/// The numpy array inside one of pandas' own arrays.
fn inner_array(object: &Opaque) -> Option<&NumpyArray> {
    ["_ndarray", "_data", "_values"]
        .iter()
        .find_map(|name| object.attribute(name)?.as_array())
        .or_else(|| {
            let state = object.state.as_ref()?.as_slice()?;
            state.iter().find_map(Value::as_array)
        })
}

fn row_labels(index: &Value) -> Result<(Vec<f64>, Option<String>)> {
    let values = index_values(index)?;
    let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
    #[expect(clippy::cast_precision_loss, reason = "row numbers are small")]
    let labels = numbers.unwrap_or_else(|| (0..values.len()).map(|row| row as f64).collect());
    let name = index
        .as_opaque()
        .and_then(|object| match object.args.as_slice() {
            [Value::Opaque(_), Value::Dict(facts)] => facts.get("name"),
            [_, _, _, name, ..] => Some(name),
            _ => None,
        });
    Ok((labels, name.and_then(Value::as_str).map(str::to_owned)))
}

/// A column's name; numbers become text.
fn label(value: &Value) -> String {
    match value {
        Value::Str(name) => name.to_string(),
        Value::Int(number) => number.to_string(),
        other => other.type_name().to_owned(),
    }
}
