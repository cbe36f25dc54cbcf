use std::io::Write;
use std::path::PathBuf;

use ndarray::array;
use sc_data::{AnnData, Csr, Table};

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn names(table: &Table) -> Vec<&str> {
    table.index().iter().map(String::as_str).collect()
}

fn dense(data: &AnnData) -> ndarray::Array2<f32> {
    data.matrix(None).unwrap().to_dense()
}

#[test]
fn names_are_found_where_they_are() {
    let place = Place::new();
    let expected = array![[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]];
    for (file, text) in [
        ("a.csv", ",c1,c2\nr1,1.0,0.0\nr2,3,0\nr3,5,6\n"),
        ("r.tsv", "c1\tc2\nr1\t1\t0\nr2\t3\t0\nr3\t5\t6"),
        (
            "comments.tsv",
            "# A table\n# of names:\n# c1 c2\nr1\t1\t0\n\nr2\t3\t0\n# in between\nr3\t5\t6\n",
        ),
        (
            "quoted.csv",
            "\u{feff}\"cell\",\"c1\",\"c2\"\r\n\"r1\",1,0\r\n\"r2\",3,0\r\n\"r3\",5,6\r\n",
        ),
        ("semicolons.txt", "id;c1;c2\nr1;1;0\nr2; 3;0\nr3;5;6\n"),
        ("spaces.txt", "c1 c2\nr1 1 0\nr2 3 0\nr3 5 6\n"),
    ] {
        let data = read(place.file(file, text)).unwrap();
        assert_eq!(dense(&data), expected, "{file}");
        assert_eq!(names(&data.obs), ["r1", "r2", "r3"], "{file}");
        assert_eq!(names(&data.var), ["c1", "c2"], "{file}");
    }
    // As pandas writes rows without names.
    let data = read(place.file("p.csv", ",c1,c2\n0,1,0\n1,3,0\n2,5,6\n")).unwrap();
    assert_eq!(
        (dense(&data), names(&data.obs)),
        (expected.clone(), vec!["0", "1", "2"])
    );
    let data = read(place.file("bare.csv", "1,0\n3,0\n5,6\n")).unwrap();
    assert_eq!(
        (dense(&data), names(&data.var)),
        (expected.clone(), vec!["0", "1"])
    );
    let turned = ReadOptions::default().genes_in_rows();
    let data = read_with(place.file("t.csv", ",a,b,c\ng1,1,3,5\ng2,0,0,6\n"), &turned).unwrap();
    assert_eq!(
        (dense(&data), names(&data.obs)),
        (expected, vec!["a", "b", "c"])
    );
    assert_eq!(names(&data.var), ["g1", "g2"]);
}

#[test]
fn counts_of_umi_tools_are_added_up() {
    let place = Place::new();
    let text = "gene\tcell\tcount\nB\ty\t2\nA\ty\t1\nB\tx\t4\nB\ty\t3\n";
    let path = place.0.path().join("umi.tsv.gz");
    let file = std::fs::File::create(&path).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
    let data = read(&path).unwrap();
    assert_eq!(dense(&data), array![[0.0, 4.0], [1.0, 5.0]]);
    assert_eq!(
        (names(&data.obs), names(&data.var)),
        (vec!["x", "y"], vec!["A", "B"])
    );
}

#[test]
fn what_is_missing_is_not_zero() {
    let data = read(Place::new().file("x.csv", ",a,b\nr,NA,\ns,0,1e-3\n")).unwrap();
    assert!(dense(&data).row(0).iter().all(|v| v.is_nan()));
    assert_eq!(dense(&data).row(1).to_vec(), [0.0, 1e-3]);
}

#[test]
fn errors_name_the_line() {
    let place = Place::new();
    for (name, text, line, found) in [
        ("short.csv", "#c\n,a,b\nr,1,2\ns,1\n", "line 4", "2 fields"),
        (
            "word.csv",
            ",a,b\nr,1,2\ns,1,many\n",
            "line 3",
            "\"many\" in field 3",
        ),
        ("header.csv", ",a,b,c\nr,1,2\n", "line 2", "3 fields"),
        ("empty.csv", "", "the file", "no row"),
        ("names.csv", "a,b\n", "the file", "no row"),
        (
            "umi.tsv",
            "gene\tcell\tcount\nA\tx\tno\n",
            "line 2",
            "A x no",
        ),
    ] {
        let error = read(place.file(name, text)).unwrap_err().to_string();
        assert!(error.contains(line) && error.contains(found), "{error}");
    }
    assert!(read("no/such.csv").is_err());
}

#[test]
fn what_is_written_is_read() {
    let x = Csr::from_dense(&array![[0.0, 1.5, -2.0], [3.0e9, 0.0, 0.1]]);
    let obs = Table::new(vec!["a,1".into(), "7".into()]);
    let var = Table::new(vec!["g".into(), "2".into(), "\"q\"".into()]);
    let data = AnnData::new(x, obs, var).unwrap();
    let place = Place::new();
    for name in ["t.csv", "t.tsv", "t.csv.gz"] {
        let path = place.0.path().join(name);
        write(&path, &data).unwrap();
        assert_eq!(read(&path).unwrap(), data, "{name}");
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let place = Place::new();
            let path = place.0.path().join("x.txt");
            std::fs::write(&path, bytes).unwrap();
            let _ = read(&path);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\"#,;\t \n\r0-9a-cNA.-]{0,200}") {
            let _ = read(Place::new().file("x.csv", &text));
        }
    }
}
