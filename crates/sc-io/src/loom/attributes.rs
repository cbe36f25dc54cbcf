//! What a loom file knows of cells, of features, and of itself.

use hdf5::{Attribute, Dataset, Group};
use indexmap::IndexMap;
use ndarray::{ArrayD, IxDyn};
use sc_data::{Annotation, Column, Csr, Matrix, Table, Uns};

use crate::Result;
use crate::hdf::{H5, Kind, Node, child};

/// A table with names, and what has several values a row.
type Attributes = (Table, IndexMap<String, Annotation>);

impl H5 {
    /// `row_attrs` or `col_attrs`: `n` values each.
    pub(super) fn attributes(
        &self,
        root: &Group,
        name: &str,
        n: usize,
        naming: &[&str],
    ) -> Result<Attributes> {
        let group = match self.require(root, name)? {
            Node::Group(g) => g,
            Node::Dataset(d) => return Err(self.wrong(&d.name(), "a dataset", "a group")),
        };
        let members = self.names(&group)?;
        let names = naming
            .iter()
            .find(|want| members.iter().any(|m| m == *want));
        let mut table = match names {
            Some(member) => Table::new(self.row_names(&self.dataset(&group, member)?, n)?)
                .with_index_name(Some((*member).to_owned())),
            None => Table::new((0..n).map(|i| i.to_string()).collect()),
        };
        let mut several = IndexMap::new();
        for member in members.iter().filter(|m| Some(&m.as_str()) != names) {
            let at = child(&group.name(), member);
            let Node::Dataset(values) = self.require(&group, member)? else {
                tracing::warn!(file = %self.path.display(), "{at} is a group and is left out");
                continue;
            };
            match self.attribute(&values, &at, n)? {
                Some(Values::One(column)) => table
                    .insert(member.as_str(), column)
                    .map_err(self.data(&at))?,
                Some(Values::Several(matrix)) => {
                    several.insert(member.clone(), Annotation::Matrix(matrix));
                }
                None => {
                    tracing::warn!(file = %self.path.display(), "{at} is of a kind or shape that is not supported and is left out");
                }
            }
        }
        Ok((table, several))
    }

    fn row_names(&self, from: &Dataset, n: usize) -> Result<Vec<String>> {
        let names = match self.shape(from)?[..] {
            // Some writers store columns of width one.
            [_, 1] if self.kind(from, &from.name())? == Kind::Str => self.strings(from)?,
            _ => self.labels(from)?,
        };
        if names.len() == n {
            return Ok(names);
        }
        let found = format!("{} names", names.len());
        Err(self.wrong(&from.name(), found, format!("{n}, as the matrix has")))
    }

    /// `None` if it is neither a value nor a row of numbers for each of `n`.
    fn attribute(&self, from: &Dataset, at: &str, n: usize) -> Result<Option<Values>> {
        let shape = self.shape(from)?;
        let kind = self.kind(from, at)?;
        if shape.first() != Some(&n) {
            return Ok(None);
        }
        Ok(match (&shape[..], kind) {
            ([_] | [_, 1], Kind::Bool) => Some(Values::One(Column::Bool(self.bools(from)?))),
            ([_] | [_, 1], Kind::Int(4, true)) => Some(Values::One(Column::Int32(self.raw(from)?))),
            ([_] | [_, 1], Kind::Int(..)) => Some(Values::One(Column::Int(self.i64s(from)?))),
            ([_] | [_, 1], Kind::Float(2 | 4)) => {
                Some(Values::One(Column::Float32(self.raw(from)?)))
            }
            ([_] | [_, 1], Kind::Float(_)) => Some(Values::One(Column::Float(self.raw(from)?))),
            ([_] | [_, 1], Kind::Str) => Some(Values::One(Column::Str(self.strings(from)?))),
            ([_, _], kind) if kind.is_number() => {
                let node = Node::Dataset(from.clone());
                Some(Values::Several(self.matrix(&node, Some(n), None)?))
            }
            _ => None,
        })
    }

    /// `row_graphs` or `col_graphs`: lists of edges `a`, `b` with weights `w`.
    pub(super) fn graphs(
        &self,
        root: &Group,
        name: &str,
        n: usize,
    ) -> Result<IndexMap<String, Matrix>> {
        let mut graphs = IndexMap::new();
        let Some(Node::Group(group)) = self.member(root, name)? else {
            return Ok(graphs);
        };
        for key in self.names(&group)? {
            let at = child(&group.name(), &key);
            let Node::Group(graph) = self.require(&group, &key)? else {
                tracing::warn!(file = %self.path.display(), "{at} is no graph and is left out");
                continue;
            };
            graphs.insert(key, Matrix::Sparse(self.graph(&graph, n)?));
        }
        Ok(graphs)
    }

