//! The network simplex algorithm for transport between rows and columns.

use ndarray::ArrayView2;

use super::plan::Plan;

/// No node.
const NONE: usize = usize::MAX;
/// Reduced costs above this, times the largest cost, count as 0.
const TOLERANCE: f64 = 1e-12;

/// A spanning tree of rows, columns and a root, along which all mass goes (Dantzig 1951; Ahuja, Magnanti and Orlin, "Network
/// Flows", 1993, chapter 11).
///
/// Nodes are the rows, then the columns, then the root. The root stands for a detour that costs as much as the dearest pair
/// on the way in and on the way out: at first everything goes through it, at last nothing. Mass flows from rows to columns,
/// so that the edge of a row leads to its parent, and the edge of a column from its parent. Potentials are such that
/// `u_i + v_j = cost_ij` on edges of the tree.
///
/// The tree is kept strongly feasible: edges without flow lead to the root. Cunningham's rule for the edge that leaves
/// does so ("A network simplex method", Mathematical Programming 11, 1976), and with it no tree comes back.
pub(super) struct Simplex<'a> {
    cost: ArrayView2<'a, f64>,
    detour: f64,
    n_rows: usize,
    root: usize,
    parent: Vec<usize>,
    depth: Vec<usize>,
    /// The mass on the edge to the parent.
    flow: Vec<f64>,
    /// `u` of rows, then `v` of columns; 0 at the root.
    dual: Vec<f64>,
    first_child: Vec<usize>,
    /// The other children of the parent.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Nodes of a subtree that are to be visited.
    stack: Vec<usize>,
    /// The row where the search for an edge goes on.
    at: usize,
}

impl<'a> Simplex<'a> {
    /// All masses are positive, their sums are the same, all costs are finite.
    pub(super) fn new(cost: ArrayView2<'a, f64>, rows: &[f64], columns: &[f64]) -> Self {
        let largest = cost.iter().fold(0.0f64, |most, c| most.max(c.abs()));
        let detour = if largest > 0.0 { largest } else { 1.0 };
        let root = rows.len() + columns.len();
        let mut simplex = Self {
            cost,
            detour,
            n_rows: rows.len(),
            root,
            parent: vec![NONE; root + 1],
            depth: vec![0; root + 1],
            flow: rows.iter().chain(columns).chain(&[0.0]).copied().collect(),
            dual: vec![0.0; root + 1],
            first_child: vec![NONE; root + 1],
            next: vec![NONE; root + 1],
            previous: vec![NONE; root + 1],
            stack: Vec::new(),
            at: 0,
        };
        for node in 0..root {
            simplex.attach(node, root);
            simplex.depth[node] = 1;
            simplex.dual[node] = detour;
        }
        simplex
    }

    /// Exchanges edges until no other edge makes the plan cheaper.
    pub(super) fn run(mut self) -> Self {
        while let Some((row, column)) = self.cheapest() {
            self.pivot(row, column);
        }
        self
    }

    pub(super) fn plan(self) -> Plan {
        let mut entries = Vec::with_capacity(self.root);
        for node in 0..self.root {
            if self.parent[node] != self.root && self.flow[node] > 0.0 {
                let (row, column) = self.pair(node);
                entries.push((row, column, self.flow[node]));
            }
        }
        entries.sort_unstable_by_key(|e| (e.0, e.1));
        let cost = entries
            .iter()
            .map(|&(i, j, mass)| mass * self.cost[(i, j)])
            .sum();
        let (u, v) = self.dual[..self.root].split_at(self.n_rows);
        Plan {
            entries,
            cost,
            potentials: (u.to_vec(), v.to_vec()),
        }
    }

