use ndarray::array;
use sc_data::Categorical;
use sc_model::Parity;

use super::super::genes::tests::space;
use super::*;
use crate::solve::zoo::DoubleWell;

/// Cells in eight components, of which the first is what matters: two wells.
fn with_experiment(copies: usize, test: impl FnOnce(&Experiment<'_>, &Array2<f32>, &GeneSpace)) {
    let (x, space) = space();
    let sde = DoubleWell::new(0.6, 0.5);
    let simulation = Simulation::new(&sde, &[0.0, 2.0], 0.005).unwrap();
    let mut corners = Array2::zeros((2, 8));
    corners.column_mut(0).assign(&array![-1.0f32, 1.0]);
    let wells = Categorical::from_labels(&["left", "right"]);
    let states = StateLabels::new(corners.view(), &wells).unwrap().k(1);
    let simulation = simulation.copies(copies).seed(1);
    let experiment = Experiment::new(simulation, &states, &space).unwrap();
    test(&experiment, &x, &space);
}

#[test]
fn setting_a_gene_is_projecting_changed_expression() {
    with_experiment(1, |experiment, x, space| {
        let rows = [3, 7, 20];
        let controls = experiment.controls(x, &rows).unwrap();
        let p = Perturbation::set(space, &["Gene2", "Gene5"], 3.0).unwrap();
        let found = experiment.perturbed(x, &rows, &controls, &[p]).unwrap();
        let mut changed = x.clone();
        let z3 = |g: usize| {
            // The expression of z-score 3, from two points of the line.
            let (a, b) = (space.z_score(g, 0.0), space.z_score(g, 1.0));
            ((3.0 - a) / (b - a)) as f32
        };
        changed.column_mut(2).fill(z3(2));
        changed.column_mut(5).fill(z3(5));
        let expected = space.project(&changed, &rows).unwrap();
        let apart = (&found - &expected).mapv(f32::abs);
        assert!(apart.iter().all(|d| *d < 1e-4), "{apart}");
    });
}

#[test]
fn effects_are_monotone_in_the_dose_and_vanish_without_one() {
    with_experiment(10, |experiment, x, space| {
        let rows: Vec<usize> = (0..60).collect();
        let first = space.components().row(0).to_owned();
        let strongest = (0..8).max_by(|a, b| first[*a].abs().total_cmp(&first[*b].abs()));
        let gene = strongest.unwrap();
        let name = space.genes()[gene].clone();
        let doses = [-6.0, -2.0, 2.0, 6.0];
        let all = Perturbation::doses(space, &[&name], &doses).unwrap();
        let mut seen = Vec::new();
        let effects = experiment.run(x, &rows, &all, |n, of| seen.push((n, of)));
        let effects = effects.unwrap();
        assert_eq!(seen, [(4, 4)]);
        let right: Vec<f64> = effects.on("right").map(|e| e.difference).collect();
        let up = f64::from(first[gene].signum());
        assert!(
            right.windows(2).all(|w| up * (w[1] - w[0]) > 0.0),
            "{right:?}"
        );
        for e in effects.all() {
            assert!(e.difference_low <= e.difference && e.difference <= e.difference_high);
            assert!(e.log2_fold_change_low <= e.log2_fold_change_high);
            assert!(e.q >= e.p);
        }
        let both: Vec<_> = effects.by_perturbation()[3].iter().collect();
        assert!((both[0].difference + both[1].difference).abs() < 1e-12);
        assert!(both[1].p < 1e-6 && both[1].q < 1e-5, "{:?}", both[1]);
        assert_eq!(effects.control().counts().sum(), 600);
    });
}

/// The same perturbation gives the same numbers alone and within a screen.
#[test]
fn a_screen_is_its_perturbations() {
    with_experiment(3, |experiment, x, space| {
        let rows: Vec<usize> = (0..40).collect();
        let screen = Perturbation::each_gene(space, 4.0).unwrap();
        let all = experiment.run(x, &rows, &screen, |_, _| {}).unwrap();
        let one = Perturbation::set(space, &["Gene4"], 4.0).unwrap();
        let alone = experiment.run(x, &rows, &[one], |_, _| {}).unwrap();
        let in_screen = &all.by_perturbation()[4];
        for (a, b) in alone.all().zip(in_screen) {
            assert_eq!((a.perturbed, a.p), (b.perturbed, b.p));
            assert!(b.q >= a.q);
        }
    });
}

/// A gene that hardly moves cells on the ridge between the wells: with shared random numbers nearly nothing is seen, with others
/// the noise.
#[test]
fn pairs_vary_less() {
    let (sde, names) = (DoubleWell::new(0.6, 0.5), ["A", "B"].map(str::to_owned));
    let simulation = Simulation::new(&sde, &[0.0, 2.0], 0.05).unwrap().copies(2);
    let scaling = (vec![0.0; 2], vec![1.0; 2]);
    let components = array![[1.0f32, 0.01], [0.0, 1.0]];
    let space = GeneSpace::new(names.to_vec(), scaling, vec![0.0; 2], components).unwrap();
    let x = Array2::from_shape_fn((60, 2), |(i, j)| ((i * 3 + j) as f32).sin() * 0.1);
    let corners = array![[-1.0f32, 0.0], [1.0, 0.0]];
    let wells = Categorical::from_labels(&["left", "right"]);
    let states = StateLabels::new(corners.view(), &wells).unwrap().k(1);
    let experiment = Experiment::new(simulation, &states, &space).unwrap();
    let rows: Vec<usize> = (0..60).collect();
    let p = [Perturbation::set(&space, &["B"], 1.0).unwrap()];
    let width = |shared: bool| {
        let experiment = experiment.clone().shared_noise(shared);
        let found = experiment.run(&x, &rows, &p, |_, _| {}).unwrap();
        let e = found.on("right").next().unwrap().clone();
        e.difference_high - e.difference_low
    };
    let (paired, apart) = (width(true), width(false));
    assert!(paired < 0.5 * apart, "{paired} {apart}");
}

#[test]
fn replicates_of_both_kinds() {
    with_experiment(1, |experiment, x, space| {
        let rows: Vec<usize> = (0..60).collect();
        let p = Perturbation::set(space, &["Gene1"], 0.5).unwrap();
        let stored = experiment.controls(x, &rows).unwrap();
        let run = |parity, stored| experiment.replicates(x, &rows, &p, (30, 4), stored, parity);
        let paired = run(Parity::Correct, None).unwrap();
        let upstream = run(Parity::Upstream, Some(stored.view())).unwrap();
        assert_eq!(paired.control().dim(), (4, 2));
        assert_eq!(paired.perturbed(), upstream.perturbed());
        assert_ne!(paired.control(), upstream.control());
        assert_eq!(upstream.effects().len(), 2);
        assert!(run(Parity::Upstream, None).is_err());
        assert!(
            experiment
                .replicates(x, &rows, &p, (61, 4), None, Parity::Correct)
                .is_err()
        );
    });
}

#[test]
fn bad_input_is_refused() {
    with_experiment(1, |experiment, x, space| {
        assert!(Perturbation::set::<&str>(space, &[], 1.0).is_err());
        assert!(Perturbation::set(space, &["Gene1"], f64::NAN).is_err());
        let e = Perturbation::set(space, &["Gene11"], 1.0).unwrap_err();
        assert!(e.to_string().contains("Gene1"), "{e}");
        let p = [Perturbation::set(space, &["Gene1"], 1.0).unwrap()];
        assert!(experiment.run(x, &[1], &p, |_, _| {}).is_err());
        let e = experiment.run(x, &[4, 1, 4], &p, |_, _| {}).unwrap_err();
        assert!(e.to_string().contains("row 4 twice"), "{e}");
        assert!(experiment.run(x, &[1, 600], &p, |_, _| {}).is_err());
        assert!(
            experiment
                .clone()
                .level(2.0)
                .run(x, &[1, 2], &p, |_, _| {})
                .is_err()
        );
    });
}
