use indexmap::IndexMap;

use crate::{Categorical, Error, Result};

/// One column of a [`Table`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Column {
    /// True or false.
    Bool(Vec<bool>),
    /// 32-bit integers.
    Int32(Vec<i32>),
    /// 64-bit integers; narrower and unsigned ones are widened to it.
    Int(Vec<i64>),
    /// Single precision.
    Float32(Vec<f32>),
    /// Double precision; NaN is a missing value.
    Float(Vec<f64>),
    /// Text.
    Str(Vec<String>),
    /// Labels.
    Categorical(Categorical),
    /// True, false or missing.
    OptBool(Vec<Option<bool>>),
    /// Integers, some missing.
    OptInt(Vec<Option<i64>>),
    /// Text, some missing.
    OptStr(Vec<Option<String>>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::Int32(v) => v.len(),
            Self::Int(v) => v.len(),
            Self::Float32(v) => v.len(),
            Self::Float(v) => v.len(),
            Self::Str(v) => v.len(),
            Self::Categorical(v) => v.len(),
            Self::OptBool(v) => v.len(),
            Self::OptInt(v) => v.len(),
            Self::OptStr(v) => v.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds, in words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "booleans",
            Self::Int32(_) | Self::Int(_) => "integers",
            Self::Float32(_) | Self::Float(_) => "numbers",
            Self::Str(_) => "text",
            Self::Categorical(_) => "categories",
            Self::OptBool(_) => "booleans (nullable)",
            Self::OptInt(_) => "integers (nullable)",
            Self::OptStr(_) => "text (nullable)",
        }
    }

    /// The rows in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if let Some(&r) = rows.iter().find(|&&r| r >= self.len()) {
            return Err(Error::OutOfRange {
                what: "row",
                index: r,
                len: self.len(),
            });
        }
        fn pick<T: Clone>(v: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|&r| v[r].clone()).collect()
        }
        Ok(match self {
            Self::Bool(v) => Self::Bool(pick(v, rows)),
            Self::Int32(v) => Self::Int32(pick(v, rows)),
            Self::Int(v) => Self::Int(pick(v, rows)),
            Self::Float32(v) => Self::Float32(pick(v, rows)),
            Self::Float(v) => Self::Float(pick(v, rows)),
            Self::Str(v) => Self::Str(pick(v, rows)),
            Self::Categorical(v) => Self::Categorical(v.select(rows)),
            Self::OptBool(v) => Self::OptBool(pick(v, rows)),
            Self::OptInt(v) => Self::OptInt(pick(v, rows)),
            Self::OptStr(v) => Self::OptStr(pick(v, rows)),
        })
    }

    /// As labels. Text, integers and booleans become categories, sorted as `pandas.Categorical` sorts them
    /// (numbers by value, text by code point); a categorical column keeps its own order.
    ///
    /// # Errors
    /// [`Error::WrongType`] for floating-point columns.
    pub fn to_categorical(&self, name: &str) -> Result<Categorical> {
        let ints = |v: &mut dyn Iterator<Item = Option<i64>>| {
            let values: Vec<Option<i64>> = v.collect();
            let mut levels: Vec<i64> = values.iter().flatten().copied().collect();
            levels.sort_unstable();
            levels.dedup();
            let codes = values
                .iter()
                .map(|v| {
                    v.and_then(|v| levels.binary_search(&v).ok())
                        .map(|c| c as u32)
                })
                .collect();
            Categorical::new(codes, levels.iter().map(i64::to_string).collect(), false)
        };
        // As Python prints them.
        let bool_name = |b: bool| if b { "True" } else { "False" };
        match self {
            Self::Categorical(c) => Ok(c.clone()),
            Self::Str(v) => Ok(Categorical::from_labels(v)),
            Self::OptStr(v) => Ok(Categorical::from_options(v.iter().map(Option::as_deref))),
            Self::Int32(v) => ints(&mut v.iter().map(|&i| Some(i64::from(i)))),
            Self::Int(v) => ints(&mut v.iter().map(|&i| Some(i))),
            Self::OptInt(v) => ints(&mut v.iter().copied()),
            Self::Bool(v) => Ok(Categorical::from_options(
                v.iter().map(|&b| Some(bool_name(b))),
            )),
            Self::OptBool(v) => Ok(Categorical::from_options(
                v.iter().map(|b| b.map(bool_name)),
            )),
            Self::Float32(_) | Self::Float(_) => Err(Error::WrongType {
                name: name.to_owned(),
                found: self.type_name(),
                expected: "labels (text, categories, integers or booleans)",
            }),
        }
    }

    /// As numbers.
    ///
    /// # Errors
    /// [`Error::WrongType`] for text and categories, [`Error::Missing`] if a value is missing or NaN.
    pub fn to_f64(&self, name: &str) -> Result<Vec<f64>> {
        let values: Vec<f64> = match self {
            Self::Bool(v) => v.iter().map(|&b| f64::from(u8::from(b))).collect(),
            Self::Int32(v) => v.iter().map(|&i| f64::from(i)).collect(),
            Self::Int(v) => v.iter().map(|&i| i as f64).collect(),
            Self::Float32(v) => v.iter().map(|&f| f64::from(f)).collect(),
            Self::Float(v) => v.clone(),
            Self::OptInt(v) => v.iter().map(|i| i.map_or(f64::NAN, |i| i as f64)).collect(),
            Self::OptBool(v) => v
                .iter()
                .map(|b| b.map_or(f64::NAN, |b| f64::from(u8::from(b))))
                .collect(),
            Self::Str(_) | Self::OptStr(_) | Self::Categorical(_) => {
                return Err(Error::WrongType {
                    name: name.to_owned(),
                    found: self.type_name(),
                    expected: "numbers",
                });
            }
        };
        match values.iter().position(|v| v.is_nan()) {
            Some(first) => Err(Error::Missing {
                name: name.to_owned(),
                count: values.iter().filter(|v| v.is_nan()).count(),
                first,
            }),
            None => Ok(values),
        }
    }
}

