/// What a cell of a table holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number; one that is not finite is shown as missing.
    Number(f64),
    /// A count.
    Integer(u64),
    /// Words.
    Text(String),
    /// Nothing could be computed.
    Missing,
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        if v.is_finite() {
            Self::Number(v)
        } else {
            Self::Missing
        }
    }
}

impl From<usize> for Value {
    fn from(v: usize) -> Self {
        Self::Integer(v as u64)
    }
}

impl From<u64> for Value {
    fn from(v: u64) -> Self {
        Self::Integer(v)
    }
}

impl From<i32> for Value {
    fn from(v: i32) -> Self {
        u64::try_from(v).map_or(Self::Number(f64::from(v)), Self::Integer)
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Missing, Into::into)
    }
}

impl Value {
    /// As people read it: four significant digits.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Number(v) => number(*v),
            Self::Integer(v) => thousands(*v),
            Self::Text(v) => v.clone(),
            Self::Missing => "n/a".into(),
        }
    }

    /// As programs read it: every digit, nothing where nothing is.
    pub(super) fn exact(&self) -> String {
        match self {
            Self::Number(v) => v.to_string(),
            Self::Integer(v) => v.to_string(),
            Self::Text(v) => v.clone(),
            Self::Missing => String::new(),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Number(v) => (*v).into(),
            Self::Integer(v) => (*v).into(),
            Self::Text(v) => v.as_str().into(),
            Self::Missing => serde_json::Value::Null,
        }
    }
}

fn number(v: f64) -> String {
    let size = v.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{v:.2e}");
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 4) as usize;
    format!("{v:.decimals$}")
}

fn thousands(v: u64) -> String {
    let digits = v.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A table: named rows, named columns.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Table {
    pub(super) caption: String,
    pub(super) of: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<(String, Vec<Value>)>,
    pub(super) folded: bool,
}

impl Table {
    /// A table without rows. The first column, which names the rows, has no heading unless [`Table::of`] gives it one.
    pub fn new<C: Into<String>>(
        caption: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        Self {
            caption: caption.into(),
            of: String::new(),
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            folded: false,
        }
    }

    /// Says what the rows are, e.g. "model".
    pub fn of(mut self, rows: impl Into<String>) -> Self {
        self.of = rows.into();
        self
    }

    /// Adds a row. Columns without a value are missing; values without a column are left out.
    pub fn row<V: Into<Value>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let mut values: Vec<Value> = values.into_iter().map(Into::into).collect();
        values.resize(self.columns.len(), Value::Missing);
        self.rows.push((name.into(), values));
        self
    }

    /// Shows the table only to those who unfold it, for long ones.
    pub fn folded(mut self) -> Self {
        self.folded = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let shown = |v: f64| Value::from(v).shown();
        assert_eq!(shown(0.84213), "0.8421");
        assert_eq!(shown(-12.3456), "-12.35");
        assert_eq!(shown(12345.6), "12346");
        assert_eq!(shown(0.000_012_3), "1.23e-5");
        assert_eq!(shown(0.0), "0");
        assert_eq!(shown(f64::NAN), "n/a");
        assert_eq!(shown(f64::INFINITY), "n/a");
        assert_eq!(Value::from(1_234_567usize).shown(), "1,234,567");
        assert_eq!(Value::from(999usize).shown(), "999");
    }

    #[test]
    fn rows_are_as_long_as_the_header() {
        let table = Table::new("t", ["a", "b"])
            .row("short", [1.0])
            .row("long", [1.0, 2.0, 3.0]);
        assert!(table.rows.iter().all(|r| r.1.len() == 2));
        assert_eq!(table.rows[0].1[1], Value::Missing);
    }
}
