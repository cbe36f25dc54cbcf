#![allow(clippy::print_stdout)]
fn main() {
    let d = sc_io::read(std::env::args().nth(1).unwrap()).unwrap();
    println!("{} x {}", d.n_obs(), d.n_vars());
    for (k, c) in d.obs.columns() {
        match c.to_categorical(k) {
            Ok(c) if c.categories().len() < 40 => {
                let n: Vec<_> = c.categories().iter().zip(c.counts()).collect();
                println!("{k}: {n:?} missing {}", c.codes().iter().filter(|c| c.is_none()).count());
            }
            _ => println!("{k}: {}", c.type_name()),
        }
    }
    for (k, c) in d.var.columns() { println!("var {k}: {}", c.type_name()); }
    let x = d.x.as_ref().unwrap().to_csr();
    let s = x.row_sums();
    println!("stored {} min {:?} mean {}", x.n_stored(), s.iter().copied().fold(1e9, f64::min), s.iter().sum::<f64>() / s.len() as f64);
    println!("{:?}", &d.var.index()[..5]);
}
