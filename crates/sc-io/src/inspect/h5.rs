use std::path::Path;

use hdf5::{Dataset, Group};
use indexmap::IndexMap;

use super::{
    CATEGORIES, ColumnInfo, EXAMPLES, Inspection, MatrixInfo, TableInfo, column_info, empty,
    note_duplicates, table_info,
};
use crate::hdf::{H5, Kind, Node};
use crate::{Format, Result};

/// Values of `X` looked at to tell counts from something else.
const SAMPLE: usize = 100_000;
/// Names beyond this number are not checked for duplicates.
const MANY_NAMES: usize = 1 << 20;

pub(super) fn inspect(path: &Path) -> Result<Inspection> {
    let h5 = H5::open(path)?;
    annotated(&h5, path)
}

/// AnnData at the root, or in the modality that is the root.
fn annotated(h5: &H5, path: &Path) -> Result<Inspection> {
    let root: &Group = &h5.root;
    let mut found = empty(path, Format::H5ad, &version(h5)?);
    let mut notes = Vec::new();
    found.obs = h5.table_summary("obs", &mut notes)?;
    found.var = h5.table_summary("var", &mut notes)?;
    (found.n_obs, found.n_vars) = (found.obs.n_rows, found.var.n_rows);
    match h5.member(root, "X")? {
        Some(x) => {
            found.x = h5.matrix_summary(&x, &mut notes);
            h5.note_values(&x, &mut notes);
        }
        None => notes.push("there is no X".into()),
    }
    if let Some(Node::Group(layers)) = h5.member(root, "layers")? {
        for name in h5.names(&layers)? {
            let node = h5.require(&layers, &name)?;
            if let Some(info) = h5.matrix_summary(&node, &mut notes) {
                found.layers.insert(name, info);
            }
        }
    }
    let raw = match h5.member(root, "raw")? {
        Some(Node::Group(raw)) => h5.member(&raw, "X")?,
        _ => h5.member(root, "raw.X")?,
    };
    found.raw = raw.and_then(|x| h5.matrix_summary(&x, &mut notes));
    found.obsm = h5.shapes("obsm", &mut notes)?;
    found.varm = h5.shapes("varm", &mut notes)?;
    found.obsp = h5.shapes("obsp", &mut notes)?;
    found.varp = h5.shapes("varp", &mut notes)?;
    if let Some(Node::Group(uns)) = h5.member(root, "uns")? {
        found.uns = h5.names(&uns)?;
    }
    if let Some(x) = &found.x
        && x.shape != (found.n_obs, found.n_vars)
    {
        notes.push(format!(
            "X is {} x {}, but obs has {} rows and var {}",
            x.shape.0, x.shape.1, found.n_obs, found.n_vars
        ));
    }
    found.notes.extend(notes);
    Ok(found)
}

/// The joint tables, and each modality as a file of its own.
pub(super) fn inspect_modalities(path: &Path) -> Result<Inspection> {
    let mut h5 = H5::open(path)?;
    let root = h5.root.clone();
    let encoder = h5.attr_string(&root, "encoder-version");
    let encoder = encoder.map_or(String::new(), |v| {
        let by = h5.attr_string(&root, "encoder").unwrap_or_default();
        format!(", written by {by} {v}")
    });
    let version = h5
        .attr_string(&root, "encoding-version")
        .unwrap_or_default();
    let mut found = empty(path, Format::H5mu, &format!("MuData {version}{encoder}"));
    let mut notes = Vec::new();
    found.obs = h5.table_summary("obs", &mut notes)?;
    found.var = h5.table_summary("var", &mut notes)?;
    (found.n_obs, found.n_vars) = (found.obs.n_rows, found.var.n_rows);
    found.obsm = h5.shapes("obsm", &mut notes)?;
    found.varm = h5.shapes("varm", &mut notes)?;
    found.obsp = h5.shapes("obsp", &mut notes)?;
    found.varp = h5.shapes("varp", &mut notes)?;
    if let Some(Node::Group(uns)) = h5.member(&root, "uns")? {
        found.uns = h5.names(&uns)?;
    }
    let names = h5.modality_names()?;
    for name in &names {
        found.obsm.shift_remove(name);
        found.varm.shift_remove(name);
        h5.root = h5.modality(name)?;
        let modality = annotated(&h5, &path.join(name))?;
        found.modalities.insert(name.clone(), modality);
    }
    found.notes = notes;
    match h5.n_paired(&names) {
        Ok(n) => found.n_paired = n,
        Err(e) => found.notes.push(e.to_string()),
    }
    Ok(found)
}