    /// An edge outside of the tree that makes the plan cheaper: the best of some rows, about `sqrt(edges)` edges at a time,
    /// beginning where the last search ended.
    fn cheapest(&mut self) -> Option<(usize, usize)> {
        let (n, m) = self.cost.dim();
        let together = (n / m).isqrt().max(1);
        let (u, v) = self.dual[..self.root].split_at(n);
        let mut best = None;
        let mut least = -TOLERANCE * self.detour;
        for tried in 1..=n {
            let row = self.at;
            self.at = (row + 1) % n;
            if let Some(costs) = self.cost.row(row).as_slice() {
                let value = least_reduced(costs, v) - u[row];
                if value < least {
                    least = value;
                    best = Some(row);
                }
            }
            if best.is_some() && tried % together == 0 {
                break;
            }
        }
        let row = best?;
        let costs = self.cost.row(row);
        let reduced = costs.iter().zip(v).map(|(c, v)| c - v);
        let column = reduced
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(column, _)| column)?;
        Some((row, column))
    }

    /// Sends as much as possible around the cycle that the edge closes. An edge that this empties leaves the tree.
    fn pivot(&mut self, row: usize, column: usize) {
        let column = self.n_rows + column;
        let apex = self.apex(row, column);
        // The cycle runs from the apex down to the row, over the edge, and from the column up to the apex. Of several edges
        // that are emptied the last one leaves.
        let (mut leaving, mut amount) = (NONE, f64::INFINITY);
        let mut node = row;
        while node != apex {
            if node < self.n_rows && self.flow[node] < amount {
                (leaving, amount) = (node, self.flow[node]);
            }
            node = self.parent[node];
        }
        let mut below_row = true;
        node = column;
        while node != apex {
            if node >= self.n_rows && self.flow[node] <= amount {
                (leaving, amount) = (node, self.flow[node]);
                below_row = false;
            }
            node = self.parent[node];
        }
        if amount > 0.0 {
            self.send(row, apex, amount, true);
            self.send(column, apex, amount, false);
        }
        let (inner, outer) = if below_row {
            (row, column)
        } else {
            (column, row)
        };
        self.exchange(inner, outer, leaving, amount);
    }

    /// Where the ways to the root meet.
    fn apex(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            if self.depth[a] >= self.depth[b] {
                a = self.parent[a];
            } else {
                b = self.parent[b];
            }
        }
        a
    }

    /// Changes the flow from `node` up to `apex`, of the rows' edges down and of the columns' edges up, or the other way round.
    fn send(&mut self, mut node: usize, apex: usize, amount: f64, rows_fall: bool) {
        while node != apex {
            if (node < self.n_rows) == rows_fall {
                self.flow[node] -= amount;
            } else {
                self.flow[node] += amount;
            }
            node = self.parent[node];
        }
    }

    /// Takes the edge above `leaving` away and hangs its subtree by `inner` under `outer`, on an edge with that much flow.
    fn exchange(&mut self, inner: usize, outer: usize, leaving: usize, amount: f64) {
        let (mut node, mut above, mut carried) = (inner, outer, amount);
        loop {
            let former = self.parent[node];
            let flow = self.flow[node];
            self.detach(node);
            self.attach(node, above);
            self.flow[node] = carried;
            if node == leaving {
                break;
            }
            (above, node, carried) = (node, former, flow);
        }
        self.stack.push(inner);
        while let Some(node) = self.stack.pop() {
            let parent = self.parent[node];
            self.depth[node] = self.depth[parent] + 1;
            let cost = self.edge_cost(node);
            // Potentials come from their edges each time, so that rounding does not add up.
            self.dual[node] = cost - self.dual[parent];
            let mut child = self.first_child[node];
            while child != NONE {
                self.stack.push(child);
                child = self.next[child];
            }
        }
    }

    fn attach(&mut self, node: usize, parent: usize) {
        let sibling = self.first_child[parent];
        self.parent[node] = parent;
        self.next[node] = sibling;
        self.previous[node] = NONE;
        if sibling != NONE {
            self.previous[sibling] = node;
        }
        self.first_child[parent] = node;
    }

    fn detach(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        if next != NONE {
            self.previous[next] = previous;
        }
        if previous != NONE {
            self.next[previous] = next;
        } else {
            self.first_child[self.parent[node]] = next;
        }
    }

    /// Row and column of the edge to the parent, which isn't the root.
    fn pair(&self, node: usize) -> (usize, usize) {
        let parent = self.parent[node];
        (node.min(parent), node.max(parent) - self.n_rows)
    }

    fn edge_cost(&self, node: usize) -> f64 {
        if self.parent[node] == self.root {
            self.detour
        } else {
            self.cost[self.pair(node)]
        }
    }
}

/// The least of `cost - v`, eight at a time.
fn least_reduced(cost: &[f64], v: &[f64]) -> f64 {
    const LANES: usize = 8;
    let lower = |a: f64, b: f64| if b < a { b } else { a };
    let mut least = [f64::INFINITY; LANES];
    let (costs, rest) = cost.as_chunks::<LANES>();
    let (vs, rest_v) = v.as_chunks::<LANES>();
    for (cost, v) in costs.iter().zip(vs) {
        for k in 0..LANES {
            least[k] = lower(least[k], cost[k] - v[k]);
        }
    }
    let rest = rest.iter().zip(rest_v).map(|(c, v)| c - v);
    least.into_iter().chain(rest).fold(f64::INFINITY, lower)
}