/// Named columns of one length with an index (row names), like `obs` and `var`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    index: Vec<String>,
    index_name: Option<String>,
    columns: IndexMap<String, Column>,
}

impl Table {
    /// A table without columns.
    pub fn new(index: Vec<String>) -> Self {
        Self {
            index,
            index_name: None,
            columns: IndexMap::new(),
        }
    }

    /// The same table with a name for its index.
    #[must_use]
    pub fn with_index_name(mut self, name: Option<String>) -> Self {
        self.index_name = name;
        self
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.index.len()
    }

    /// The row names.
    pub fn index(&self) -> &[String] {
        &self.index
    }

    /// The name of the index, if it has one.
    pub fn index_name(&self) -> Option<&str> {
        self.index_name.as_deref()
    }

    /// The columns in order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &Column)> {
        self.columns.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The column called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// The column called `name`; `container` ("obs", "var") is for the message.
    ///
    /// # Errors
    /// [`Error::NotFound`], which lists the columns there are.
    pub fn column(&self, container: &str, name: &str) -> Result<&Column> {
        self.get(name).ok_or_else(|| Error::NotFound {
            container: container.to_owned(),
            kind: "column",
            name: name.to_owned(),
            available: names_or_nothing(self.columns.keys()),
        })
    }

    /// Adds or replaces a column.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if its length differs from the table's.
    pub fn insert(&mut self, name: impl Into<String>, column: Column) -> Result<()> {
        let name = name.into();
        if column.len() != self.n_rows() {
            return Err(Error::LengthMismatch {
                what: format!("column \"{name}\""),
                found: column.len(),
                expected: self.n_rows(),
            });
        }
        self.columns.insert(name, column);
        Ok(())
    }

    /// Takes a column out.
    pub fn remove(&mut self, name: &str) -> Option<Column> {
        self.columns.shift_remove(name)
    }

    /// The rows in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self> {
        if let Some(&r) = rows.iter().find(|&&r| r >= self.n_rows()) {
            return Err(Error::OutOfRange {
                what: "row",
                index: r,
                len: self.n_rows(),
            });
        }
        Ok(Self {
            index: rows.iter().map(|&r| self.index[r].clone()).collect(),
            index_name: self.index_name.clone(),
            columns: self
                .columns
                .iter()
                .map(|(k, c)| Ok((k.clone(), c.select(rows)?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// The names, joined for a message.
pub(crate) fn names_or_nothing<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_sort_by_value_as_pandas_does() {
        let c = Column::Int(vec![10, 9, 10]).to_categorical("x").unwrap();
        assert_eq!(c.categories(), ["9", "10"]);
        assert!(Column::Float(vec![1.0]).to_categorical("x").is_err());
    }

    #[test]
    fn a_missing_column_lists_those_there_are() {
        let mut t = Table::new(vec!["c1".into(), "c2".into()]);
        t.insert("sample", Column::Int(vec![1, 2])).unwrap();
        assert!(t.insert("short", Column::Int(vec![1])).is_err());
        let message = t.column("obs", "batch").unwrap_err().to_string();
        assert_eq!(message, "obs has no column \"batch\"; it has: sample");
        assert_eq!(
            t.select_rows(&[1]).unwrap().get("sample"),
            Some(&Column::Int(vec![2]))
        );
    }

    #[test]
    fn nan_is_missing() {
        assert!(Column::Float(vec![0.0, f64::NAN]).to_f64("age").is_err());
        assert_eq!(Column::Bool(vec![true]).to_f64("b").unwrap(), vec![1.0]);
    }
}
