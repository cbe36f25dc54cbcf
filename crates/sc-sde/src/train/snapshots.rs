use candle_core::{DType, Device, Tensor};
use ndarray::ArrayView2;

use crate::{Error, Result};

/// Cells that were observed at several times: what a model of their movement is trained on.
///
/// Each cell was seen once, at one time. Times are in the units of the data (days, say); they need not be sorted.
///
/// ```
/// use ndarray::array;
/// use sc_sde::train::Snapshots;
///
/// let states = array![[0.1f32, 0.0], [1.2, 0.9], [0.0, 0.2], [1.0, 1.1]];
/// let cells = Snapshots::from_array(states.view(), &[2.0, 4.0, 2.0, 4.0])?;
/// assert_eq!(cells.times(), [2.0, 4.0]);
/// assert_eq!(cells.cells_at(0), [0, 2]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Snapshots {
    /// `[cells, D]`, in the order given.
    states: Tensor,
    /// Each time once, increasing.
    times: Vec<f64>,
    /// Which of the times each cell is of.
    time_of: Vec<usize>,
    /// The cells of each time.
    groups: Vec<Vec<usize>>,
    rates: Option<Vec<f64>>,
}

impl Snapshots {
    /// Cells with their states (`[cells, D]`) and the time of each.
    ///
    /// # Errors
    /// [`Error::Shape`] if they don't fit, [`Error::NotFinite`] if a coordinate isn't finite, [`Error::Times`] if a time isn't
    /// or there are fewer than two.
    pub fn new(states: &Tensor, times: &[f64]) -> Result<Self> {
        let Ok((n, d)) = states.dims2() else {
            return Err(Error::Shape {
                what: "the states of cells",
                found: states.dims().to_vec(),
                expected: "[cells, dimensions]".into(),
            });
        };
        if n == 0 || d == 0 {
            return Err(Error::Empty {
                what: "the table of states",
                found: vec![n, d],
            });
        }
        if times.len() != n {
            return Err(Error::Shape {
                what: "the times of cells",
                found: vec![times.len()],
                expected: format!("[{n}], one for each cell"),
            });
        }
        check_finite(states)?;
        if let Some((cell, t)) = times.iter().enumerate().find(|(_, t)| !t.is_finite()) {
            return refuse(format!(
                "cell {cell} has the time {t}; leave out the cells whose time isn't known"
            ));
        }
        let mut distinct = times.to_vec();
        distinct.sort_by(f64::total_cmp);
        // -0 and 0 are the same time, and next to each other.
        distinct.dedup_by(|a, b| a == b);
        if let [only] = distinct.as_slice() {
            return refuse(format!(
                "all {n} cells are of time {only}; movement is learned from at least two times (for one snapshot with a pseudotime see `bin_pseudotime`)"
            ));
        }
        let time_of: Vec<usize> = times
            .iter()
            .map(|t| distinct.partition_point(|d| d < t))
            .collect();
        let mut groups = vec![Vec::new(); distinct.len()];
        for (cell, &k) in time_of.iter().enumerate() {
            if let Some(group) = groups.get_mut(k) {
                group.push(cell);
            }
        }
        Ok(Self {
            states: states.detach().contiguous()?,
            times: distinct,
            time_of,
            groups,
            rates: None,
        })
    }

    /// The same from an array, cells x dimensions.
    ///
    /// # Errors
    /// As [`Snapshots::new`].
    pub fn from_array(states: ArrayView2<'_, f32>, times: &[f64]) -> Result<Self> {
        let numbers: Vec<f32> = states.iter().copied().collect();
        let states = Tensor::from_vec(numbers, states.dim(), &Device::Cpu)?;
        Self::new(&states, times)
    }