fn version(h5: &H5) -> Result<String> {
    if h5.encoding(&h5.root).is_some() {
        return Ok("anndata 0.8 or newer".to_owned());
    }
    Ok(match h5.member(&h5.root, "obs")? {
        Some(Node::Group(_)) => "anndata 0.7",
        _ => "anndata before 0.7",
    }
    .to_owned())
}

impl H5 {
    /// A matrix of features x cells, which is read as cells x features.
    pub(super) fn turned_info(
        &self,
        parent: &Group,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Result<Option<MatrixInfo>> {
        let node = self.require(parent, name)?;
        let info = self.matrix_summary(&node, notes);
        Ok(info.map(|mut info| {
            info.shape = (info.shape.1, info.shape.0);
            info
        }))
    }

    fn table_summary(&self, name: &str, notes: &mut Vec<String>) -> Result<TableInfo> {
        let group = match self.require(&self.root, name)? {
            Node::Group(group) => group,
            Node::Dataset(records) => return Ok(table_info(&self.records_as_table(&records)?)),
        };
        let index_name = self.index_member(&group)?;
        let index = match self.require(&group, &index_name)? {
            Node::Dataset(d) => d,
            Node::Group(g) => self.dataset(&g, "values")?,
        };
        let n_rows = self.length_1d(&index)?;
        if n_rows <= MANY_NAMES && self.kind(&index, &index.name())? == Kind::Str {
            note_duplicates(notes, name, &self.strings(&index)?);
        }
        let mut columns = Vec::new();
        for column in self.column_order(&group, &index_name)? {
            if column == index_name {
                continue;
            }
            match self.column_summary(&group, &column) {
                Ok(info) => columns.push(info),
                Err(e) => notes.push(format!("{name}/{column} cannot be read: {e}")),
            }
        }
        Ok(TableInfo {
            n_rows,
            index: self.first(&index, EXAMPLES)?,
            columns,
        })
    }

    fn column_summary(&self, frame: &Group, name: &str) -> Result<ColumnInfo> {
        let mut info = ColumnInfo {
            name: name.to_owned(),
            kind: String::new(),
            n_categories: None,
            examples: Vec::new(),
        };
        match self.require(frame, name)? {
            Node::Dataset(d) if d.attr("categories").is_ok() => {
                // Old categories are few and lie elsewhere.
                if let Some(column) = self.column(frame, name, &Node::Dataset(d))? {
                    info = column_info(name, &column);
                }
            }
            Node::Dataset(d) => {
                info.kind = self.kind(&d, &d.name())?.name();
                info.examples = self.first(&d, EXAMPLES)?;
            }
            Node::Group(g) => {
                info.kind = self.encoding(&g).unwrap_or_else(|| "unknown".into());
                match self.member(&g, "categories")? {
                    Some(Node::Dataset(categories)) => {
                        info.n_categories = Some(self.length_1d(&categories)?);
                        info.examples = self.first(&categories, CATEGORIES)?;
                    }
                    _ if g.link_exists("values") => {
                        info.examples = self.first(&self.dataset(&g, "values")?, EXAMPLES)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(info)
    }

    /// The first values of a dataset, printed.
    fn first(&self, of: &Dataset, n: usize) -> Result<Vec<String>> {
        let at = of.name();
        let n = self.length_1d(of)?.min(n);
        Ok(match self.kind(of, &at)? {
            Kind::Str => self.first_strings(of, n)?,
            Kind::Bool => {
                let values = of.read_slice_1d::<u8, _>(0..n).map_err(self.at(&at))?;
                values.iter().map(|&b| (b != 0).to_string()).collect()
            }
            Kind::Int(..) => {
                let values = of.read_slice_1d::<i64, _>(0..n).map_err(self.at(&at))?;
                values.iter().map(i64::to_string).collect()
            }
            Kind::Float(_) => {
                let values = of.read_slice_1d::<f64, _>(0..n).map_err(self.at(&at))?;
                values.iter().map(f64::to_string).collect()
            }
            Kind::Compound(_) | Kind::Other(_) => Vec::new(),
        })
    }

    /// Storage, shape and type of a matrix; `None`, with a note, if that cannot be found out.
    fn matrix_summary(&self, node: &Node, notes: &mut Vec<String>) -> Option<MatrixInfo> {
        match self.matrix_info(node) {
            Ok(info) => {
                if info.storage == "csc" {
                    notes.push(format!(
                        "{} is stored by columns: it is converted when read, and cannot be read in parts",
                        location(node)
                    ));
                }
                Some(info)
            }
            Err(e) => {
                notes.push(e.to_string());
                None
            }
        }
    }

    fn matrix_info(&self, node: &Node) -> Result<MatrixInfo> {
        let (mut info, values) = match node {
            Node::Group(group) => {
                let Some(header) = self.sparse_header(group)? else {
                    return Err(self.wrong(&group.name(), "a group", "a matrix"));
                };
                let data = self.dataset(group, "data")?;
                let storage = if header.by_columns { "csc" } else { "csr" };
                let dtype = self.kind(&data, &data.name())?.name();
                let shape = (header.rows, header.cols);
                let stored = self.length_1d(&data)?;
                (MatrixInfo::new(storage, shape, dtype, stored), data)
            }
            Node::Dataset(d) => {
                let dtype = self.kind(d, &d.name())?.name();
                let shape = match self.shape(d)?[..] {
                    [n] => (n, 1),
                    [n, g] => (n, g),
                    ref other => {
                        let found = format!("{} dimensions", other.len());
                        return Err(self.wrong(&d.name(), found, "two dimensions"));
                    }
                };
                let stored = shape.0 * shape.1;
                (MatrixInfo::new("dense", shape, dtype, stored), d.clone())
            }
        };
        info.filters = values.filters().iter().map(|f| format!("{f:?}")).collect();
        Ok(info)
    }

    /// Notes what the first values of `X` say: counts are whole and not negative.
    fn note_values(&self, node: &Node, notes: &mut Vec<String>) {
        let sample = match node {
            Node::Group(group) => self.dataset(group, "data").and_then(|d| {
                let n = self.length_1d(&d)?.min(SAMPLE);
                d.read_slice_1d::<f64, _>(0..n).map_err(self.at(&d.name()))
            }),
            Node::Dataset(_) => return,
        };
        match sample {
            Ok(values) => {
                if values.iter().any(|v| !v.is_finite()) {
                    notes.push("X holds values that are not finite".into());
                }
                if values.iter().any(|&v| v < 0.0) {
                    notes.push("X holds negative values: these are not counts".into());
                } else if values.iter().any(|v| v.is_finite() && v.fract() != 0.0) {
                    notes.push(
                        "X holds fractions: these are normalised values rather than counts".into(),
                    );
                }
            }
            Err(e) => notes.push(format!("the values of X cannot be read: {e}")),
        }
    }

    /// The members of `obsm` and its like, with shape and type.
    fn shapes(&self, name: &str, notes: &mut Vec<String>) -> Result<IndexMap<String, String>> {
        let mut shapes = IndexMap::new();
        let group = match self.member(&self.root, name)? {
            Some(Node::Group(group)) => group,
            Some(Node::Dataset(records)) => {
                if let Kind::Compound(c) = self.kind(&records, &records.name())? {
                    shapes.extend(c.fields.into_iter().map(|f| (f.name, f.ty.to_string())));
                }
                return Ok(shapes);
            }
            None => return Ok(shapes),
        };
        for key in self.names(&group)? {
            let node = self.require(&group, &key)?;
            let encoding = match &node {
                Node::Group(g) => self.encoding(g),
                Node::Dataset(_) => None,
            };
            let words = match encoding.as_deref() {
                Some("dataframe") => "a table".to_owned(),
                _ => match self.matrix_info(&node) {
                    Ok(m) => format!("{} x {} {} {}", m.shape.0, m.shape.1, m.storage, m.dtype),
                    Err(e) => {
                        notes.push(e.to_string());
                        "not supported".to_owned()
                    }
                },
            };
            shapes.insert(key, words);
        }
        Ok(shapes)
    }
}

fn location(node: &Node) -> String {
    match node {
        Node::Group(g) => g.name(),
        Node::Dataset(d) => d.name(),
    }
}
