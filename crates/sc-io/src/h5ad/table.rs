use hdf5::{Dataset, Group, ObjectReference1, ReferencedObject};
use sc_data::{Categorical, Column, Table};

use crate::Result;
use crate::hdf::{H5, Kind, Node, child};

impl H5 {
    /// A data frame of any version. `rows` is what the rest of the file says, where it does.
    pub(crate) fn table(&self, node: &Node, rows: Option<usize>) -> Result<Table> {
        let (table, at) = match node {
            Node::Group(group) => (self.frame(group)?, group.name()),
            Node::Dataset(dataset) => (self.records_as_table(dataset)?, dataset.name()),
        };
        match rows {
            Some(n) if n != table.n_rows() => {
                Err(self.wrong(&at, format!("{} rows", table.n_rows()), format!("{n} rows")))
            }
            _ => Ok(table),
        }
    }

    fn frame(&self, group: &Group) -> Result<Table> {
        let at = group.name();
        let index_name = self.index_member(group)?;
        let index = self.index(&self.require(group, &index_name)?)?;
        let mut table =
            Table::new(index).with_index_name(Some(index_name.clone()).filter(|n| n != "_index"));
        for name in self.column_order(group, &index_name)? {
            if name == index_name {
                continue;
            }
            let node = self.require(group, &name)?;
            if let Some(column) = self.column(group, &name, &node)? {
                table.insert(name.clone(), column).map_err(self.data(&at))?;
            }
        }
        Ok(table)
    }

    /// The name of the member that holds the row names.
    pub(crate) fn index_member(&self, group: &Group) -> Result<String> {
        if let Some(name) = self.attr_string(group, "_index") {
            return Ok(name);
        }
        ["_index", "index"]
            .into_iter()
            .find(|n| group.link_exists(n))
            .map(str::to_owned)
            .ok_or_else(|| {
                self.wrong(
                    &group.name(),
                    "no attribute \"_index\"",
                    "a data frame, whose \"_index\" names the member with the row names",
                )
            })
    }

    /// The columns in order; without `column-order` by name.
    pub(crate) fn column_order(&self, group: &Group, index: &str) -> Result<Vec<String>> {
        match self.attr_strings(group, "column-order")? {
            Some(order) => Ok(order),
            None => Ok(self
                .names(group)?
                .into_iter()
                .filter(|n| n != index && n != "__categories")
                .collect()),
        }
    }

    /// Row names: text, or anything that can be printed.
    fn index(&self, node: &Node) -> Result<Vec<String>> {
        let at = match node {
            Node::Group(g) => g.name(),
            Node::Dataset(d) => d.name(),
        };
        match node {
            Node::Dataset(d) => self.labels(d),
            Node::Group(g) => match self.column_of_group(g)? {
                Some(Column::Str(names)) => Ok(names),
                Some(Column::Categorical(c)) if c.codes().iter().all(Option::is_some) => {
                    Ok(c.iter().flatten().map(str::to_owned).collect())
                }
                Some(Column::OptInt(v)) if v.iter().all(Option::is_some) => {
                    Ok(v.iter().flatten().map(i64::to_string).collect())
                }
                Some(other) => Err(self.wrong(
                    &at,
                    format!("an index of {}", other.type_name()),
                    "one name a row, none missing",
                )),
                None => Err(self.wrong(&at, "an unknown encoding", "row names")),
            },
        }
    }

    /// Values printed as Python prints them: text, integers, numbers, truth values.
    pub(crate) fn labels(&self, from: &Dataset) -> Result<Vec<String>> {
        self.length_1d(from)?;
        let at = from.name();
        match self.kind(from, &at)? {
            Kind::Str => self.strings(from),
            Kind::Bool => Ok(self
                .bools(from)?
                .into_iter()
                .map(|b| if b { "True" } else { "False" }.to_owned())
                .collect()),
            Kind::Int(..) => Ok(self.i64s(from)?.iter().map(i64::to_string).collect()),
            Kind::Float(8) => Ok(self
                .raw::<f64>(from)?
                .iter()
                .map(|v| format!("{v:?}"))
                .collect()),
            Kind::Float(_) => Ok(self
                .raw::<f32>(from)?
                .iter()
                .map(|v| format!("{v:?}"))
                .collect()),
            other => Err(self.wrong(&at, other.name(), "text or numbers")),
        }
    }

    /// A column; `None`, with a warning, if it is of a kind that cannot be represented.
    pub(crate) fn column(&self, frame: &Group, name: &str, node: &Node) -> Result<Option<Column>> {
        let at = child(&frame.name(), name);
        let column = match node {
            Node::Group(group) => self.column_of_group(group)?,
            Node::Dataset(dataset) => match self.legacy_categories(frame, name, dataset)? {
                Some(categories) => Some(self.categorical(&at, dataset, &categories)?),
                None => self.plain_column(dataset)?,
            },
        };
        if column.is_none() {
            tracing::warn!(file = %self.path.display(), "{at} is of a kind that is not supported; the column is left out");
        }
        Ok(column)
    }