    /// From one cloud of cells (`[cells, D]`) for each time.
    ///
    /// # Errors
    /// As [`Snapshots::new`], and [`Error::Times`] if a cloud is empty.
    pub fn from_clouds(clouds: &[(f64, Tensor)]) -> Result<Self> {
        let (mut times, mut states) = (Vec::new(), Vec::new());
        for (t, cloud) in clouds {
            let n = match cloud.dims() {
                [n, _] => *n,
                _ => 0,
            };
            if n == 0 {
                return refuse(format!(
                    "no cell was given for time {t} (shape {:?}); leave the time out, or give it cells",
                    cloud.dims()
                ));
            }
            times.extend(std::iter::repeat_n(*t, n));
            states.push(cloud);
        }
        if states.is_empty() {
            return Err(Error::Empty {
                what: "the list of clouds",
                found: vec![0],
            });
        }
        Self::new(&Tensor::cat(&states, 0)?, &times)
    }

    /// With a rate of growth for each cell, per unit of time: a cell and its offspring weigh `exp(rate * elapsed)`. Only those
    /// of cells of the first time matter to models that are trained by simulation.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one for each cell, [`Error::NotFinite`] if one isn't finite.
    pub fn with_growth_rates(mut self, rates: &[f64]) -> Result<Self> {
        if rates.len() != self.n_cells() {
            return Err(Error::Shape {
                what: "the growth rates",
                found: vec![rates.len()],
                expected: format!("[{}], one for each cell", self.n_cells()),
            });
        }
        if let Some((row, &value)) = rates.iter().enumerate().find(|(_, r)| !r.is_finite()) {
            return Err(Error::NotFinite {
                what: "the growth rates",
                row,
                column: 0,
                value,
            });
        }
        self.rates = Some(rates.to_vec());
        Ok(self)
    }

    /// How many cells there are.
    pub fn n_cells(&self) -> usize {
        self.time_of.len()
    }

    /// The dimensions of a state.
    pub fn dim(&self) -> usize {
        self.states.dims().last().copied().unwrap_or_default()
    }

    /// Each time once, increasing.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// The cells of a time, by its place among [`Snapshots::times`]; none if there is no such time.
    pub fn cells_at(&self, time: usize) -> &[usize] {
        self.groups.get(time).map_or(&[], Vec::as_slice)
    }

    /// The growth rates, if there are any.
    pub fn growth_rates(&self) -> Option<&[f64]> {
        self.rates.as_deref()
    }

    /// All states, `[cells, D]`, in the order given.
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// The states of some cells, `[cells, D]`.
    ///
    /// # Errors
    /// If there is no such cell.
    pub fn rows(&self, cells: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let index: Vec<u32> = cells
            .iter()
            .map(|&c| u32::try_from(c).unwrap_or(u32::MAX))
            .collect();
        let index = Tensor::new(index, self.states.device())?;
        let rows = self.states.index_select(&index, 0)?;
        Ok(rows.to_dtype(dtype)?.to_device(device)?)
    }

    /// Some cells by their times, in the order given.
    pub(crate) fn by_time(&self, cells: &[usize]) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.times.len()];
        for &cell in cells {
            let group = self.time_of.get(cell).and_then(|&k| groups.get_mut(k));
            if let Some(group) = group {
                group.push(cell);
            }
        }
        groups
    }

    /// The growth rates of some cells, if there are any.
    pub(crate) fn rates_of(&self, cells: &[usize]) -> Option<Vec<f64>> {
        let rates = self.rates.as_ref()?;
        let rate = |&c: &usize| rates.get(c).copied().unwrap_or_default();
        Some(cells.iter().map(rate).collect())
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Times { reason })
}

/// [`Error::NotFinite`] with the first place where a number isn't finite.
fn check_finite(states: &Tensor) -> Result<()> {
    // 0 times a finite number is 0, anything else NaN. The rows are looked at only if the sum isn't 0.
    let nothing = (states.detach() * 0.0)?.sum_all()?.to_dtype(DType::F64)?;
    if nothing.to_scalar::<f64>()? == 0.0 {
        return Ok(());
    }
    let all = states.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for (row, values) in all.iter().enumerate() {
        if let Some((column, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: "the states of cells",
                row,
                column,
                value,
            });
        }
    }
    Ok(())
}