    fn graph(&self, graph: &Group, n: usize) -> Result<Csr> {
        let at = graph.name();
        let from = self.i64s(&self.dataset(graph, "a")?)?;
        let to = self.i64s(&self.dataset(graph, "b")?)?;
        let weights = self.f32s(&self.dataset(graph, "w")?)?;
        if from.len() != to.len() || from.len() != weights.len() {
            let found = format!("{}, {} and {} values", from.len(), to.len(), weights.len());
            return Err(self.wrong(&at, found, "a, b and w of the same length"));
        }
        let mut edges = Vec::with_capacity(from.len());
        for ((a, b), w) in from.iter().zip(&to).zip(&weights) {
            let place = |v: i64| usize::try_from(v).ok().filter(|v| *v < n);
            match (place(*a), place(*b)) {
                (Some(a), Some(b)) => edges.push((a, b as u32, *w)),
                _ => {
                    let found = format!("an edge from {a} to {b}");
                    return Err(self.wrong(&at, found, format!("places below {n}")));
                }
            }
        }
        csr_of(n, edges).map_err(self.data(&at))
    }

    /// The attributes of the file, then what is in `attrs`. What cannot be represented is left out with a warning.
    pub(super) fn global_attributes(&self, root: &Group) -> Result<IndexMap<String, Uns>> {
        let mut all = IndexMap::new();
        for name in root.attr_names().map_err(self.at("/"))? {
            let found = root
                .attr(&name)
                .map_err(self.at("/"))
                .and_then(|a| self.attribute_of_file(&a, &name));
            match found {
                Ok(value) => {
                    all.insert(name, value);
                }
                Err(e) => {
                    tracing::warn!(file = %self.path.display(), "the attribute {name} is left out: {e}");
                }
            }
        }
        if let Some(Node::Group(group)) = self.member(root, "attrs")? {
            all.extend(self.dict(&group, 0)?);
        }
        Ok(all)
    }

    fn attribute_of_file(&self, attribute: &Attribute, name: &str) -> Result<Uns> {
        let at = format!("/ (attribute {name})");
        let space = attribute.space().map_err(self.at(&at))?;
        if space.is_null() {
            return Ok(Uns::Null);
        }
        let shape = space.shape();
        let kind = self.kind(attribute, &at)?;
        let full = |e: ndarray::ShapeError| self.wrong(&at, e.to_string(), "a full array");
        let shaped = || IxDyn(&shape);
        Ok(match kind {
            Kind::Str => {
                let texts = self.attr_strings(&self.file, name)?.unwrap_or_default();
                match (shape.is_empty(), texts.first()) {
                    (true, Some(text)) => Uns::Str(text.clone()),
                    _ => Uns::Strings(ArrayD::from_shape_vec(shaped(), texts).map_err(full)?),
                }
            }
            Kind::Bool | Kind::Int(..) => {
                let values: Vec<i64> = attribute.read_raw().map_err(self.at(&at))?;
                match (shape.is_empty(), values.first()) {
                    (true, Some(v)) => Uns::Int(*v),
                    _ => Uns::Ints(ArrayD::from_shape_vec(shaped(), values).map_err(full)?),
                }
            }
            Kind::Float(_) => {
                let values: Vec<f64> = attribute.read_raw().map_err(self.at(&at))?;
                match (shape.is_empty(), values.first()) {
                    (true, Some(v)) => Uns::Float(*v),
                    _ => Uns::Floats(ArrayD::from_shape_vec(shaped(), values).map_err(full)?),
                }
            }
            other => return Err(self.wrong(&at, other.name(), "text or numbers")),
        })
    }
}

enum Values {
    One(Column),
    Several(Matrix),
}

/// Edges of the same place are added up, in the order of the file.
pub(super) fn csr_of(n: usize, mut edges: Vec<(usize, u32, f32)>) -> sc_data::Result<Csr> {
    edges.sort_by_key(|&(a, b, _)| (a, b));
    edges.dedup_by(|next, kept| {
        let same = (next.0, next.1) == (kept.0, kept.1);
        if same {
            kept.2 += next.2;
        }
        same
    });
    let mut indptr = vec![0; n + 1];
    for &(a, _, _) in &edges {
        if let Some(count) = indptr.get_mut(a + 1) {
            *count += 1;
        }
    }
    for i in 1..indptr.len() {
        indptr[i] += indptr[i - 1];
    }
    let (indices, data) = edges.iter().map(|&(_, b, w)| (b, w)).unzip();
    Csr::new(n, n, indptr, indices, data)
}
