//! scvi-tools' registry: which columns of the data mean what, and which categories have which codes.

mod read;
mod write;

pub(super) use read::{name, read, read_legacy, strings};
pub(super) use write::{Class, SCANVI, unlabeled, write};

#[cfg(test)]
mod tests {
    use sc_io::pytorch::Value;

    use super::*;
    use crate::{Registry, ScviConfig, Setup};

    fn labelled(labels: &[&str], unlabeled: &str, integer_keys: &[&str]) -> Registry {
        let owned = |v: &[&str]| v.iter().map(|&s| s.to_owned()).collect();
        let mut r = Registry::plain(2);
        r.setup = Setup {
            labels_key: Some("cluster".into()),
            unlabeled_category: Some(unlabeled.into()),
            ..Setup::default()
        };
        r.labels = owned(labels);
        r.integer_keys = owned(integer_keys);
        r
    }

    fn written(r: &Registry) -> Value {
        let class = Class {
            name: SCANVI,
            version: "1.4.2",
        };
        write(r, &ScviConfig::default(), &class, 10)
    }

    #[test]
    fn labels_that_are_numbers_stay_numbers() {
        let r = labelled(&["3", "1", "2", "0"], "0", &["cluster"]);
        let value = written(&r);
        let unlabeled = value.at(&["setup_args", "unlabeled_category"]).unwrap();
        assert_eq!(unlabeled.as_i64(), Some(0));
        let state = ["field_registries", "labels", "state_registry"];
        let state = value.at(&state).unwrap();
        let unlabeled = state.get("unlabeled_category").unwrap();
        assert_eq!(unlabeled.as_i64(), Some(0));
        assert_eq!(read(&value, r.genes.clone()).unwrap(), r);
    }

    #[test]
    fn labels_that_look_like_numbers_stay_text() {
        for (labels, unlabeled, integers) in [
            (["1", "2", "0"], "0", [].as_slice()),
            (["1", "2", "Unknown"], "Unknown", &[]),
        ] {
            let r = labelled(&labels, unlabeled, integers);
            let value = written(&r);
            let found = value.at(&["setup_args", "unlabeled_category"]).unwrap();
            assert_eq!(found.as_str(), Some(unlabeled));
            assert_eq!(read(&value, r.genes.clone()).unwrap(), r);
        }
    }
}
