use hdf5::{Dataset, Group};
use indexmap::IndexMap;
use ndarray::{ArrayD, IxDyn};
use sc_data::Uns;

use crate::Result;
use crate::hdf::{H5, Kind, Node, child};

/// Links may form a circle.
const DEEPEST: usize = 48;

impl H5 {
    /// `uns`, or a dictionary in it. What cannot be represented is left out with a warning that names it.
    pub(crate) fn dict(&self, group: &Group, depth: usize) -> Result<IndexMap<String, Uns>> {
        let mut dict = IndexMap::new();
        for name in self.names(group)? {
            let at = child(&group.name(), &name);
            let value = self
                .require(group, &name)
                .and_then(|node| self.uns_value(&node, depth + 1));
            match value {
                Ok(value) => {
                    dict.insert(name, value);
                }
                Err(e) => {
                    tracing::warn!(file = %self.path.display(), "{at} cannot be represented and is left out: {e}");
                }
            }
        }
        Ok(dict)
    }

    fn uns_value(&self, node: &Node, depth: usize) -> Result<Uns> {
        match node {
            Node::Dataset(dataset) => self.uns_dataset(dataset),
            Node::Group(group) => self.uns_group(group, depth),
        }
    }

    fn uns_group(&self, group: &Group, depth: usize) -> Result<Uns> {
        let at = group.name();
        if depth > DEEPEST {
            return Err(self.wrong(&at, format!("{depth} levels"), format!("at most {DEEPEST}")));
        }
        match self.encoding(group).as_deref() {
            Some("dataframe") => {
                let node = Node::Group(group.clone());
                Ok(Uns::Table(self.table(&node, None)?))
            }
            None | Some("dict" | "mapping" | "" | "csr_matrix" | "csc_matrix") => {
                if self.sparse_header(group)?.is_some() {
                    Ok(Uns::Sparse(self.sparse(group, None, None)?))
                } else {
                    Ok(Uns::Dict(self.dict(group, depth)?))
                }
            }
            Some(other) => Err(self.wrong(&at, other, "a dictionary, a table or an array")),
        }
    }

    fn uns_dataset(&self, from: &Dataset) -> Result<Uns> {
        let at = from.name();
        let space = from.space().map_err(self.at(&at))?;
        if space.is_null() {
            return Ok(Uns::Null);
        }
        if self.encoding(from).as_deref() == Some("bytes") {
            return Err(self.wrong(&at, "bytes", "text"));
        }
        let kind = self.kind(from, &at)?;
        if let Kind::Compound(compound) = &kind {
            let names: Vec<&str> = compound.fields.iter().map(|f| f.name.as_str()).collect();
            if names == ["r", "i"] {
                return Err(self.wrong(&at, "complex numbers", "real numbers"));
            }
            return Ok(Uns::Table(self.records_as_table(from)?));
        }
        // Before anndata 0.7 a text was an array of one.
        let old_text = kind == Kind::Str
            && space.shape() == [1]
            && self.encoding(from).is_none()
            && self.encoding(&self.file).is_none();
        if space.is_scalar() || old_text {
            self.uns_scalar(from, &kind)
        } else {
            self.uns_array(from, &kind)
        }
    }

    fn uns_scalar(&self, from: &Dataset, kind: &Kind) -> Result<Uns> {
        let at = from.name();
        let value = match kind {
            Kind::Bool => self.bools(from)?.first().map(|&b| Uns::Bool(b)),
            Kind::Int(..) => self.i64s(from)?.first().map(|&i| Uns::Int(i)),
            Kind::Float(_) => self.raw::<f64>(from)?.first().map(|&f| Uns::Float(f)),
            Kind::Str => self.strings(from)?.pop().map(Uns::Str),
            Kind::Compound(_) | Kind::Other(_) => None,
        };
        value.ok_or_else(|| self.wrong(&at, kind.name(), "text, a number or a truth value"))
    }

    fn uns_array(&self, from: &Dataset, kind: &Kind) -> Result<Uns> {
        let at = from.name();
        let shape = IxDyn(&self.shape(from)?);
        let full = |e: ndarray::ShapeError| self.wrong(&at, e.to_string(), "a full array");
        Ok(match kind {
            Kind::Bool => {
                Uns::Bools(ArrayD::from_shape_vec(shape, self.bools(from)?).map_err(full)?)
            }
            Kind::Int(..) => {
                Uns::Ints(ArrayD::from_shape_vec(shape, self.i64s(from)?).map_err(full)?)
            }
            Kind::Float(2 | 4) => {
                Uns::Floats32(ArrayD::from_shape_vec(shape, self.raw(from)?).map_err(full)?)
            }
            Kind::Float(_) => {
                Uns::Floats(ArrayD::from_shape_vec(shape, self.raw(from)?).map_err(full)?)
            }
            Kind::Str => {
                Uns::Strings(ArrayD::from_shape_vec(shape, self.strings(from)?).map_err(full)?)
            }
            Kind::Compound(_) | Kind::Other(_) => {
                return Err(self.wrong(&at, kind.name(), "numbers, text or truth values"));
            }
        })
    }
}