    fn plain_column(&self, from: &Dataset) -> Result<Option<Column>> {
        if self.shape(from)?.len() != 1 {
            return Ok(None);
        }
        Ok(Some(match self.kind(from, &from.name())? {
            Kind::Bool => Column::Bool(self.bools(from)?),
            Kind::Int(4, true) => Column::Int32(self.raw(from)?),
            Kind::Int(..) => Column::Int(self.i64s(from)?),
            Kind::Float(2 | 4) => Column::Float32(self.raw(from)?),
            Kind::Float(_) => Column::Float(self.raw(from)?),
            Kind::Str => Column::Str(self.strings(from)?),
            Kind::Compound(_) | Kind::Other(_) => return Ok(None),
        }))
    }

    fn column_of_group(&self, group: &Group) -> Result<Option<Column>> {
        let at = group.name();
        match self.encoding(group).as_deref() {
            Some("categorical") => {
                let ordered = self.attr_ints_or_bool(group, "ordered").unwrap_or_default();
                let categories = match self.require(group, "categories")? {
                    Node::Dataset(d) => self.labels(&d)?,
                    node @ Node::Group(_) => self.index(&node)?,
                };
                let codes = self.dataset(group, "codes")?;
                self.categorical(
                    &at,
                    &codes,
                    &Categories {
                        categories,
                        ordered,
                    },
                )
                .map(Some)
            }
            Some("nullable-integer") => {
                let values = self.i64s(&self.dataset(group, "values")?)?;
                Ok(Some(Column::OptInt(self.masked(group, values)?)))
            }
            Some("nullable-boolean") => {
                let values = self.bools(&self.dataset(group, "values")?)?;
                Ok(Some(Column::OptBool(self.masked(group, values)?)))
            }
            // The second is what anndata-rs writes.
            Some("nullable-string-array" | "nullable-string") => {
                let values = self.strings(&self.dataset(group, "values")?)?;
                let values = self.masked(group, values)?;
                Ok(Some(if values.iter().all(Option::is_some) {
                    Column::Str(values.into_iter().flatten().collect())
                } else {
                    Column::OptStr(values)
                }))
            }
            _ => Ok(None),
        }
    }

    fn masked<T>(&self, group: &Group, values: Vec<T>) -> Result<Vec<Option<T>>> {
        let mask = self.bools(&self.dataset(group, "mask")?)?;
        if mask.len() != values.len() {
            return Err(self.wrong(
                &group.name(),
                format!("{} values and a mask of {}", values.len(), mask.len()),
                "a mask as long as the values",
            ));
        }
        Ok(values
            .into_iter()
            .zip(mask)
            .map(|(v, missing)| (!missing).then_some(v))
            .collect())
    }

    /// A truth value among the attributes, stored as one or as an integer.
    fn attr_ints_or_bool(&self, of: &hdf5::Location, name: &str) -> Option<bool> {
        self.attr_ints(of, name)
            .ok()
            .flatten()?
            .first()
            .map(|&b| b != 0)
    }

    /// anndata 0.7: the codes point to a dataset of categories in `__categories`.
    fn legacy_categories(
        &self,
        frame: &Group,
        name: &str,
        codes: &Dataset,
    ) -> Result<Option<Categories>> {
        let Ok(attr) = codes.attr("categories") else {
            return Ok(None);
        };
        let by_reference = attr
            .read_scalar::<ObjectReference1>()
            .and_then(|r| self.file.dereference(&r));
        let dataset = match by_reference {
            Ok(ReferencedObject::Dataset(d)) => d,
            _ => match self.member(frame, "__categories")? {
                Some(Node::Group(g)) => self.dataset(&g, name)?,
                _ => {
                    return Err(self.wrong(
                        &codes.name(),
                        "a reference to categories that leads nowhere",
                        format!("a dataset __categories/{name}"),
                    ));
                }
            },
        };
        Ok(Some(Categories {
            categories: self.labels(&dataset)?,
            ordered: self
                .attr_ints_or_bool(&dataset, "ordered")
                .unwrap_or_default(),
        }))
    }

    fn categorical(&self, at: &str, codes: &Dataset, of: &Categories) -> Result<Column> {
        self.length_1d(codes)?;
        let codes = self
            .i64s(codes)?
            .into_iter()
            .map(|code| match code {
                -1 => Ok(None),
                // Beyond u32: refused below as out of range.
                c if c >= 0 => Ok(Some(u32::try_from(c).unwrap_or(u32::MAX))),
                c => Err(self.wrong(at, format!("the code {c}"), "-1 (missing) or a category")),
            })
            .collect::<Result<Vec<_>>>()?;
        Categorical::new(codes, of.categories.clone(), of.ordered)
            .map(Column::Categorical)
            .map_err(self.data(at))
    }
}

struct Categories {
    categories: Vec<String>,
    ordered: bool,
}
